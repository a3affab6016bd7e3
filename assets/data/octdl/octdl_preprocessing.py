"""Prepare OCTDL's images: train/val/test by patient, padded, cropped and resized as asked.

    python assets/data/octdl/octdl_preprocessing.py --input assets/data/octdl

reads OCTDL/<class>/<file_name>.jpg and OCTDL_labels.csv (Kulyabin et al., Scientific Data 2024,
doi 10.1038/s41597-024-03182-7) and writes dataset_1/{train,val,test}/<class>/.
"""

from __future__ import annotations

import argparse
import csv
import logging
import re
import shutil
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))  # run as a file from anywhere

from src import cli
from src.core.errors import DataError, MissingFileError, OutputError
from src.core.files import building, reading

if TYPE_CHECKING:
    from PIL.Image import Image

CLASSES = ("AMD", "DME", "ERM", "NO", "RAO", "RVO", "VID")
HELD_OUT = 0.4  # of the patients of a class; the rest is train
TEST = 0.625  # of the patients held out; the rest is val

log = logging.getLogger(__name__)


class Row(NamedTuple):
    """An image, by the columns of the labels file that are used."""

    file_name: str
    disease: str
    patient_id: str


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = cli.Parser(__doc__)
    parser.add_argument(
        "--input",
        type=Path,
        default=Path("assets/data/octdl"),
        metavar="DIR",
        help="folder that holds OCTDL/ and OCTDL_labels.csv (default: %(default)s)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        default=Path("assets/data/octdl/dataset_1"),
        metavar="DIR",
        help="folder to make (default: %(default)s)",
    )
    whole, positive = cli.number(int, minimum=0), cli.number(int, minimum=1)
    ratio = cli.number(float, above=0)
    parser.add_argument("--pad_square", action="store_true", help="pad with black to a square")
    parser.add_argument(
        "--crop_ratio", type=ratio, metavar="R", help="keep the central R of width and height"
    )
    parser.add_argument("--resize", type=positive, metavar="N", help="to N x N px (Lanczos)")
    parser.add_argument("--seed", type=whole, default=42, help="default: %(default)s")
    args = parser.parse(argv)
    if args.crop_ratio and args.crop_ratio > 1:
        parser.error(f"--crop_ratio {args.crop_ratio} is above 1")
    if args.seed >= 2**32:
        parser.error(f"--seed {args.seed} is above {2**32 - 1}")
    return args


def main(argv: Sequence[str] | None = None) -> None:
    """Split, transform and write the images."""
    args = arguments(argv)
    if args.output.exists():
        raise OutputError(f"{args.output} exists; remove it, or give another --output")
    splits = split_patients(read_labels(args.input / "OCTDL_labels.csv"), args.seed)
    change = partial(
        transform, pad_square=args.pad_square, crop_ratio=args.crop_ratio, resize=args.resize
    )
    as_is = not any(change.keywords.values())
    write(splits, args.input / "OCTDL", args.output, None if as_is else change)
    for split, rows in splits.items():
        counts = Counter(row.disease for row in rows)
        print(f"{split:5} {len(rows):5}  " + "  ".join(f"{c} {counts[c]}" for c in CLASSES))


def read_labels(path: Path) -> list[Row]:
    """The rows of the labels file, in its order.

    Blanks at the ends of a cell do not count, and `100` and `100.0` are one patient.

    Raises:
        MissingFileError: the file does not exist.
        DataError: it is not such a table, lists an image twice, or has a class that is not one of
            OCTDL's.
    """
    if not path.exists():
        raise MissingFileError(
            f"{path} does not exist; fetch OCTDL (doi.org/10.1038/s41597-024-03182-7) and unpack "
            f"it so that {path} and {path.parent / 'OCTDL'} exist"
        )
    with (
        reading(path, "is not a readable CSV file"),
        path.open(newline="", encoding="utf-8-sig") as file,
    ):
        reader = csv.DictReader(file)
        columns, table = reader.fieldnames or [], list(reader)
    for column in Row._fields:
        if column not in columns:
            raise DataError(f"{path} has no column '{column}' (it has: {', '.join(columns)})")
    rows = [_row(entry, f"{path}, row {row}") for row, entry in enumerate(table, start=2)]
    if not rows:
        raise DataError(f"{path} has no rows")
    counts = Counter(row.file_name for row in rows)
    twice = [name for name, count in counts.items() if count > 1]
    if twice:
        first, second = [n for n, row in enumerate(rows, start=2) if row.file_name == twice[0]][:2]
        raise DataError(
            f"{path} lists {len(twice)} images more than once, the first '{twice[0]}' in rows "
            f"{first} and {second}; a picture in two rows can be in two splits: keep one of them"
        )
    return rows


def _row(entry: dict[str, str | None], where: str) -> Row:
    cells = {column: (entry.get(column) or "").strip() for column in Row._fields}
    missing = [column for column, cell in cells.items() if not cell]
    if missing:
        raise DataError(f"{where}: no value in column '{missing[0]}'")
    if cells["disease"] not in CLASSES:
        known = ", ".join(CLASSES)
        raise DataError(f"{where}: disease '{cells['disease']}' is not one of {known}")
    patient = cells["patient_id"]
    if re.fullmatch(r"\d+(\.0*)?", patient):  # as spreadsheets and pandas write numbers
        patient = str(int(patient.partition(".")[0]))
    return Row(cells["file_name"], cells["disease"], patient)


def split_patients(rows: list[Row], seed: int) -> dict[str, list[Row]]:
    """Train 0.60, val 0.15 and test 0.25 of the patients of each class.

    Patients of a class are split in order of first appearance, classes in the order of CLASSES,
    all from one random stream (as Di Salvo et al., BMVC 2024, prepare these images).

    Raises:
        DataError: a class has too few patients for three parts.
    """
    import numpy as np
    from sklearn.model_selection import train_test_split

    stream = np.random.RandomState(seed)
    splits: dict[str, list[Row]] = {"train": [], "val": [], "test": []}
    for disease in CLASSES:
        ours = [row for row in rows if row.disease == disease]
        patients = list(dict.fromkeys(row.patient_id for row in ours))
        try:
            train, rest = train_test_split(patients, test_size=HELD_OUT, random_state=stream)
            val, test = train_test_split(rest, test_size=TEST, random_state=stream)
        except ValueError as error:
            raise DataError(
                f"{disease} has {len(patients)} patients, too few to split into three"
            ) from error
        for split, members in (("train", train), ("val", val), ("test", test)):
            splits[split] += [row for row in ours if row.patient_id in members]
    ids = Counter(i for part in splits.values() for i in {row.patient_id for row in part})
    shared = sum(count > 1 for count in ids.values())
    if shared:
        log.info("%d patients have several diseases and so are in more than one split", shared)
    return splits


def write(
    splits: dict[str, list[Row]],
    source: Path,
    output: Path,
    change: Callable[[Image], Image] | None,
) -> None:
    """Write `output`/<split>/<class>/, whole or not at all.

    Without `change` images are copied as they are; with it they become PNG, which loses nothing.

    Raises:
        MissingFileError, DataError: an image is missing or damaged.
        OutputError: `output` cannot be written.
    """
    from src.core.progress import bar
    from src.embedding.datasets.base import ImageFiles

    work = [(split, row) for split, rows in splits.items() for row in rows]
    files = [source / row.disease / f"{row.file_name}.jpg" for _, row in work]
    for file in files:
        if not file.is_file():
            raise MissingFileError(f"image {file} does not exist, but the labels file lists it")
    images = ImageFiles(files)
    with building(output) as temporary:
        for index, (split, row) in enumerate(bar(work, unit=" images")):
            folder = temporary / output.name / split / row.disease
            folder.mkdir(parents=True, exist_ok=True)
            target = folder / files[index].name
            if change:
                change(images[index]).save(target.with_suffix(".png"))
            else:
                shutil.copyfile(files[index], target)


def transform(
    image: Image, pad_square: bool, crop_ratio: float | None, resize: int | None
) -> Image:
    """Pad with black to a square, crop the centre, resize: in this order, each only if asked."""
    from PIL import Image, ImageOps

    if pad_square:
        side = max(image.size)
        image = ImageOps.pad(image, (side, side), color=0)
    if crop_ratio:
        width, height = (max(1, round(length * crop_ratio)) for length in image.size)
        left, top = (image.width - width) // 2, (image.height - height) // 2
        image = image.crop((left, top, left + width, top + height))
    if resize:
        image = image.resize((resize, resize), Image.Resampling.LANCZOS)
    return image


if __name__ == "__main__":
    cli.run(main)
