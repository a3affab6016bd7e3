"""Bundles: a folder with what one gives to a partner, and nothing else."""
