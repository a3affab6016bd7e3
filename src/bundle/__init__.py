"""Bundles: a folder with what is given to a partner, and nothing else."""
