"""DICOM files, through pydicom: rescaled, windowed, white where the photometric kind says so."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from src.core.errors import DataError, MissingPackageError
from src.embedding.datasets.grey import Grey, Look, Window

if TYPE_CHECKING:
    from pydicom import Dataset

REQUIREMENTS = "requirements-dicom.txt"
_GREY = ("MONOCHROME1", "MONOCHROME2")  # white is the lowest value, the highest value


def look(path: Path) -> Look:
    """What the header says.

    Raises:
        MissingPackageError: pydicom is not installed.
        DataError: it holds no image.
    """
    data = _opened(path, pixels=False)
    if "Rows" not in data:
        raise DataError(f"{path} is DICOM without an image")
    windowed = _window(data) is not None
    deep = data.PhotometricInterpretation in _GREY and (windowed or not _has_8_bits(data))
    return Look(int(data.get("NumberOfFrames") or 1), deep, windowed)


def patient(path: Path) -> str:
    """The PatientID, "" where there is none.

    Raises:
        MissingPackageError: pydicom is not installed.
    """
    return str(_opened(path, pixels=False).get("PatientID") or "")


def decoded(path: Path) -> Image.Image | Grey:
    """The image: grey in rescaled values with the window that the file names, or colour.

    A table in the place of a window (VOI LUT sequence) and a curved window are not used.

    Raises:
        MissingPackageError: pydicom is not installed.
        ValueError, ...: its pixels cannot be decoded, or are of an unknown kind.
    """
    data = _opened(path, pixels=True)
    from pydicom.pixels.processing import apply_color_lut, apply_modality_lut
    from pydicom.pixels.utils import pixel_array

    kind, pixels = data.PhotometricInterpretation, pixel_array(data)
    if kind == "PALETTE COLOR":
        pixels = apply_color_lut(pixels, data)
        pixels = pixels if pixels.dtype == np.uint8 else (pixels >> 8).astype(np.uint8)
    inverted = kind == "MONOCHROME1"
    if kind in _GREY and _has_8_bits(data) and _window(data) is None:
        return Image.fromarray(255 - pixels if inverted else pixels)
    if kind in _GREY:
        values = np.asarray(apply_modality_lut(pixels, data), np.float32)
        return Grey(values, 2**data.BitsStored - 1, inverted, _window(data))
    if pixels.dtype != np.uint8 or pixels.shape[2:] != (3,):
        raise ValueError(f"'{kind}' of type {pixels.dtype} is not colour of 8 bits")
    return Image.fromarray(pixels)


def _opened(path: Path, *, pixels: bool) -> Dataset:
    try:
        import pydicom
    except ImportError as error:
        raise MissingPackageError(
            f"reading {path} needs pydicom: pip install -r {REQUIREMENTS}"
        ) from error
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # on spellings of dates, names and the like
        return pydicom.dcmread(path, stop_before_pixels=not pixels)


def _has_8_bits(data: Dataset) -> bool:
    """Whether the stored values are 0..255 as they are."""
    rescaled = "ModalityLUTSequence" in data or (
        float(data.get("RescaleSlope", 1)),
        float(data.get("RescaleIntercept", 0)),
    ) != (1, 0)
    unsigned = data.PixelRepresentation == 0
    return bool(data.BitsStored == data.BitsAllocated == 8 and unsigned and not rescaled)


def _window(data: Dataset) -> Window | None:
    """The first window (PS3.3 C.11.2.1.2), in rescaled values."""
    kind = data.get("VOILUTFunction") or "LINEAR"
    if data.get("WindowCenter") is None or data.get("WindowWidth") is None or kind == "SIGMOID":
        return None
    centre, width = (
        float(value if isinstance(value, int | float) else value[0])
        for value in (data.WindowCenter, data.WindowWidth)
    )
    if kind == "LINEAR":  # width counts grey values: from the first to the last are width - 1
        centre, width = centre - 0.5, width - 1
    if width <= 0:
        return None
    return Window(centre - width / 2, centre + width / 2, given=False)
