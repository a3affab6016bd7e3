"""What the items of the benchmark run, and on which data.

Data are normal random rows of the stated shape, always the same, and the bundled digits.
`digits`: 1,293 x 64, 10 classes; `dense`: 3,882 x 784, 2 classes; `wide`: 4,000 x 1,280, half of
the values 0, as the features of a convolutional network are.
"""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from benchmarks import data
from benchmarks.measure import Measurement, Task, measure
from src.anonymizers import cvae, ksame
from src.anonymizers.settings import FitSettings
from src.core import process
from src.core.devices import Resources
from src.database import Database, EmbeddingSet, Splits
from src.embedding import backbones
from src.embedding.datasets.base import ImageFiles, ImageSet, ImageSplits
from src.embedding.extraction import PRECISIONS, Batches, extract
from src.embedding.settings import ExtractionSettings
from src.probing import head, metrics
from src.probing.settings import LOGISTIC, HeadSettings

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ("create_db", "anonymize", "probing", "probing_noise", "probing_noise_cvae")
BATCH = 32  # images


def random_rows(rows: int, dim: int) -> Tensor:
    """Standard normal rows [rows, dim] float32."""
    return torch.randn(rows, dim, generator=torch.Generator().manual_seed(0))


def dense() -> Splits:
    """3,882 / 431 / 431 rows of 784 in two overlapping classes."""
    sizes = [3882, 431, 431]
    x = random_rows(sum(sizes), 784)
    labels = torch.arange(len(x)) % 2
    x[:, :8] += labels[:, None] / 2
    parts = zip(x.split(sizes), labels.split(sizes), strict=True)
    return Splits(*(EmbeddingSet(rows.numpy(), y.numpy()) for rows, y in parts))


def wide(classes: int) -> Splits:
    """4,000 / 400 / 400 rows of 1,280 rectified features, each class with a mean of its own."""
    sizes = [4000, 400, 400]
    labels = torch.arange(sum(sizes)) % classes
    means = random_rows(classes, 1280) / 4
    x = (random_rows(sum(sizes), 1280) + means[labels]).relu()
    parts = zip(x.split(sizes), labels.split(sizes), strict=True)
    return Splits(*(EmbeddingSet(rows.numpy(), y.numpy()) for rows, y in parts))


def ksame_groups(device: torch.device, _: Path, *, rows: int, dim: int, k: int, gib: int) -> Task:
    """Grouping alone, within `gib` GiB."""
    x, resources = random_rows(rows, dim).numpy(), Resources(device, memory=gib << 30)
    # Each pair once; on the fly, again the distances to rows that are left when one is grouped.
    passes = 1 if 4 * rows * rows <= resources.memory else 2
    return Task(
        run=lambda: ksame.group(x, k=k, resources=resources), flop=passes * rows * rows * dim
    )


def ksame_persons(device: torch.device, _: Path, *, rows: int, dim: int, k: int) -> Task:
    """Groups of k different persons, who have five rows each, beside groups of rows."""
    x, resources = random_rows(rows, dim).numpy(), Resources(device, memory=4 << 30)
    persons = np.random.default_rng(0).permutation(rows) // 5
    return Task(
        run=lambda: ksame.group(x, persons, k=k, resources=resources),
        flop=rows * rows * dim,
        baseline=lambda: ksame.group(x, k=k, resources=resources),
    )


def cvae_epochs(device: torch.device, _: Path, *, splits: Callable[[], Splits]) -> Task:
    """A fit of 40 epochs: too few for it to stop early, enough that its start hardly counts."""
    epochs = 40
    train, val, _test = vars(splits()).values()
    settings = FitSettings(num_epochs=epochs, patience=epochs)
    hidden, latent, classes = settings.hidden_dim, settings.latent_dim, train.num_classes
    dim = train.dim
    first = (dim + classes) * hidden
    weights = first + hidden * 2 * latent + (latent + classes) * hidden + hidden * dim
    # Forward; backward to the weights; backward to the inputs, except to the data.
    flop = 2 * len(train) * (3 * weights - first) + 2 * len(val) * weights
    resources = Resources(device)
    return Task(
        run=lambda: cvae.fit(train, val, settings, seed=0, resources=resources),
        units=epochs,
        flop=flop,
    )


def head_fit(
    device: torch.device, _: Path, *, splits: Callable[[], Splits], settings: HeadSettings
) -> Task:
    """A head on real rows with its evaluation and distance: all that probing does on arrays."""
    loaded = splits()

    def run() -> None:
        fitted = head.fit(loaded.train, loaded, settings, seed=0, device=device)
        metrics.average_mindistance(loaded.train, loaded.train, device)
        head.evaluate(fitted, loaded.test, seed=0)

    return Task(run=run)


def heads_together(
    device: torch.device, _: Path, *, splits: Callable[[], Splits], settings: HeadSettings
) -> Task:
    """Heads of 35 seeds on the same rows, beside as many fits one after the other."""
    loaded = splits()
    sought = [head.Sought(loaded.train, settings, seed) for seed in range(35)]

    def one_by_one() -> None:
        for rows, own, seed in sought:
            head.fit(rows, loaded, own, seed=seed, device=device)

    return Task(run=lambda: head.fit_many(sought, loaded, device=device), baseline=one_by_one)


def online_epochs(device: torch.device, _: Path, *, epochs: int) -> Task:
    """A head on fresh draws of a decoder (barely fitted: it makes no difference to the time)."""
    splits, settings = data.digits(), FitSettings(num_epochs=1)
    train = splits.train
    model = cvae.fit(train, splits.val, settings, seed=0, resources=Resources(device))
    decoded = settings.hidden_dim * (settings.latent_dim + train.num_classes + train.dim)
    long = HeadSettings(num_epochs=epochs, patience=epochs)

    def run() -> None:
        head.fit_online(model.decoder, train, splits, long, seed=0)
        drawn = head.draw(model.decoder, len(train), seed=0)
        metrics.average_mindistance(drawn, train, device)

    rows = head.ONLINE_EPOCH * len(train)
    flop = 2 * rows * (decoded + 2 * train.dim * train.num_classes)
    return Task(run=run, units=epochs, flop=flop)


def distance(device: torch.device, _: Path, *, rows: int, dim: int) -> Task:
    """The distance metric, beside one product of the same size in blocks."""
    sides = random_rows(2 * rows, dim).split(rows)
    released, originals = (EmbeddingSet(s.numpy(), np.zeros(rows, np.int64)) for s in sides)
    ours, theirs = (side.to(device) for side in sides)

    def product() -> None:
        for block in ours.split(1024):
            block @ theirs.T

    return Task(
        run=lambda: metrics.average_mindistance(released, originals, device),
        flop=2 * rows * rows * dim,
        baseline=product,
    )


def extraction(
    device: torch.device, folder: Path, *, model: str, images: int, precision: str
) -> Task:
    """JPEG files → embeddings, beside the model alone on the same batches."""
    noise = np.random.default_rng(0).integers(0, 256, (images, 16, 16, 3), dtype=np.uint8)
    paths = [folder / f"{i}.jpg" for i in range(images)]
    for path, pixels in zip(paths, noise, strict=True):
        Image.fromarray(pixels).resize((256, 256)).save(path)
    split = ImageSet(ImageFiles(paths), np.zeros(images, np.int64))
    weights = folder / "weights.safetensors"
    save_file(timm.create_model(model, num_classes=0).state_dict(), weights)
    backbone = backbones.load(
        model, ImageSplits(split, split, split, ["noise"], {}), device=device, weights=weights
    )
    loaded = Batches(split, backbone.transform, BATCH)
    batches = [
        batch.to(device) for i in range(len(loaded)) if isinstance(batch := loaded[i], Tensor)
    ]
    dtype, options = (
        PRECISIONS[precision],
        ExtractionSettings(precision=precision, batch_size=BATCH),
    )

    def bare() -> None:
        with torch.inference_mode(), torch.autocast(device.type, dtype, precision != "fp32"):
            for batch in batches:
                backbone.model(batch)

    return Task(run=lambda: extract(split, backbone, options), baseline=bare)


def help_texts(_device: torch.device, _: Path) -> Task:
    """--help of the five scripts."""

    def run() -> None:
        for script in SCRIPTS:
            _call(script, "--help")

    return Task(run=run, units=len(SCRIPTS), elsewhere=True)


def probing(device: torch.device, folder: Path) -> Task:
    """The whole command on an existing database of the digits."""
    database = Database(folder, "digits", "pixels")
    for split, content in vars(data.digits()).items():
        database.write(split, content)
    flags = ["--backbone", "pixels", "--device", str(device), "--quiet"]
    roots = ["--database_root", str(folder), "--output_root", str(folder / "logs")]
    return Task(run=lambda: _call("probing", *flags, *roots), elsewhere=True)


def _call(script: str, *flags: str) -> None:
    command = [sys.executable, str(ROOT / f"{script}.py"), *flags]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


TASKS: dict[str, Callable[[torch.device, Path], Task]] = {
    "ksame-dense-k5": partial(ksame_groups, rows=3882, dim=784, k=5, gib=4),
    "ksame-dense-k2": partial(ksame_groups, rows=3882, dim=784, k=2, gib=4),
    "ksame-persons": partial(ksame_persons, rows=3882, dim=784, k=5),
    "ksame-20000": partial(ksame_groups, rows=20_000, dim=768, k=5, gib=4),
    "ksame-50000": partial(ksame_groups, rows=50_000, dim=768, k=5, gib=2),
    "cvae-digits": partial(cvae_epochs, splits=data.digits),
    "cvae-dense": partial(cvae_epochs, splits=dense),
    "head-digits": partial(head_fit, splits=data.digits, settings=HeadSettings()),
    "head-dense": partial(head_fit, splits=dense, settings=HeadSettings(patience=100)),
    "heads-digits": partial(heads_together, splits=data.digits, settings=HeadSettings()),
    "heads-wide": partial(
        heads_together,
        splits=partial(wide, 2),
        settings=HeadSettings(num_epochs=20, patience=20),
    ),
    "ksame-wide": partial(ksame_groups, rows=4000, dim=1280, k=5, gib=4),
    "cvae-wide": partial(cvae_epochs, splits=partial(wide, 2)),
    "head-wide": partial(head_fit, splits=partial(wide, 2), settings=HeadSettings(patience=100)),
    "logistic-2": partial(
        head_fit, splits=partial(wide, 2), settings=HeadSettings(head=LOGISTIC, clip=10)
    ),
    "logistic-10": partial(
        head_fit, splits=partial(wide, 10), settings=HeadSettings(head=LOGISTIC, clip=10)
    ),
    "online-digits": partial(online_epochs, epochs=10),
    "distance": partial(distance, rows=20_000, dim=768),
    "extraction": partial(extraction, model="vit_small_patch16_224", images=128, precision="fp32"),
    "extraction-lite0": partial(
        extraction, model="tf_efficientnet_lite0", images=128, precision="fp32"
    ),
    "extraction-bf16": partial(
        extraction, model="vit_base_patch14_dinov2", images=1024, precision="bf16"
    ),
    "help": help_texts,
    "probing": probing,
}


def measure_item(name: str, repeats: int, device_name: str) -> Measurement:
    """Measure an item of that name; call it in a fresh process, so that peak memory is its own."""
    process.tune()
    os.environ["TQDM_DISABLE"] = "1"
    # Processes that the item starts are to start as they do in a script, not as this one did.
    multiprocessing.set_start_method(None, force=True)
    device = torch.device(device_name)
    with tempfile.TemporaryDirectory() as folder:
        return measure(TASKS[name](device, Path(folder)), repeats, device)
