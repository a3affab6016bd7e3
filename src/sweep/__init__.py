"""Sweeps: one YAML file → every run it describes → tables and figures.

`config` reads the file, `steps` says what is missing and does it, `workers` spreads the steps.
"""
