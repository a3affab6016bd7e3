"""Anonymized embedding data sets: extract, anonymize, probe.

Importing this package is cheap: heavy libraries are imported by the modules that use them.
"""

__version__ = "0.1.0"
