"""Step 2: training embeddings → released embeddings.

To add a method: a class in `methods.py` and a module with its code beside it. Scripts, sweeps,
the audit and bundles know it from there.
"""
