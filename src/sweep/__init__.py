"""Sweeps: one YAML file → every run that it describes → tables and figures.

`report.grid` reads the file, `steps` knows what is missing, `workers` spread the steps.
"""
