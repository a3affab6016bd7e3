"""Images through a backbone: the embeddings of a data set."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from joblib import cpu_count  # type: ignore[import-untyped]
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from src import backbones, database, datasets, distributed, files, progress
from src.backbones import Backbone
from src.database import SPLITS, Database, EmbeddingSet
from src.datasets.base import ImageSet, ImageSplits
from src.errors import DataError, InputError
from src.provenance import fingerprint, fingerprint_arrays, versions

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_MOST_WORKERS = 8  # each holds two batches in memory


def create(
    target: Database,
    *,
    dataset_root: Path,
    device: str = "auto",
    image_size: int | None = None,
    task: str | None = None,
    weights: Path | None = None,
    precision: str = "fp32",
    batch_size: int = 128,
    num_workers: int | None = None,
) -> dict[str, EmbeddingSet]:
    """Load the data set and backbone that `target` names, embed, write when all splits are done.

    Returns:
        The three sets; under torchrun every process has them, and rank 0 writes.

    Raises:
        InputError: data set or backbone cannot be had, an image not be read, ...
    """
    files.require_writable(target.folder)
    resolved = distributed.device(device)
    with distributed.rank_zero_first():
        images = datasets.load(target.dataset, root=dataset_root, image_size=image_size, task=task)
        chosen = "image_size" in images.facts  # MedMNIST's files: the model keeps its own size
        backbone = backbones.load(
            target.backbone,
            images,
            device=resolved,
            image_size=None if chosen else image_size,
            weights=weights,
        )
    sets = embed(
        target.dataset,
        images,
        backbone,
        image_size=image_size,
        precision=precision,
        batch_size=batch_size,
        num_workers=num_workers,
    )
    if distributed.rank() == 0:
        for split, data in sets.items():
            database.write(target.path(split), data)
    return sets


def embed(
    dataset: str,
    images: ImageSplits,
    backbone: Backbone,
    *,
    image_size: int | None = None,
    precision: str = "fp32",
    batch_size: int = 128,
    num_workers: int | None = None,
) -> dict[str, EmbeddingSet]:
    """The embeddings of all splits, with `meta` that says what they were made from and how.

    Its `extraction` is the same in the files of one run only, so that a mixture is noticed.

    Raises:
        InputError: an image cannot be read, an embedding is not finite, memory runs out.
    """
    rows = {
        split: extract(
            getattr(images, split),
            backbone,
            precision=precision,
            batch_size=batch_size,
            num_workers=num_workers,
            title=split,
        )
        for split in SPLITS
    }
    labels = {split: getattr(images, split).labels for split in SPLITS}
    shared = {
        "dataset": dataset,
        "backbone": backbone.name,
        "class_names": images.class_names,
        "image_size": image_size,
        "precision": precision,
        "device": backbone.device.type,
        "facts": {"dataset": images.facts, "backbone": backbone.facts},
        "versions": versions(),
    }
    contents = {split: fingerprint_arrays(rows[split], labels[split]) for split in SPLITS}
    run = {"extraction": fingerprint({**shared, "contents": contents})}
    return {
        split: EmbeddingSet(rows[split], labels[split], {**shared, "split": split, **run})
        for split in SPLITS
    }


def extract(
    images: ImageSet,
    backbone: Backbone,
    *,
    precision: str = "fp32",
    batch_size: int = 128,
    num_workers: int | None = None,
    title: str = "",
) -> np.ndarray:
    """Embeddings (n, D) float32 of n images, in their order.

    Under torchrun each process embeds a run of whole batches, the same batches as one process
    would form, so that rounding does not depend on the number of processes; all get all rows.

    Args:
        precision: of the arithmetic, a name in PRECISIONS; below fp32 by autocast.
        num_workers: processes that decode images; None: as `default_workers`.
        title: of the progress bar.

    Raises:
        InputError: an image cannot be read, an embedding is not finite, memory runs out.
    """
    device = backbone.device
    batches = Batches(images, backbone.transform, batch_size)
    bounds = [
        len(batches) * r // distributed.world_size() for r in range(distributed.world_size() + 1)
    ]
    rank = distributed.rank()
    share = range(bounds[rank], bounds[rank + 1])
    workers = default_workers(device) if num_workers is None else num_workers
    if workers and len(images):
        images.images[0]  # a file that is read once and kept is then shared by the processes
    loader: DataLoader[torch.Tensor | InputError] = DataLoader(
        batches,
        batch_size=None,  # the data set's items are whole batches
        sampler=share,
        num_workers=min(workers, len(share)),
        pin_memory=device.type == "cuda",
    )
    rows = torch.empty(len(images), backbone.dim, device=device)
    total = sum(batches.rows(b).stop - batches.rows(b).start for b in share)
    with (
        torch.inference_mode(),
        _arithmetic(device, precision),
        progress.bar(desc=title, total=total, unit=" rows") as bar,
    ):
        for index, batch in zip(share, loader, strict=True):
            if isinstance(batch, InputError):
                raise batch
            # Nothing here waits for a CUDA device: the rows stay there until all are done.
            rows[batches.rows(index)] = backbone.model(batch.to(device, non_blocking=True))
            bar.update(len(batch))
    distributed.share(rows, [min(b * batch_size, len(images)) for b in bounds])
    return _checked(rows.cpu().numpy(), precision, title)


@dataclass(frozen=True)
class Batches(Dataset["torch.Tensor | InputError"]):
    """The batches of a split: item b is (size, c, h, w) float32, or the error that prevents it.

    (A DataLoader would turn a worker's exception into the text of its traceback.)
    """

    images: ImageSet
    transform: Callable[[Image.Image], torch.Tensor]
    size: int

    def __len__(self) -> int:
        return -(-len(self.images) // self.size)

    def rows(self, index: int) -> slice:
        """The rows of batch `index`."""
        return slice(index * self.size, min((index + 1) * self.size, len(self.images)))

    def __getitem__(self, index: int) -> torch.Tensor | InputError:
        rows = self.rows(index)
        try:
            batch = [self.transform(self.images[i]) for i in range(rows.start, rows.stop)]
        except InputError as error:
            return error
        return torch.stack(batch).contiguous(memory_format=torch.channels_last)


def default_workers(device: torch.device) -> int:
    """Decoding processes for a model on `device`.

    The CPU cores that this process can use, less one for itself. Where the model runs on them
    too and keeps them busy, a quarter: none of two or three, as one more would only delay it.
    """
    cores = cpu_count() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(_MOST_WORKERS, cores // 4 if device.type == "cpu" else max(1, cores - 1))


@contextmanager
def _arithmetic(device: torch.device, precision: str) -> Iterator[None]:
    """Autocast to `precision`; fp32 is fp32, without TF32; running out of memory is bad input."""
    try:
        with (
            torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
            torch.autocast(device.type, PRECISIONS[precision], enabled=precision != "fp32"),
        ):
            yield
    except torch.OutOfMemoryError as error:
        raise InputError(f"{device} has too little memory; lower --batch_size") from error
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise InputError(
            "a process that decodes images was killed, probably for its memory; lower "
            "--num_workers (0: none) or --batch_size"
        ) from error


def _checked(rows: np.ndarray, precision: str, title: str) -> np.ndarray:
    wrong = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(wrong):
        advice = "; try --precision bf16, which has a wider range" * (precision == "fp16")
        raise DataError(
            f"{len(wrong)} embeddings are not finite, the first that of image {wrong[0]} "
            f"of {title or 'the split'}{advice}"
        )
    return rows
