"""Modules and their objectives, nothing else."""
