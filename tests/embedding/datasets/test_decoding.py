"""A file becomes the picture that a person sees."""

import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from src.core.errors import DataError
from src.embedding.datasets import decoding
from src.embedding.datasets.decoding import look, range_of, read, to_array
from src.embedding.datasets.grey import Window
from tests.embedding.datasets.support import grey, save, tiff

RAMP = np.arange(256, dtype=np.uint8).reshape(16, 16)
ORIENTATION = 0x112
WHITE_IS_ZERO, BLACK_IS_ZERO = 0, 1


def pixels(path, window=None):
    return to_array(read(path, window))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "png", "tiff", "webp"])
def test_pictures_are_turned_upright(tmp_path, orientation, suffix):
    """Two grey halves, light at the top, stored in each of the eight ways of EXIF."""
    upright = np.full((16, 32), 40, np.uint8)
    upright[:8] = 200
    upright[:, :4] = 120
    inverse = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.T,
        6: lambda a: np.rot90(a),
        7: lambda a: a[::-1, ::-1].T,
        8: lambda a: np.rot90(a, -1),
    }
    image = Image.fromarray(np.ascontiguousarray(inverse[orientation](upright))).convert("RGB")
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image.save(tmp_path / f"x.{suffix}", exif=exif, quality=95)
    found = np.asarray(read(tmp_path / f"x.{suffix}").convert("L")).astype(int)
    assert found.shape == (16, 32)
    assert np.abs(found - upright)[:, 6:].mean() < 10


@pytest.mark.parametrize("compression", [None, "tiff_lzw", "tiff_deflate"])
def test_white_is_zero_in_8_and_16_bits_alike(tmp_path, compression):
    for bits in (8, 16):
        stored = RAMP if bits == 8 else RAMP.astype(np.uint16) * 257
        for photometric in (WHITE_IS_ZERO, BLACK_IS_ZERO):
            tiff(tmp_path / f"{bits}-{photometric}.tiff", stored, photometric, compression)
    window = range_of([tmp_path / f"16-{p}.tiff" for p in (0, 1)])
    for given_window in (None, Window(0, 65535, given=True)):
        black, white = pixels(tmp_path / "8-1.tiff"), pixels(tmp_path / "8-0.tiff")
        np.testing.assert_allclose(black + white, 1, atol=1e-6)
        for name, expected in (("16-1", black), ("16-0", white)):
            found = pixels(tmp_path / f"{name}.tiff", given_window)
            np.testing.assert_allclose(found, expected, atol=1e-6)
            found = pixels(tmp_path / f"{name}.tiff", window)
            np.testing.assert_allclose(found, expected, atol=2e-3)


def test_12_bits_in_16_are_not_black(tmp_path):
    values = np.linspace(0, 4095, 400).astype(np.uint16).reshape(20, 20)
    save(tmp_path / "x.png", Image.fromarray(values))
    assert pixels(tmp_path / "x.png").max() < 0.07  # by its type
    found = pixels(tmp_path / "x.png", range_of([tmp_path / "x.png"]))
    assert (found.min(), found.max()) == (0, 1)
    assert 0.49 < found.mean() < 0.51


@given(low=st.integers(-2000, 2000), width=st.integers(1, 4000), inverted=st.booleans())
def test_a_window_is_a_line_between_its_ends(low, width, inverted):
    values = np.linspace(low - width, low + 2 * width, 31, dtype=np.float32)[None]
    window = Window(low, low + width, given=True)
    found = to_array(decoding._scaled(decoding.Grey(values, 65535, inverted), window))[0]
    expected = np.clip((values - low) / width, 0, 1)
    np.testing.assert_allclose(found, 1 - expected if inverted else expected, atol=1e-4)


def test_single_bright_pixels_do_not_decide_the_range(tmp_path):
    values = np.random.default_rng(0).integers(100, 1000, (100, 100)).astype(np.uint16)
    values[3, 3] = 65535
    save(tmp_path / "x.png", Image.fromarray(values))
    assert range_of([tmp_path / "x.png"]).high < 1000
    blank = np.zeros((100, 100), np.uint16)
    save(tmp_path / "blank.png", Image.fromarray(blank))
    with pytest.raises(DataError, match="are 0; --window LOW HIGH says"):
        range_of([tmp_path / "blank.png"])
    blank[3, 3] = 700  # a few spots are less than the percentiles see
    save(tmp_path / "spots.png", Image.fromarray(blank))
    assert range_of([tmp_path / "spots.png"]) == (0, 700, False)


def test_floats_in_0_to_1_stay_as_they_are(tmp_path):
    values = np.linspace(0.2, 0.4, 100, dtype=np.float32).reshape(10, 10)
    save(tmp_path / "x.tiff", Image.fromarray(values))
    assert range_of([tmp_path / "x.tiff"]) == (0, 1, False)
    assert (pixels(tmp_path / "x.tiff", range_of([tmp_path / "x.tiff"]))[0] == values).all()
    save(tmp_path / "y.tiff", Image.fromarray(values * 1000))
    assert 200 <= range_of([tmp_path / "y.tiff"]).low < range_of([tmp_path / "y.tiff"]).high <= 400
    values[3, 3] = np.nan
    save(tmp_path / "nan.tiff", Image.fromarray(values))
    with pytest.raises(DataError, match="not finite"):
        read(tmp_path / "nan.tiff")


def test_colour_of_12_bits_in_16_is_refused(tmp_path):
    """Pillow keeps the upper 8 bits: the picture would be black."""
    for name, largest in (("deep", 4095), ("full", 65535)):
        ramp = np.linspace(0, largest, 64 * 3).astype(">u2").reshape(8, 8, 3)
        png16(tmp_path / f"{name}.png", ramp)
    assert pixels(tmp_path / "full.png").max() == 1
    with pytest.raises(DataError, match=r"deep\.png .* uses the lower 12 only"):
        read(tmp_path / "deep.png")


def png16(path, values):
    """A PNG file with 16 bits per channel, (h, w, 3) big-endian."""
    import struct
    import zlib

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    height, width, _ = values.shape
    header = struct.pack(">IIBBBBB", width, height, 16, 2, 0, 0, 0)
    lines = b"".join(b"\0" + row.tobytes() for row in values)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + parts)


@pytest.mark.parametrize(
    ("mode", "colour", "expected"),
    [
        ("RGBA", (10, 20, 30, 255), (10, 20, 30)),
        ("RGBA", (10, 20, 30, 0), (255, 255, 255)),
        ("RGBA", (0, 0, 0, 51), (204, 204, 204)),
        ("LA", (40, 255), 40),
        ("LA", (0, 0), 255),
    ],
)
def test_what_is_transparent_is_white(tmp_path, mode, colour, expected):
    save(tmp_path / "x.png", Image.new(mode, (3, 2), colour))
    image = read(tmp_path / "x.png")
    assert image.mode == ("RGB" if mode == "RGBA" else "L")
    assert image.getpixel((1, 1)) == expected


def test_a_palette_looks_as_it_does(tmp_path):
    image = Image.new("P", (3, 2), 1)
    image.putpalette([0, 0, 0, 10, 20, 30])
    image.putpixel((0, 0), 0)
    image.save(tmp_path / "plain.png")
    image.save(tmp_path / "clear.png", transparency=0)
    image.save(tmp_path / "x.gif")
    for name, first in (
        ("plain.png", (0, 0, 0)),
        ("clear.png", (255, 255, 255)),
        ("x.gif", (0, 0, 0)),
    ):
        found = read(tmp_path / name)
        assert (found.getpixel((0, 0)), found.getpixel((1, 1))) == (first, (10, 20, 30))
    grey(9).save(tmp_path / "grey.png", transparency=9)
    assert read(tmp_path / "grey.png").getpixel((0, 0)) == 255


def test_headers_say_what_a_file_is(tmp_path):
    save(tmp_path / "grey.png", grey(3))
    save(tmp_path / "deep.png", Image.fromarray(RAMP.astype(np.uint16)))
    (tmp_path / "grey.png").rename(tmp_path / "no suffix")
    assert look(tmp_path / "no suffix") == (1, False, False)
    assert look(tmp_path / "deep.png") == (1, True, False)
    (tmp_path / "notes.txt").write_text("hello")
    assert look(tmp_path / "notes.txt") is None
    (tmp_path / "x.JFIF").write_text("hello")
    with pytest.raises(DataError, match=r"x\.JFIF is not an image .*no known format"):
        look(tmp_path / "x.JFIF")


@pytest.mark.parametrize("suffix", ["tiff", "gif", "webp", "png"])
def test_frames_are_counted(tmp_path, suffix):
    frames = [Image.new("RGB", (8, 8), (i * 80, 0, 0)) for i in range(3)]
    frames[0].save(tmp_path / f"x.{suffix}", save_all=True, append_images=frames[1:])
    assert look(tmp_path / f"x.{suffix}").frames == 3


def test_previews_in_a_jpeg_are_not_frames(tmp_path):
    """Cameras add a preview or a gain map; Pillow then speaks of two frames."""
    first, preview = Image.new("RGB", (16, 16)), Image.new("RGB", (8, 8))
    first.save(tmp_path / "x.jpg", "MPO", save_all=True, append_images=[preview])
    with Image.open(tmp_path / "x.jpg") as image:
        assert image.n_frames == 2
    assert look(tmp_path / "x.jpg").frames == 1


def test_what_cannot_be_opened_keeps_its_reason(tmp_path, monkeypatch):
    (tmp_path / "x.png").symlink_to(tmp_path / "gone.png")
    with pytest.raises(DataError, match=r"x\.png is a link to .*gone\.png, which cannot be"):
        look(tmp_path / "x.png")
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(DataError, match=r"pipe\.png is not an ordinary file"):
        look(tmp_path / "pipe.png")
    save(tmp_path / "y.png", grey(3))
    monkeypatch.setattr(decoding, "_is_dicom", lambda path: path.open("rb") and refuse())
    with pytest.raises(DataError, match=r"^cannot read .*y\.png: Permission denied$"):
        look(tmp_path / "y.png")


def refuse():
    raise PermissionError(13, "Permission denied")
