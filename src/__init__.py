"""Anonymized embedding data sets: extract, anonymize, probe.

Importing this package is cheap: heavy libraries are imported by the modules that use them.
"""

import os

__version__ = "0.1.0"

# How long OpenMP's idle threads keep a core busy before they sleep, read when torch is loaded.
# libgomp's default is milliseconds: two processes of small steps on two cores then take eight
# times as long as with this value, which costs nothing where a process has the cores to itself.
os.environ.setdefault("GOMP_SPINCOUNT", "2000")
