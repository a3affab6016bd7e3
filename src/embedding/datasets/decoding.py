"""A file becomes a picture as a person sees it: turned upright, on white, in the right range.

Pictures are in mode 'L', in mode 'F' with values 0..1 where 8 bits do not hold them, or 'RGB'.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, TiffImagePlugin, UnidentifiedImageError
from PIL.ImageFile import ImageFile

from src.core import progress
from src.core.errors import DataError
from src.core.files import reading
from src.embedding.datasets.grey import Grey, Look, Window

# A file with such a name is meant to be an image; any other is one if its content says so.
SUFFIXES = (
    *(".avif", ".bmp", ".dcm", ".dicom", ".gif", ".heic", ".heif", ".j2k", ".jfif", ".jp2"),
    *(".jpe", ".jpeg", ".jpg", ".nii", ".pbm", ".pgm", ".png", ".pnm", ".ppm", ".tif", ".tiff"),
    ".webp",
)
FORMATS = (
    *("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP"),
)  # Pillow's, without those that need other programs or that random bytes are taken for
COMPLAINT = "is not an image that can be read"

_LARGEST_16_BIT = 65535
_MP_ENTRIES, _PHOTOMETRIC = 0xB002, TiffImagePlugin.PHOTOMETRIC_INTERPRETATION  # tags
_MOST_IMAGES, _MOST_PIXELS = 500, 10_000  # that a range is taken from; pixels per image
_PERCENTILES = (0.1, 99.9)


def read(path: Path, window: Window | None = None) -> Image.Image:
    """The picture in a file, in mode 'L', 'F' (values 0..1) or 'RGB'.

    Args:
        path: of any of FORMATS, or DICOM.
        window: of images of more than 8 bits; None takes the range that their type has.

    Raises:
        MissingFileError: the file does not exist.
        DataError: it cannot be read, or its grey values have no known range.
    """
    with reading(path, COMPLAINT):
        picture = _decoded(path)
        return picture if isinstance(picture, Image.Image) else _scaled(picture, window)


def patient(path: Path) -> str:
    """The PatientID of a DICOM file, "" where it has none, and of any other file.

    Raises:
        MissingFileError, DataError: the file does not exist or cannot be read.
    """
    with reading(path, COMPLAINT):
        if not _is_dicom(path):
            return ""
        from src.embedding.datasets import dicom

        return dicom.patient(path)


def is_named_image(path: Path) -> bool:
    """Whether its name says that a file is an image."""
    return path.suffix.strip().lower() in SUFFIXES


def look(path: Path) -> Look | None:
    """What a file's header says; None where neither its name nor its content is an image's.

    Raises:
        DataError: it cannot be opened, or it is not an image though its name says so.
    """
    if path.is_symlink() and not path.exists():
        raise DataError(f"{path} is a link to {path.readlink()}, which cannot be reached")
    with reading(path, COMPLAINT):
        if not path.is_file():  # a pipe would be waited for
            raise DataError(f"{path} is not an ordinary file")
        if _is_dicom(path):
            from src.embedding.datasets import dicom

            return dicom.look(path)
        image = _opened(path)
        if image is None:
            if is_named_image(path):
                raise DataError(f"{path} {COMPLAINT}: no known format")
            return None
        with image:
            return Look(_frames(image), _is_deep(image))


def range_of(paths: Sequence[Path]) -> Window | None:
    """The window that most grey values of these deep images lie in.

    From the percentiles 0.1 and 99.9, so that single bright pixels do not decide, of at most 500
    images; floats that are in 0..1 stay as they are. None if there are no images.

    Raises:
        DataError: an image cannot be read, or all values are equal.
    """
    if not paths:
        return None
    chosen = paths[:: -(-len(paths) // _MOST_IMAGES)]
    pooled = np.concatenate([_sample(path) for path in progress.bar(chosen, desc="grey values")])
    low, high = (float(value) for value in np.percentile(pooled, _PERCENTILES))
    if low == high:  # a few bright spots on black
        low, high = float(pooled.min()), float(pooled.max())
    if low == high:
        raise DataError(
            f"all grey values of {paths[0]} and the other images of train are {low:g}; "
            "--window LOW HIGH says what is black and white"
        )
    fractions = pooled.min() >= 0 and pooled.max() <= 1
    return Window(0.0, 1.0, given=False) if fractions else Window(low, high, given=False)


def _sample(path: Path) -> np.ndarray:
    with reading(path, COMPLAINT):
        picture = _decoded(path)
        flat = np.asarray(picture.values if isinstance(picture, Grey) else picture).ravel()
        return flat[:: -(-len(flat) // _MOST_PIXELS)]


def _decoded(path: Path) -> Image.Image | Grey:
    """The picture, upright; grey of more than 8 bits still without a range."""
    if _is_dicom(path):
        from src.embedding.datasets import dicom

        return dicom.decoded(path)
    image = _opened(path)
    if image is None:
        raise DataError(f"{path} {COMPLAINT}: no known format")
    with image:
        of_16_bits = any(";16" in str(tile) for tile in image.tile)  # Pillow's raw mode
        white_is_zero = getattr(image, "tag_v2", {}).get(_PHOTOMETRIC) == 0
        image.load()
        upright = ImageOps.exif_transpose(image)
        if _is_deep(image):
            values = np.asarray(upright, np.float32)
            largest = 1 if image.mode == "F" else _LARGEST_16_BIT
            return Grey(_finite(values), largest, inverted=white_is_zero)
        if of_16_bits and np.asarray(upright).max() < 16:  # Pillow keeps the upper 8 bits
            raise ValueError("colour of 16 bits that uses the lower 12 only; convert it to 8 bits")
        return simplified(upright)


def _opened(path: Path) -> ImageFile | None:
    """The image, not decoded yet; None if it is of none of FORMATS."""
    try:
        image = Image.open(path)
    except UnidentifiedImageError:
        return None
    if image.format in FORMATS:
        return image
    image.close()
    return None


def _scaled(grey: Grey, window: Window | None) -> Image.Image:
    """A deep picture in mode 'F', with values 0..1."""
    if window is None or (grey.window and not window.given):
        window = grey.window
    if window is None:
        values = grey.values / np.float32(grey.largest)
    else:
        low, high = np.float32(window.low), np.float32(window.high)
        values = ((grey.values - low) / (high - low)).clip(0, 1)
    return simplified(Image.fromarray(1 - values if grey.inverted else values))


def _is_deep(image: Image.Image) -> bool:
    return image.mode[0] in "IF"


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM"


def _frames(image: Image.Image) -> int:
    """Pages or frames; previews and gain maps, which cameras add to a JPEG, do not count."""
    entries = getattr(image, "mpinfo", {}).get(_MP_ENTRIES)
    if entries:
        return 1 + sum("Multi-Frame" in entry["Attribute"]["MPType"] for entry in entries[1:])
    return int(getattr(image, "n_frames", 1))


def _finite(values: np.ndarray) -> np.ndarray:
    if not np.isfinite(values).all():
        raise ValueError("it has values that are not finite")
    return values


def simplified(image: Image.Image) -> Image.Image:
    """The decoded image in mode 'L', 'F' with values 0..1, or 'RGB'; what is transparent is white.

    Raises:
        ValueError: grey values without a known range (32 bits; floats outside 0..1).
    """
    if _is_deep(image):
        values = np.asarray(image, np.float32)
        values = values if image.mode == "F" else values / np.float32(_LARGEST_16_BIT)
        if not (values.min() >= 0 and values.max() <= 1):
            raise ValueError("grey values are neither 8 nor 16 bits nor floats in 0..1")
        return Image.fromarray(values)
    mode = "L" if image.mode in ("1", "L", "LA", "La") else "RGB"
    if image.has_transparency_data:
        image = image.convert("LA") if image.mode == "La" else image
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image if image.mode == mode else image.convert(mode)


def to_rgb(image: Image.Image) -> Image.Image:
    """The image in mode 'RGB', 8 bits per channel; grey becomes three equal channels.

    Pillow's own conversion of mode 'F' clips values to 0..255 instead of scaling them.
    """
    image = simplified(image)
    if image.mode == "F":
        image = Image.fromarray(np.rint(np.asarray(image) * 255).astype(np.uint8))
    return image.convert("RGB")


def to_array(image: Image.Image) -> np.ndarray:
    """The image as (channels, h, w) float32 in 0..1: one channel if it is grey, else three."""
    image = simplified(image)
    values = np.asarray(image, np.float32)
    values = values if image.mode == "F" else values / np.float32(255)
    return values[None] if values.ndim == 2 else np.ascontiguousarray(values.transpose(2, 0, 1))
