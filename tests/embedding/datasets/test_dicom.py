"""DICOM files as scanners write them."""

import sys

import numpy as np
import pytest

from src.core.errors import DataError, MissingPackageError
from src.embedding import datasets
from src.embedding.datasets.decoding import look, read, to_array
from src.embedding.datasets.grey import Window

pydicom = pytest.importorskip("pydicom")

RAMP = np.arange(256, dtype=np.uint16).reshape(16, 16) * 16  # 12 bits


def write(path, pixels, *, kind="MONOCHROME2", bits=12, **tags):
    from pydicom.dataset import FileDataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

    path.parent.mkdir(parents=True, exist_ok=True)
    meta = FileMetaDataset()
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    meta.MediaStorageSOPInstanceUID = generate_uid()
    data = FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.Rows, data.Columns = pixels.shape[-2:] if pixels.shape[-1] != 3 else pixels.shape[-3:-1]
    data.SamplesPerPixel = 3 if pixels.shape[-1] == 3 else 1
    if data.SamplesPerPixel == 3:
        data.PlanarConfiguration = 0
    data.PhotometricInterpretation = kind
    data.PixelRepresentation = int(pixels.dtype.kind == "i")
    data.BitsAllocated = 8 * pixels.dtype.itemsize
    data.BitsStored, data.HighBit = bits, bits - 1
    data.PatientID = "secret"
    for name, value in tags.items():
        setattr(data, name, value)
    data.PixelData = pixels.tobytes()
    data.save_as(path)
    return path


def test_values_are_rescaled_and_windowed(tmp_path):
    """Stored 0..4080, rescaled to -1000..3080; the window of LINEAR has width - 1 steps."""
    tags = {"RescaleSlope": 1, "RescaleIntercept": -1000, "WindowCenter": 40, "WindowWidth": 400}
    path = write(tmp_path / "x.dcm", RAMP, **tags)
    assert look(path) == (1, True, True)
    expected = ((RAMP - 1000.0 - 39.5) / 399 + 0.5).clip(0, 1)
    np.testing.assert_allclose(to_array(read(path))[0], expected, atol=1e-5)
    percentiles = Window(-1000, 3080, given=False)
    np.testing.assert_allclose(to_array(read(path, percentiles))[0], expected, atol=1e-5)
    given = to_array(read(path, Window(-1000, 3080, given=True)))[0]
    np.testing.assert_allclose(given, RAMP / 4080, atol=1e-5)


@pytest.mark.parametrize("window", [{}, {"WindowCenter": [2048, 9], "WindowWidth": [4096, 9]}])
@pytest.mark.parametrize("bits", [8, 12])
def test_white_can_be_zero(tmp_path, window, bits):
    pixels = (RAMP >> 4).astype(np.uint8) if bits == 8 else RAMP
    normal, inverted = (
        to_array(read(write(tmp_path / kind, pixels, kind=kind, bits=bits, **window)))
        for kind in ("MONOCHROME2", "MONOCHROME1")
    )
    np.testing.assert_allclose(normal + inverted, 1, atol=1e-6)
    assert normal[0, 0, 0] < normal[0, 15, 15]


def test_signed_values_and_exact_windows(tmp_path):
    pixels = RAMP.astype(np.int16) - 1024
    tags = {"WindowCenter": 0, "WindowWidth": 1000, "VOILUTFunction": "LINEAR_EXACT"}
    found = to_array(read(write(tmp_path / "x", pixels, bits=16, **tags)))[0]
    np.testing.assert_allclose(found, (pixels / 1000 + 0.5).clip(0, 1), atol=1e-5)


def test_colour(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    image = read(write(tmp_path / "x.dcm", pixels, kind="RGB", bits=8))
    assert (np.asarray(image) == pixels).all()


def test_a_folder_of_dicom_files(tmp_path):
    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("test", 4)):
        for name in ("left", "right"):
            for i in range(count):
                pixels = rng.integers(0, 4096, (8, 8)).astype(np.uint16)
                write(tmp_path / "ct" / split / name / f"IM{i:04d}", pixels)  # without a suffix
    found = datasets.load("ct", root=tmp_path)
    assert [len(s) for s in (found.train, found.val, found.test)] == [21, 3, 8]
    assert found.facts["window"][1] > 4000
    assert to_array(found.train[0]).max() > 0.9
    assert "secret" not in str(found.facts)


def test_frames_and_files_without_an_image(tmp_path):
    path = write(tmp_path / "x.dcm", np.stack([RAMP] * 3), NumberOfFrames=3)
    assert look(path).frames == 3
    for split in ("train", "test"):
        for name in ("left", "right"):
            write(tmp_path / "ct" / split / name / "a.dcm", RAMP, NumberOfFrames=1)
    path.rename(tmp_path / "ct/train/left/b.dcm")
    with pytest.raises(DataError, match=r"b\.dcm has 3 pages or frames"):
        datasets.load("ct", root=tmp_path)
    data = pydicom.dcmread(tmp_path / "ct/train/left/a.dcm")
    del data.PixelData, data.Rows
    data.save_as(tmp_path / "ct/train/left/b.dcm")
    with pytest.raises(DataError, match=r"b\.dcm is DICOM without an image"):
        datasets.load("ct", root=tmp_path)
    (tmp_path / "cut.dcm").write_bytes((tmp_path / "ct/train/left/a.dcm").read_bytes()[:700])
    with pytest.raises(DataError, match=r"cut\.dcm is not an image that can be read"):
        read(tmp_path / "cut.dcm")


def test_without_pydicom(tmp_path, monkeypatch):
    path = write(tmp_path / "x.dcm", RAMP)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingPackageError, match="pip install -r requirements-dicom.txt"):
        look(path)
