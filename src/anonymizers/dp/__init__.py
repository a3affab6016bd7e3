"""Differentially private releases, and the accounting behind their guarantee."""
