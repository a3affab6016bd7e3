"""Anonymous embeddings: embed a dataset, anonymize it, probe it."""

__version__ = "0.1.0"
