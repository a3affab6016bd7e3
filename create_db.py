"""Make a database of embeddings: <database_root>/<dataset>/<backbone>/{train,val,test}.npz.

python create_db.py --dataset breastmnist --backbone vit_base_patch14_dinov2.lvd142m
python create_db.py --dataset mine --backbone resnet50 --from embeddings.csv
python create_db.py --dataset mine --like BUNDLE
torchrun --nproc_per_node=2 create_db.py --dataset digits --backbone pixels
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from src import cli
from src.core.errors import InputError
from src.core.files import require_writable, shell_path
from src.database import Database, EmbeddingSet
from src.embedding import distributed
from src.embedding.persons import DICOM, FOLDER, NONE, Choice
from src.embedding.settings import ExtractionSettings

WITH_FROM = {  # flags that have no effect there, and why
    **dict.fromkeys(("weights", "precision", "like"), "it reads embeddings, without a backbone"),
    **dict.fromkeys(("image_size", "task", "window"), "it reads embeddings, not images"),
    **dict.fromkeys(("batch_size", "num_workers"), "it reads embeddings, not images"),
    "persons": "there --columns person=NAME says which column has them",
}
LIKE = ("backbone", "image_size", "precision", "window")  # flags that --like gives


@distributed.session()
def main(argv: Sequence[str] | None = None) -> None:
    """Embed images, or read embeddings that exist already, and write the three splits."""
    args = arguments(argv)
    database = Database(args.database_root, args.dataset, args.backbone)
    require_writable(database.folder)
    database.require_own()
    sets = imported(args) if args.files else embedded(args, database.folder)
    if distributed.rank() == 0:
        for split, data in sets.items():
            print(f"{database.write(split, data)}: {len(data)} rows, {data.dim} dimensions")

        from src.embedding import keeping  # torch from here on

        keeping.forget(database.folder)


def embedded(args: argparse.Namespace, folder: Path) -> dict[str, EmbeddingSet]:
    """Read the images, load the backbone, embed the three splits.

    What is finished is kept below the folder, for a run that is interrupted.
    """
    from src.embedding import backbones, datasets, extraction, keeping  # torch from here on

    device = distributed.device(args.device)
    with distributed.rank_zero_first():  # what it downloads, the others find
        images = datasets.load(
            args.dataset,
            root=args.dataset_root,
            image_size=args.image_size,
            task=args.task,
            window=args.window,
            persons=Choice(args.persons, by_person=args.split == "person"),
        )
        backbone = backbones.load(
            args.backbone,
            images,
            device=device,
            image_size=images.model_size(args.image_size),
            weights=args.weights,
        )
    settings, size = cli.settings_of(args, ExtractionSettings), args.image_size
    if args.like:
        facts = {"dataset": images.facts, "backbone": backbone.facts}
        args.like.check(settings.precision, facts, backbone.dim)
    kept = keeping.kept(folder, backbone, settings, size)
    return extraction.embed(args.dataset, images, backbone, settings, image_size=size, kept=kept)


def imported(args: argparse.Namespace) -> dict[str, EmbeddingSet]:
    """Read the files' rows, and split them where they are not split."""
    from src.embedding import imports

    settings = imports.Settings(args.columns, args.split == "person", args.drop_copies)
    return imports.load(args.files, settings, dataset=args.dataset, backbone=args.backbone)


def arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line.

    Raises:
        InputError: it is invalid, or a flag would have no effect.
    """
    parser = cli.Parser(__doc__)
    cli.add_data_flags(parser)
    cli.add_device_flag(parser)
    cli.add_images_flag(parser)
    add_image_flags(parser)
    add_person_flags(parser)
    add_import_flags(parser)
    cli.add_settings_flags(parser, ExtractionSettings)
    args = parser.parse(argv)
    given = [name for name, value in vars(args).items() if value != parser.get_default(name)]
    for name in given if args.files else ():
        if name in WITH_FROM:
            raise InputError(f"--{name} has no effect with --from: {WITH_FROM[name]}")
    if "columns" in given and not args.files:
        raise InputError("--columns has no effect without --from")
    return like_bundle(parser, argv) if args.like else args


def like_bundle(parser: cli.Parser, argv: Sequence[str] | None) -> argparse.Namespace:
    """The command line with what --like says in the place of flags that are not given.

    Raises:
        InputError: the bundle cannot be read, or a flag contradicts it.
    """
    defaults = {name: parser.get_default(name) for name in LIKE}
    parser.set_defaults(**dict.fromkeys(LIKE))
    args = parser.parse(argv)

    from src.bundle.likeness import Likeness  # torch from here on

    args.like = Likeness(args.like)
    found = args.like.settings({name: getattr(args, name) for name in LIKE})
    for name, value in found.items():
        setattr(args, name, defaults[name] if value is None else value)
    return args


def add_image_flags(parser: cli.Parser) -> None:
    """What images are, and the weights of the backbone."""
    size, grey = cli.number(int, minimum=1), cli.number(float)
    parser.add_argument("--task", type=cli.plain_name, help="task of a MedIMeta dataset")
    parser.add_argument("--weights", type=Path, metavar="FILE", help="a local checkpoint")
    parser.add_argument("--image_size", type=size, metavar="N", help="height and width, pixels")
    text = (
        "grey values that become black and white, of own images of more than 8 bits "
        "(default: percentiles of train)"
    )
    parser.add_argument("--window", type=grey, nargs=2, metavar=("LOW", "HIGH"), help=text)
    text = "a bundle whose backbone, precision, image size and window are taken and compared"
    parser.add_argument("--like", type=Path, metavar="DIR", help=text)


def add_person_flags(parser: cli.Parser) -> None:
    """Whose the rows are, and splits that keep each person's together."""
    text = (
        f"whose each image is: a table with columns file and person; '{FOLDER}': the folder "
        f"below the class; '{DICOM}': its PatientID; '{NONE}': leave it unknown"
    )
    parser.add_argument(
        "--persons",
        type=lambda text: text if text in (FOLDER, DICOM, NONE) else shell_path(text),
        metavar=f"FILE|{FOLDER}|{DICOM}|{NONE}",
        help=text,
    )
    text = "put all splits together and make them again, each person in one only"
    parser.add_argument("--split", choices=("person",), help=text)


def add_import_flags(parser: cli.Parser) -> None:
    """Files of embeddings instead of images."""
    parser.add_argument(
        "--from",
        dest="files",
        type=Path,
        nargs="+",
        default=[],
        metavar="FILE",
        help="embeddings instead of images: .csv, .tsv, .npz, .parquet, or .npy and its labels",
    )
    parser.add_argument(
        "--columns",
        nargs="+",
        default=[],
        metavar="ROLE=NAME",
        help="which column of these files is what: embedding, label, split, person",
    )


if __name__ == "__main__":
    cli.run(main)
