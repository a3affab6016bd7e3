"""Images through a backbone: the embeddings of a dataset."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.queues import Queue
from typing import Any

import numpy as np
import torch
from joblib import cpu_count  # type: ignore[import-untyped]
from PIL import Image
from torch.utils.data import DataLoader, Dataset, get_worker_info

from src.core import progress
from src.core.errors import DataError, InputError, reason
from src.database import SPLITS, EmbeddingSet
from src.embedding import copies, distributed
from src.embedding.assembling import Part, assemble
from src.embedding.backbones import Backbone
from src.embedding.copies import Embedded
from src.embedding.datasets.base import ImageSet, ImageSplits
from src.embedding.datasets.finding import first_of
from src.embedding.keeping import Kept
from src.embedding.settings import ExtractionSettings

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
_MOST_WORKERS = 8  # each holds two batches in memory


def embed(
    dataset: str,
    images: ImageSplits,
    backbone: Backbone,
    options: ExtractionSettings,
    *,
    image_size: int | None = None,
    kept: Kept | None = None,
) -> dict[str, EmbeddingSet]:
    """Embed all splits; `meta` says what they were made from, and how.

    Args:
        kept: what is embedded already; nothing is kept without it.

    Raises:
        InputError: an image cannot be read, an embedding is not finite, memory runs out, or the
            disk has no room for what is kept.
    """
    parts = {}
    kept = kept or Kept()
    kept.require_room(sum(len(getattr(images, split)) for split in SPLITS), backbone.dim)
    for split in SPLITS:
        part: ImageSet = getattr(images, split)
        embedded = extract_marked(part, backbone, options, split, kept)
        parts[split] = Part(embedded, part.labels, part.persons)
    shared = {
        "dataset": dataset,
        "backbone": backbone.name,
        "class_names": images.class_names,
        "image_size": image_size,
        "precision": options.precision,
        "device": backbone.device.type,
        "facts": {"dataset": images.facts, "backbone": backbone.facts},
    }
    return assemble(parts, shared, drop_copies=options.drop_copies, noun="images")


def extract(
    images: ImageSet, backbone: Backbone, options: ExtractionSettings, *, title: str = ""
) -> np.ndarray:
    """Embed n images: (n, D) float32, in their order; see `extract_marked`."""
    return extract_marked(images, backbone, options, title, Kept()).rows


def extract_marked(
    images: ImageSet, backbone: Backbone, options: ExtractionSettings, title: str, kept: Kept
) -> Embedded:
    """Embed n images, in their order, and mark each by its content.

    Under torchrun each process embeds a run of whole batches, the same ones that a single process
    would form, so that rounding does not depend on the number of processes; all get all rows.

    Args:
        title: of the progress bar.
        kept: what is embedded already, and is to be kept.

    Raises:
        InputError: images cannot be read (the first, and how many of this process's), an embedding
            is not finite, memory runs out.
    """
    batches = Batches(images, backbone.transform, options.batch_size)
    processes = distributed.world_size()
    bounds = [len(batches) * rank // processes for rank in range(processes + 1)]
    share = range(*bounds[distributed.rank() : distributed.rank() + 2])
    rows = torch.empty(len(images), backbone.dim, device=backbone.device)
    marks = torch.empty(len(images), 2, dtype=torch.int64, device=backbone.device)
    failures: list[InputError] = []
    places = {b: batches.rows(b) for b in share}
    total = sum(place.stop - place.start for place in places.values())
    missing = kept.restore(images, places, rows, marks, title)
    done = total - sum(places[b].stop - places[b].start for b in missing)
    with (
        torch.inference_mode(),
        _arithmetic(backbone.device, options.precision),
        progress.bar(desc=title, total=total, initial=done, unit=" rows") as bar,
    ):
        loader = _loader(batches, list(missing), backbone.device, options.num_workers)
        for index, batch in _readable(missing, loader, failures):
            # Nothing here waits for a CUDA device: the rows stay there until they are kept.
            on_device, place = batch.to(backbone.device, non_blocking=True), places[index]
            rows[place] = backbone.model(on_device)
            marks[place] = copies.marks(on_device)
            kept.add(missing[index], rows[place], marks[place])
            bar.update(len(batch))
    kept.end_split()
    if failures:
        raise first_of(failures, f"{total} images of {title or 'the split'}")
    for values in (rows, marks):
        distributed.share(values, [min(b * options.batch_size, len(images)) for b in bounds])
    checked = _checked(rows.cpu().numpy(), options.precision, title)
    return Embedded(checked, marks.cpu().numpy())


@dataclass(frozen=True)
class Batches(Dataset["torch.Tensor | np.ndarray | list[InputError]"]):
    """The batches of a split: item b is (size, c, h, w) float32, or the errors that prevent it.

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

    def __getitem__(self, index: int) -> torch.Tensor | np.ndarray | list[InputError]:
        rows = self.rows(index)
        batch: list[torch.Tensor] = []
        errors: list[InputError] = []
        for i in range(rows.start, rows.stop):
            try:
                batch.append(self.transform(self.images[i]))
            except InputError as error:
                errors.append(error)
        if errors:
            return errors
        stacked = torch.stack(batch).contiguous(memory_format=torch.channels_last)
        if get_worker_info() is None:
            return stacked
        try:
            return stacked.share_memory_()
        except RuntimeError:  # too little shared memory, as in containers: through the pipe then
            return stacked.numpy()


def _readable(
    numbers: Iterable[int],
    loader: Iterable[torch.Tensor | np.ndarray | list[InputError]],
    failures: list[InputError],
) -> Iterator[tuple[int, torch.Tensor]]:
    """The batches with their numbers, until one fails: then how many do is still to be said."""
    for index, loaded in zip(numbers, loader, strict=True):
        if isinstance(loaded, list):
            failures += loaded
        elif not failures:
            batch = torch.as_tensor(loaded)
            yield index, batch.contiguous(memory_format=torch.channels_last)


def _loader(
    batches: Batches, share: Sequence[int], device: torch.device, num_workers: int | None
) -> DataLoader[torch.Tensor | np.ndarray | list[InputError]]:
    """Load the batches with these numbers, decoded in other processes where that helps."""
    workers = default_workers(device) if num_workers is None else num_workers
    if workers and len(share):
        batches.images.images[0]  # read a shared file before the processes start, once
    return DataLoader(
        batches,
        batch_size=None,  # the dataset's items are whole batches
        sampler=share,
        num_workers=min(workers, len(share)),
        pin_memory=device.type == "cuda",
        collate_fn=_as_it_is,  # by default it makes tensors of arrays, in shared memory
        worker_init_fn=_end_where_a_batch_is_lost,
    )


def _as_it_is(batch: Any) -> Any:
    return batch


def _end_where_a_batch_is_lost(worker: int) -> None:
    """Have a worker end that cannot send a batch (too many open files, no memory).

    Python only prints the error, and the process that waits for the batch would wait for ever.
    """
    Queue._on_queue_feeder_error = staticmethod(  # type: ignore[attr-defined]
        lambda error, batch: os._exit(1)
    )


def default_workers(device: torch.device) -> int:
    """The number of processes that decode images for a model on `device`.

    All CPU cores that this process can use except one for itself. Where the model keeps them busy
    too, a quarter of them: none of two or three, as one more process would only delay the model.
    """
    cores = cpu_count() // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return min(_MOST_WORKERS, cores // 4 if device.type == "cpu" else max(1, cores - 1))


@contextmanager
def _arithmetic(device: torch.device, precision: str) -> Iterator[None]:
    """Autocast to `precision`, without TF32 in fp32; what the machine lacks is bad input."""
    try:
        with (
            torch.backends.cudnn.flags(enabled=True, deterministic=True, allow_tf32=False),
            torch.autocast(device.type, PRECISIONS[precision], enabled=precision != "fp32"),
        ):
            yield
    except torch.OutOfMemoryError as error:
        raise InputError(f"{device} has too little memory; lower --batch_size") from error
    except (OSError, RuntimeError) as error:
        words = ("DataLoader worker", "open files", "ancdata")  # of a pipe that breaks
        if isinstance(error, RuntimeError) and not any(word in str(error) for word in words):
            raise
        _release(error)
        why = "one has ended; memory, shared memory (docker run --shm-size) or open files are few"
        if isinstance(error, OSError):
            why = reason(error)
        raise InputError(
            f"images cannot be decoded in other processes: {why}; what helps: --num_workers 0, "
            "which needs none, or a smaller --batch_size"
        ) from error


def _release(error: Exception) -> None:
    """End the other processes now, without what a DataLoader that has failed then prints."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    traceback.clear_frames(error.__traceback__)
    sys.unraisablehook = hook


def _checked(rows: np.ndarray, precision: str, title: str) -> np.ndarray:
    wrong = np.flatnonzero(~np.isfinite(rows).all(axis=1))
    if len(wrong):
        advice = "; try --precision bf16, which has a wider range" * (precision == "fp16")
        raise DataError(
            f"{len(wrong)} embeddings are not finite, the first is that of image {wrong[0]} "
            f"of {title or 'the split'}{advice}"
        )
    return rows
