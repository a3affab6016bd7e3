"""Damaged and made-up inputs for every reader: accepted as equal, or refused in one line.

python -m benchmarks.fuzz --count 10000 --seed 1

Bundles, .npz files, checkpoints and results are changed at random, byte by byte and in what they
say; the same seed and count give the same inputs. An input fails that ends in anything but its
own content or one line, that needs more than 1 GiB of memory, or more than 10 seconds.
"""

from __future__ import annotations

import json
import logging
import math
import random
import resource
import shutil
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks import changes
from src import cli
from src.anonymizers import methods
from src.anonymizers.base import Sampled
from src.bundle import contents, datasheet, privacy
from src.cli.values import number
from src.core import records
from src.core.devices import Resources
from src.core.errors import InputError
from src.database import EmbeddingSet, read, write
from src.networks import checkpoints
from src.networks.training import Fit
from src.probing import results

MEMORY, SECONDS = 1 << 30, 10.0  # that an input may take
SHORT = {"hidden_dim": 4, "latent_dim": 2}
MADE: dict[str, dict[str, Any]] = {
    "ksame": {"k": 2},
    "cvae": {"num_epochs": 1, **SHORT},
    "dpcvae": {"epsilon": 4.0, "epochs": 1, "sampling_rate": 1.0, **SHORT},
}
DEPENDS_ON = {"seed": 1}


class Target(NamedTuple):
    """A kind of input: the originals, how they are changed, and what must hold of each change."""

    originals: Sequence[Path]
    change: Callable[[Path, random.Random], None]
    check: Callable[[Path, Path], bool]  # changed, original → whether it was accepted


class Failure(NamedTuple):
    """An input that is neither accepted as equal nor refused in one line."""

    name: str  # of the target, and the number of the input
    why: str


def run(count: int, seed: int, folder: Path) -> tuple[Counter[str], list[Failure]]:
    """Try `count` inputs, as many of each target.

    Args:
        folder: where originals and inputs are written.

    Returns:
        How many were accepted and refused of each target, and what failed.
    """
    targets = made(folder / "originals")
    seen: Counter[str] = Counter()
    failures = []
    with limited(MEMORY), _unheard(checkpoints.log, records.log):
        for number in range(count):
            name = list(targets)[number % len(targets)]
            outcome = _try(targets[name], random.Random(f"{seed}/{number}"), folder / "input")
            if isinstance(outcome, bool):
                seen[f"{name} {'accepted' if outcome else 'refused'}"] += 1
            else:
                failures.append(Failure(f"{name} {number}", outcome))
    return seen, failures


def _try(target: Target, rng: random.Random, place: Path) -> bool | str:
    """Change an original and look at it: whether it was accepted, or why it failed."""
    original = rng.choice(target.originals)
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    changed = place / original.name
    (shutil.copytree if original.is_dir() else shutil.copy)(original, changed)
    target.change(changed, rng)
    start = time.perf_counter()
    try:
        accepted = target.check(changed, original)
    except InputError as error:
        line = str(error)
        if "\n" in line or "memory: " in line:
            return f"refused with {line!r:.300}"
        accepted = False
    except Exception:
        return traceback.format_exc()
    seconds = time.perf_counter() - start
    return f"took {seconds:.0f} seconds" if seconds > SECONDS else accepted


@contextmanager
def limited(memory: int) -> Iterator[None]:
    """Let this process take only so many bytes more than it has, where the system can say."""
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    taken = 0
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        taken = pages * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (taken + memory, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


@contextmanager
def _unheard(*logs: logging.Logger) -> Iterator[None]:
    """Keep what is logged of each input from the screen."""
    for log in logs:
        log.propagate = False
        log.addHandler(logging.NullHandler())
    try:
        yield
    finally:
        for log in logs:
            log.propagate = True


# The originals.


def made(folder: Path) -> dict[str, Target]:
    """All targets, their originals written into `folder`."""
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    train, val = (
        EmbeddingSet(
            rng.random((30, 3), np.float32),
            np.arange(30) % 3,
            {"dataset": "d", "backbone": "resnet18", "class_names": ["a", "b", "c"]},
        )
        for _ in range(2)
    )
    bundles = [_bundle(folder / name, name, train, val) for name in MADE]
    arrays = [folder / "plain.npz", folder / "dense.npz"]
    write(arrays[0], train)
    write(arrays[1], EmbeddingSet(train.embeddings.round(), train.labels, train.meta))
    checkpoint = folder / "model.safetensors"
    fit = Fit(epochs=3, best_epoch=2, best_loss=0.5, seconds=1.0)
    checkpoints.save(checkpoint, _model().state_dict(), DEPENDS_ON, fit)
    result = folder / "result.json"
    records.write(result, RESULT)
    bare = folder / "older.json"
    bare.write_text(json.dumps(RESULT))
    return {
        "bundle": Target(bundles, changes.bundle, _check_bundle),
        "npz": Target(arrays, changes.npz, _check_npz),
        "checkpoint": Target([checkpoint], changes.safetensors, _check_checkpoint),
        "result": Target([result, bare], changes.json_file, _check_result),
    }


RESULT = {
    "format": 1, "dataset": "d", "id": "ksame-2", "settings": {"k": 2}, "head": {}, "seed": 0,
    "sigma": None, "inputs": {"train": "0123456789abcdef", "release": None}, "auc": 98.5,
    "accuracy": 90.25, "balanced_accuracy": 90, "average_mindistance": 0.5, "seconds": 1.5,
    "epochs": 7, "versions": {"python": "3"},
}  # fmt: skip
ESTIMATE = {"value": 0.5, "low": None, "high": 1}
AUDIT = {
    "seed": 0, "audit": {"shadows": 2}, "sizes": {"members": 5}, "notes": ["few rows"],
    "figures": {"nearest_auc": dict.fromkeys(datasheet.ESTIMATES, ESTIMATE)},
}  # fmt: skip


def _bundle(folder: Path, name: str, train: EmbeddingSet, val: EmbeddingSet) -> Path:
    """The bundle of a release of these rows."""
    anonymizer = methods.parse(name, MADE[name])
    resources = Resources(torch.device("cpu"), folder.parent / "ckpts")
    released = anonymizer.anonymize(train, val, seed=0, resources=resources)
    rows = datasheet.public_rows(released, "d", "resnet18")
    decoder = None
    if isinstance(anonymizer, Sampled):
        decoder = anonymizer.decoder(train, val, seed=0, resources=resources)
    quoted = [{**RESULT, "id": anonymizer.release_id(0)}]
    given = datasheet.remarks("Random rows.", "CC0-1.0", {"image_size": 8}, quoted, [AUDIT])
    seed = 0 if anonymizer.seeded else None
    sheet = datasheet.compose(rows, decoder, anonymizer, given, seed=seed)
    contents.write(folder, contents.Bundle(rows, decoder, sheet))
    return folder


def _model() -> torch.nn.Module:
    model = torch.nn.Linear(32, 8)
    with torch.no_grad():
        for number, weights in enumerate(model.parameters()):
            weights.fill_(number + 0.5)
    return model


# What must hold. Each raises InputError where the input is refused.


def _check_bundle(changed: Path, original: Path) -> bool:
    bundle = contents.read(changed)
    anonymizer = datasheet.method_of(bundle.sheet)
    if isinstance(anonymizer, methods.DPCVAE):
        privacy.check_epsilon(anonymizer, bundle.rows)
    again = changed.with_name("again")
    contents.write(again, bundle)
    for path in changed.iterdir():
        assert path.read_bytes() == (again / path.name).read_bytes(), f"{path.name} differs"
    sums = (changed / contents.SUMS).read_bytes(), (original / contents.SUMS).read_bytes()
    if sums[0] == sums[1]:  # without new sums nothing can be changed
        assert _files(changed) == _files(original)
    return True


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def _check_npz(changed: Path, original: Path) -> bool:
    data, before = read(changed), read(original)
    if (changed.parent / changes.REPACKED).exists():  # another file, with sums of its own
        with np.load(changed) as plain:
            assert np.array_equal(data.embeddings, plain["embeddings"].astype(np.float32))
            assert np.array_equal(data.labels, plain["labels"].reshape(-1))
    else:
        assert (data.fingerprint, data.meta) == (before.fingerprint, before.meta)
    write(changed.with_name("again.npz"), data)  # what is read can be written, and read again
    assert read(changed.with_name("again.npz")).fingerprint == data.fingerprint
    return True


def _check_checkpoint(changed: Path, original: Path) -> bool:
    lines: list[logging.LogRecord] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lines.append  # type: ignore[method-assign, assignment]
    checkpoints.log.addHandler(handler)
    model, fitted = torch.nn.Linear(32, 8), []

    def fit() -> Fit:
        fitted.append(True)
        return Fit(epochs=1, best_epoch=1, best_loss=1.0, seconds=1.0)

    try:
        checkpoints.restore_or_fit(model, changed, DEPENDS_ON, fit)
    finally:
        checkpoints.log.removeHandler(handler)
    assert len(lines) <= 1
    assert all("\n" not in line.getMessage() for line in lines)
    for ours, theirs in zip(model.parameters(), _model().parameters(), strict=True):
        assert fitted or torch.equal(ours, theirs)
    return not fitted


def _check_result(changed: Path, original: Path) -> bool:
    content = results.whole(records.read(changed, {}))
    if content is None:
        return False
    assert content == json.loads(changed.read_text(encoding="utf-8"))
    assert all(math.isfinite(content[name]) for name in results.UTILITY)
    if records.SUM in content:
        ours, theirs = (
            {key: value for key, value in record.items() if key not in records.TIMED}
            for record in (content, RESULT)
        )
        assert ours == theirs
    records.write(changed, content)
    return True


def main(argv: Sequence[str] | None = None) -> int:
    """Try inputs, print how they ended, and exit with 1 where one failed."""
    parser = cli.Parser(__doc__)
    cli.add_seed_flag(parser)
    whole = number(int, minimum=1)
    parser.add_argument(
        "--count", type=whole, default=500, metavar="N", help="inputs (default: 500)"
    )
    args = parser.parse(argv)
    with tempfile.TemporaryDirectory() as folder:
        seen, failures = run(args.count, args.seed, Path(folder))
    for name, inputs in sorted(seen.items()):
        print(f"{inputs:8d}  {name}")
    for failure in failures:
        print(f"FAILED {failure.name}: {failure.why}")
    return 1 if failures else 0


if __name__ == "__main__":
    cli.run(main)
