"""What protecting persons costs instead of rows, and what a promise to rows is worth to them.

python -m benchmarks.persons

Two datasets in which each person has five rows:

- `digits`: each handwritten digit is a person, whose pixels are repeated and jittered.
- `lesions`: drawn pictures, 16 x 16 in colour. A person has a skin, and a lesion with a colour, a
  size and a shape; a photograph of it has a place, an angle, a light and grain of its own.
"""

from __future__ import annotations

import csv
import io
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from benchmarks import data
from src import cli
from src.anonymizers import ksame, methods
from src.anonymizers.base import Anonymizer
from src.audit import auditing
from src.audit.settings import AuditSettings
from src.core import devices, progress, tables
from src.core.devices import Resources
from src.core.files import write_text
from src.database import PERSON, ROW, EmbeddingSet, Splits
from src.probing import head, metrics
from src.probing.settings import HeadSettings

ROWS = 5  # of each person
JITTER = 0.1  # deviation of a repeated digit's pixels, which are 0..1
SIZE = 16  # pixels of a picture's side
PERSONS = {"train": 300, "val": 60, "test": 300}
HEADS = range(3)  # seeds, of whose heads the mean AUC is shown
COLUMNS = {  # of the table: the number's name, its heading, how it is written
    "persons_per_group": ("persons per group", ".1f"),
    "one_person": ("groups of one person", ".1%"),
    "rank1": ("found first", ".3f"),
    "outside": ("found first (persons outside)", ".3f"),
    "reid_auc": ("re-identification: AUC", ".3f"),
    "nearest": ("nearest neighbour: AUC", ".3f"),
    "auc": ("utility: AUC", ".2f"),
    "distance": ("distance", ".2f"),
}
HEADER = ["data", "release", *(heading for heading, _ in COLUMNS.values())]


class People(NamedTuple):
    """Splits with persons, and the share of the variance that is between persons."""

    splits: Splits
    effect: float


def digits() -> People:
    """The digits, each a person with `ROWS` jittered rows; no person is in two splits."""
    rng, made, first = np.random.default_rng(0), {}, 0
    for name, part in vars(data.digits()).items():
        rows = part.embeddings.repeat(ROWS, axis=0)
        rows = rows + JITTER * rng.standard_normal(rows.shape, np.float32)
        persons = first + np.arange(len(part)).repeat(ROWS)
        made[name] = _shuffled(rows, part.labels.repeat(ROWS), persons, rng)
        first += len(part)
    return _people(made)


def lesions() -> People:
    """Drawn pictures of persons' lesions, as the backbone `pixels` embeds them."""
    rng, made, first = np.random.default_rng(0), {}, 0
    for name, count in PERSONS.items():
        labels = np.arange(count) % 2
        rows = np.concatenate([_photographs(int(label), rng) for label in labels])
        persons = first + np.arange(count).repeat(ROWS)
        made[name] = _shuffled(rows, labels.repeat(ROWS), persons, rng)
        first += count
    return _people(made)


def _photographs(label: int, rng: np.random.Generator) -> np.ndarray:
    """`ROWS` pictures of one person's lesion (ROWS, 3 SIZE²) float32; label 1 is malignant."""
    skin = np.array([0.85, 0.65, 0.55]) * rng.uniform(0.6, 1.1) + rng.normal(0, 0.03, 3)
    spot = skin * rng.uniform(0.35, 0.7) + rng.normal(0, 0.05, 3)
    radius, stretch = rng.uniform(3, 5) + 0.6 * label, rng.uniform(1, 1.4) + 0.25 * label
    waves, phase = rng.normal(0, 0.05 + 0.12 * label, 3), rng.uniform(0, 2 * np.pi, 3)
    pictures = []
    for _ in range(ROWS):
        centre, turn = SIZE / 2 - 0.5 + rng.normal(0, 0.7, 2), rng.normal(0, 0.3)
        y, x = np.indices((SIZE, SIZE)) - centre[:, None, None]
        along, across = x * np.cos(turn) - y * np.sin(turn), x * np.sin(turn) + y * np.cos(turn)
        angle = np.arctan2(across, along)[..., None]
        border = radius * (1 + (waves * np.cos((2, 3, 5) * angle + phase)).sum(-1))
        inside = 1 / (1 + np.exp(2 * (np.hypot(along / stretch, across) - border)))
        picture = skin + inside[..., None] * (spot - skin)
        picture = picture * rng.uniform(0.9, 1.1) + rng.normal(0, 0.03, picture.shape)
        pictures.append(picture.clip(0, 1).reshape(-1))
    return np.stack(pictures).astype(np.float32)


def _shuffled(
    rows: np.ndarray, labels: np.ndarray, persons: np.ndarray, rng: np.random.Generator
) -> EmbeddingSet:
    order = rng.permutation(len(rows))
    return EmbeddingSet(rows[order], labels[order], persons=persons[order])


def _people(made: dict[str, EmbeddingSet]) -> People:
    splits = Splits(**made)
    assert splits.train.persons is not None
    rows, (_, whose) = (
        splits.train.embeddings,
        np.unique(splits.train.persons, return_inverse=True),
    )
    means = np.stack([rows[whose == person].mean(0) for person in range(whose.max() + 1)])
    return People(splits, float(means[whose].var(0).sum() / rows.var(0).sum()))


MAKERS: dict[str, Callable[[], People]] = {"digits": digits, "lesions": lesions}


def releases() -> list[Anonymizer]:
    """What is compared: each promise to rows beside the same to persons."""
    found: list[Anonymizer] = [methods.Identity()]
    for unit in (ROW, PERSON):
        found += [methods.KSame(k=k, unit=unit) for k in (2, 5)]
    found += [methods.DPGaussian(epsilon=4.0, unit=unit) for unit in (ROW, PERSON)]
    return found


def measured(splits: Splits, anonymizer: Anonymizer, resources: Resources) -> dict[str, float]:
    """The numbers of a release; of groups only where it has some."""
    train, device = splits.train, resources.device
    released = anonymizer.anonymize(train, splits.val, seed=0, resources=resources)
    options = AuditSettings(shadows=0, bootstrap=1)
    found = auditing.audit(
        splits, released, anonymizer, options, seed=0, resources=resources
    ).metrics
    rank, again = found["reidentification_rank1"], found["reidentification_auc"]
    aucs = []
    for seed in HEADS:
        fitted = head.fit(released, splits, HeadSettings(), seed=seed, device=device)
        aucs.append(head.evaluate(fitted, splits.test, seed=seed).auc)
    return {
        **(_groups(train, anonymizer, resources) if isinstance(anonymizer, methods.KSame) else {}),
        "rank1": _known(rank.value.value),
        "outside": _known(rank.chance.value),
        "reid_auc": _known(again.value.value),
        "nearest": _known(found["nearest_auc"].value.value),
        "auc": float(np.mean(aucs)),
        "distance": metrics.average_mindistance(released, train, device).mean,
    }


def _known(value: float | None) -> float:
    assert value is not None, "persons are too few to look for"
    return value


def _groups(
    train: EmbeddingSet, anonymizer: methods.KSame, resources: Resources
) -> dict[str, float]:
    """Of how many persons the groups are, and the share of those that are of one alone."""
    assert train.persons is not None
    made = ksame.groups(
        train.by(anonymizer.unit), anonymizer.k, per_class=False, resources=resources
    )
    persons = np.array([len(np.unique(train.persons[group])) for group in made])
    return {"persons_per_group": persons.mean(), "one_person": (persons == 1).mean()}


def title(anonymizer: Anonymizer) -> str:
    """`k-Same 5 of rows`, `dpgaussian, ε = 4 for each person`."""
    if isinstance(anonymizer, methods.KSame):
        return f"k-Same {anonymizer.k} of {anonymizer.unit}s"
    if isinstance(anonymizer, methods.DPGaussian):
        return f"dpgaussian, ε = {anonymizer.epsilon:g} for each {anonymizer.unit}"
    return anonymizer.name


def main(argv: Sequence[str] | None = None) -> None:
    """Measure all releases of both datasets; print and write the table."""
    parser = cli.Parser(__doc__)
    cli.add_device_flag(parser)
    parser.add_argument(
        "--output",
        type=cli.output_file({".csv": HEADER[0].encode()}),
        default=Path("assets/logs/persons.csv"),
        metavar="FILE",
        help="the table (default: %(default)s)",
    )
    args = parser.parse(argv)
    logging.disable(logging.WARNING)
    resources = devices.resources(args.device, None)
    lines = []
    for name, make in MAKERS.items():
        people = make()
        print(f"{name}: {people.effect:.0%} of the variance is between persons")
        for anonymizer in progress.bar(releases(), desc=name, unit="release"):
            found = measured(people.splits, anonymizer, resources)
            numbers = (
                format(found[key], form) if key in found else "–"
                for key, (_, form) in COLUMNS.items()
            )
            lines.append([name, title(anonymizer), *numbers])
    print(tables.markdown(HEADER, lines))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([HEADER, *lines])
    write_text(args.output, text.getvalue())


if __name__ == "__main__":
    cli.run(main)
