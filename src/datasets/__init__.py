"""Data sets: name → the three splits."""
