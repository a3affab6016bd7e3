"""What a file was made from: fingerprints of content and versions of libraries."""

from __future__ import annotations

import hashlib
import json
import platform
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import numpy as np

from src import __version__

LIBRARIES = ("numpy", "scikit-learn", "timm", "torch", "torchvision")


def fingerprint_arrays(*arrays: np.ndarray) -> str:
    """The first 16 hex digits of the arrays' digest."""
    return digest_arrays(*arrays)[:16]


def digest_arrays(*arrays: np.ndarray) -> str:
    """SHA-256 (64 hex digits) of the arrays' dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def fingerprint(content: Any) -> str:
    """SHA-256 (first 16 hex digits) of anything JSON can hold, whatever the order of its keys."""
    text = json.dumps(content, sort_keys=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def versions() -> dict[str, str]:
    """Versions of Python, this project and the libraries whose change can change a result."""
    found = {"python": platform.python_version(), "project": __version__}
    for library in LIBRARIES:
        try:
            found[library] = version(library)
        except PackageNotFoundError:
            continue
    return found
