import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from src.core import provenance
from src.core.errors import DataError, InputError
from src.database import SPLITS
from src.embedding import extraction
from src.embedding.backbones import Backbone, load
from src.embedding.datasets.base import ImageArray, ImageFiles, ImageSet, ImageSplits
from src.embedding.extraction import embed, extract
from src.embedding.settings import ExtractionSettings

CPU = torch.device("cpu")
HERE = ExtractionSettings(num_workers=0)  # images are decoded in this process


def image_set(n, size=6, seed=0):
    values = np.random.default_rng(seed).integers(0, 256, (n, size, size, 3), dtype=np.uint8)
    return ImageSet(ImageArray(values), np.arange(n, dtype=np.int64) % 2)


def image_splits(n=5):
    return ImageSplits(
        image_set(n), image_set(3, seed=1), image_set(4, seed=2), ["a", "b"], {"source": "here"}
    )


class _Scaled(nn.Module):
    """A model with matrix products, so that autocast has something to do."""

    def __init__(self, scale=1.0):
        super().__init__()
        torch.manual_seed(0)
        self.linear, self.scale = nn.Linear(108, 7), scale

    def forward(self, x):
        return self.linear(x.flatten(1)) * self.scale


def backbone(model=None):
    model = (model or _Scaled()).eval()
    pixels = load("pixels", image_splits(), device=CPU)
    return Backbone("scaled", model, pixels.transform, CPU, 7, {"weights": "w"})


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("batch_size", [2, 5, 64])
def test_rows_are_those_of_the_images_in_order(workers, batch_size):
    images, ours = image_set(5), backbone()
    rows = extract(images, ours, ExtractionSettings(batch_size=batch_size, num_workers=workers))
    with torch.inference_mode():
        expected = [ours.model(ours.transform(images[i])[None])[0].numpy() for i in range(5)]
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows, expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_lower_precision_is_close_and_stored_as_float32(precision):
    images, ours = image_set(40), backbone()
    exact = extract(images, ours, HERE)
    rounded = extract(images, ours, ExtractionSettings(precision=precision, num_workers=0))
    assert rounded.dtype == np.float32
    assert not np.array_equal(rounded, exact)
    np.testing.assert_allclose(rounded, exact, rtol=0.05, atol=0.02)


@pytest.mark.parametrize("workers", [0, 2])
def test_images_that_cannot_be_read_are_counted(tmp_path, workers):
    paths = [tmp_path / f"{i}.png" for i in range(9)]
    for path in paths:
        Image.new("RGB", (6, 6)).save(path)
    for i in (3, 4, 8):
        paths[i].write_bytes(paths[0].read_bytes()[:40])
    images = ImageSet(ImageFiles(paths), np.zeros(9, np.int64))
    message = r"3\.png is not an image .* \(the first of 3 such, of 9 images of the split\)$"
    with pytest.raises(DataError, match=message):
        extract(images, backbone(), ExtractionSettings(batch_size=2, num_workers=workers))


def test_overflow_names_the_image_and_advises_a_wider_range():
    class OneTooLarge(nn.Module):
        def forward(self, x):
            x = x.flatten(1)[:, :7] @ torch.eye(7)
            x[1] *= 1e9
            return x

    images, ours = image_set(5), backbone(OneTooLarge())
    with pytest.raises(DataError, match=r"2 embeddings .* image 1 of test; try --precision bf16"):
        extract(
            images,
            ours,
            ExtractionSettings(precision="fp16", batch_size=3, num_workers=0),
            title="test",
        )
    extract(images, ours, ExtractionSettings(precision="bf16", batch_size=3, num_workers=0))


def test_not_a_number_names_the_image():
    images, ours = image_set(5), backbone(_Scaled(float("nan")))
    with pytest.raises(DataError, match=r"5 embeddings are not finite.*image 0 of val$"):
        extract(images, ours, HERE, title="val")


@pytest.mark.parametrize("workers", [0, 2])
def test_an_image_that_cannot_be_read_is_one_line(tmp_path, workers):
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for path in paths:
        Image.new("RGB", (6, 6)).save(path)
    paths[3].write_bytes(paths[0].read_bytes()[:40])
    images = ImageSet(ImageFiles(paths), np.zeros(5, np.int64))
    with pytest.raises(InputError, match=r"3\.png is not an image") as error:
        extract(images, backbone(), ExtractionSettings(batch_size=2, num_workers=workers))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("cores", "ranks", "on_cpu", "beside_a_device"),
    [(1, 1, 0, 1), (2, 1, 0, 1), (8, 1, 2, 7), (8, 4, 0, 1), (64, 1, 8, 8)],
)
def test_decoding_leaves_the_cores_to_a_model_that_needs_them(
    monkeypatch, cores, ranks, on_cpu, beside_a_device
):
    monkeypatch.setattr(extraction, "cpu_count", lambda: cores)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
    assert extraction.default_workers(CPU) == on_cpu
    assert extraction.default_workers(torch.device("cuda")) == beside_a_device


def test_a_killed_worker_is_explained():
    class Deadly(ImageSet):
        def __getitem__(self, index):
            import os

            os.kill(os.getpid(), 9)

    images = Deadly(image_set(4).images, np.zeros(4, np.int64))
    with pytest.raises(InputError, match="--num_workers"):
        extract(images, backbone(), ExtractionSettings(num_workers=1))


def test_meta_says_what_the_files_were_made_from():
    sets = embed("mine", image_splits(), backbone(), HERE, image_size=6)
    assert list(sets) == list(SPLITS)
    for split, data in sets.items():
        assert data.meta["split"] == split
        assert data.meta["dataset"] == "mine"
        assert data.meta["backbone"] == "scaled"
        assert data.meta["class_names"] == ["a", "b"]
        assert data.meta["image_size"] == 6
        assert data.meta["precision"] == "fp32"
        assert data.meta["facts"] == {
            "dataset": {"source": "here"},
            "backbone": {"weights": "w"},
        }
        assert data.meta["versions"] == provenance.versions()
        assert data.meta["extraction"] == sets["train"].meta["extraction"]
    np.testing.assert_array_equal(sets["val"].labels, [0, 1, 0])


def test_the_extraction_is_the_runs_own():
    def run(images=None, model=None, options=HERE):
        images = images or image_splits()
        return embed("mine", images, backbone(model), options)["test"].meta["extraction"]

    first = run()
    assert run() == first
    others = [
        run(options=ExtractionSettings(precision="bf16", num_workers=0)),
        run(images=image_splits(6)),
        run(model=_Scaled(2.0)),
    ]
    assert len({first, *others}) == 4
