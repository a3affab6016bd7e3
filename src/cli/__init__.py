"""The command line: the parser, and the flags that scripts and tools share.

Nothing heavy is imported here, so that `--help` and a typo answer at once.
"""

from __future__ import annotations

import argparse
import dataclasses
import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints, overload

from src.anonymizers import methods
from src.anonymizers.base import Anonymizer
from src.cli.parser import Parser as Parser
from src.cli.parser import SettingAction
from src.cli.parser import run as run
from src.cli.values import PICTURES as PICTURES
from src.cli.values import backbone_name, device_name
from src.cli.values import new_folder as new_folder
from src.cli.values import number as number
from src.cli.values import output_file as output_file
from src.cli.values import plain_name as plain_name
from src.core.errors import InputError, MissingFileError
from src.core.settings import Settings
from src.database import IDENTITY, Database, read

A = TypeVar("A", bound=Anonymizer)
S = TypeVar("S", bound=Settings)


def add_data_flags(parser: Parser) -> None:
    """--dataset, --backbone and --database_root."""
    parser.add_argument("--dataset", type=plain_name, default="digits", help="default: digits")
    parser.add_argument(
        "--backbone",
        type=backbone_name,
        default="vit_base_patch14_dinov2.lvd142m",
        help="any timm model name, or 'pixels' (default: %(default)s)",
    )
    add_folder_flag(parser, "--database_root", "assets/database", "embeddings")


def add_seed_flag(parser: Parser) -> None:
    """--seed."""
    seed = number(int, minimum=0)
    parser.add_argument("--seed", type=seed, default=42, help="default: %(default)s")


def add_device_flag(parser: Parser) -> None:
    """--device."""
    parser.add_argument(
        "--device",
        type=device_name,
        default="auto",
        help="auto, cpu, cuda, cuda:N or mps (default: auto)",
    )


def add_folder_flag(parser: Parser, flag: str, default: str, content: str) -> None:
    """A flag that names a folder, such as --output_root."""
    text = f"{content} (default: %(default)s)"
    parser.add_argument(flag, type=Path, default=Path(default), metavar="DIR", help=text)


def add_images_flag(parser: Parser) -> None:
    """--dataset_root."""
    content = "images; what can be downloaded is, when missing"
    add_folder_flag(parser, "--dataset_root", "assets/data", content)


def add_sweep_flags(parser: Parser) -> None:
    """The sweep's file, and --datasets and --backbones instead of its own."""
    parser.add_argument("sweep", type=Path, metavar="CONFIG", help="YAML file of the sweep")
    for name, kind in (("dataset", plain_name), ("backbone", backbone_name)):
        parser.add_argument(
            f"--{name}s",
            type=kind,
            nargs="+",
            default=(),
            metavar=name[0].upper(),
            help=f"{name}s instead of the file's",
        )


def add_jobs_flags(parser: Parser, *, auto: bool = False) -> None:
    """--jobs or --scheduler: who does the work.

    Args:
        auto: whether `auto` is a number of jobs, and the default; it is parsed to None.
    """
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--jobs",
        type=_jobs_or_auto if auto else number(int, minimum=1),
        default=None if auto else 1,
        metavar="N",
        help="local processes that share the processor's cores (default: "
        + (
            "auto: one per core, where Dask is installed and there are enough runs)"
            if auto
            else "1)"
        ),
    )
    where.add_argument("--scheduler", metavar="ADDRESS", help="that of a running Dask cluster")


def _jobs_or_auto(text: str) -> int | None:
    """A number of processes; None for `auto`."""
    try:
        return None if text.lower() == "auto" else int(number(int, minimum=1)(text))
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}; or auto") from error


def add_sigma_flag(parser: Parser) -> None:
    """--sigma, one or more."""
    parser.add_argument(
        "--sigma",
        type=number(float, minimum=0),
        nargs="+",
        required=True,
        metavar="S",
        help="standard deviations of the noise on standardised test features",
    )


def add_settings_flags(parser: Parser, kind: type[Settings], **short: str) -> None:
    """A flag for each field of a settings class; `short` has their one-letter names."""
    group = parser.add_argument_group((kind.__doc__ or "").partition(":")[0])
    for field in dataclasses.fields(kind):
        letters = [f"-{short[field.name]}"] if field.name in short else []
        switch = type(field.default) is bool
        options = {"action": "store_true"} if switch else _value(kind, field)
        group.add_argument(
            *letters,
            f"--{field.name}",
            default=field.default,
            help=field.metadata["help"] + _defaults({"": field}),
            **options,
        )


def settings_of(args: argparse.Namespace, kind: type[S]) -> S:
    """The settings that the flags of `add_settings_flags` give."""
    return kind(**{field.name: getattr(args, field.name) for field in dataclasses.fields(kind)})


def add_anonymizer_flags(
    parser: Parser, choices: Mapping[str, type[Anonymizer]], *, default: str | None = None
) -> argparse._ActionsContainer:
    """--anonymizer and the settings of these methods; `args.settings` has those that are given.

    A setting whose flag is taken (`--learning_rate` of the head) is `--fit_<name>`.

    Returns:
        Where to add a flag that takes the place of --anonymizer, if that has a default.
    """
    place = parser if default is None else parser.add_mutually_exclusive_group()
    place.add_argument(
        "--anonymizer",
        default=default,
        required=default is None,
        metavar="NAME",
        help=f"{', '.join(choices)}, in any case" + (f" (default: {default})" if default else ""),
    )
    group = parser.add_argument_group("settings of the anonymizers")
    users: dict[str, dict[str, dataclasses.Field[Any]]] = {}  # setting → method → field
    for method in choices.values():
        for field in dataclasses.fields(method):
            users.setdefault(field.name, {})[method.name] = field
    taken = set(parser._option_string_actions)
    flags = {name: f"--fit_{name}" if f"--{name}" in taken else f"--{name}" for name in users}
    parser.set_defaults(setting_flags=flags)
    for name, fields in users.items():
        first, field = next(iter(fields.items()))
        group.add_argument(
            flags[name],
            dest=name,
            action=SettingAction,
            default=argparse.SUPPRESS,
            help=f"{', '.join(fields)}: {field.metadata['help']}{_defaults(fields)}",
            **_value(choices[first], field),
        )
    return place


@overload
def anonymizer_of(args: argparse.Namespace) -> Anonymizer: ...
@overload
def anonymizer_of(args: argparse.Namespace, choices: Mapping[str, type[A]]) -> A: ...
def anonymizer_of(
    args: argparse.Namespace, choices: Mapping[str, type[Anonymizer]] = methods.RELEASING
) -> Anonymizer:
    """The anonymizer that the flags of `add_anonymizer_flags` give.

    Raises:
        InputError: as `methods.parse`; settings have the names of their flags in it.
    """
    try:
        return methods.parse(args.anonymizer, args.settings, choices)
    except InputError as error:
        flags = {f"--{name}": flag for name, flag in args.setting_flags.items()}
        text = re.sub(r"--\w+", lambda found: flags.get(found[0], found[0]), str(error))
        raise InputError(text) from error


def _value(kind: type[Settings], field: dataclasses.Field[Any]) -> dict[str, Any]:
    """How a field's value is written; its class checks the range."""
    hint = get_type_hints(kind)[field.name]
    if hint is bool:
        return {"nargs": 0}
    if field.metadata["choices"]:
        return {"metavar": "|".join(field.metadata["choices"])}
    number_kind = (get_args(hint) or (hint,))[0]  # `float | None` is either
    return {"type": number(number_kind), "metavar": "N" if number_kind is int else "X"}


def _defaults(fields: Mapping[str, dataclasses.Field[Any]]) -> str:
    """What the help says of defaults: one for all methods, or each one's."""
    unset = (None, False, dataclasses.MISSING)
    given = {name: f.default for name, f in fields.items() if f.default not in unset}
    if len(set(given.values())) > 1:
        return f" (default: {', '.join(f'{value} {name}' for name, value in given.items())})"
    return f" (default: {next(iter(given.values()))})" if given else ""


def add_release_flags(parser: Parser) -> argparse._ActionsContainer:
    """--anonymizer and the settings that name its release, or --release ID.

    Returns:
        Where to add a flag that takes the place of both.
    """
    place = add_anonymizer_flags(parser, methods.RELEASING, default="identity")
    place.add_argument(
        "--release",
        type=plain_name,
        metavar="ID",
        help="instead of an anonymizer: train_ID.npz, made with other settings or elsewhere",
    )
    return place


def release_id(args: argparse.Namespace) -> str:
    """The id that the flags of `add_release_flags` name.

    Raises:
        InputError: settings beside --release, or settings that are invalid.
        MissingFileError: there is no such release, but one that was made with other settings.
    """
    if args.release:
        forbid_settings(args, "--release names a file, whatever it was made with")
        return str(args.release)
    anonymizer = anonymizer_of(args)
    if "database_root" in args and anonymizer.name != IDENTITY:
        _require_made(Database(args.database_root, args.dataset, args.backbone), anonymizer, args)
    return anonymizer.release_id(args.seed)


def _require_made(database: Database, wanted: Anonymizer, args: argparse.Namespace) -> None:
    """Raise MissingFileError where a release exists that other flags would name.

    The number of epochs that anonymize.py calls --num_epochs is --fit_num_epochs beside a head.
    """
    path = database.path("train", wanted.release_id(args.seed))
    end = f"-s{args.seed}.npz" if wanted.seeded else ".npz"
    others = {p.name: p for p in sorted(database.folder.glob(f"train_{wanted.name}-*{end}"))}
    if path.exists() or not others:
        return
    near = others[difflib.get_close_matches(path.name, others, n=1, cutoff=0)[0]]
    ours, theirs = dataclasses.asdict(wanted), read(near).meta.get("settings")
    flags = [
        _as_typed(flag, theirs[name])
        for name, flag in args.setting_flags.items()
        if isinstance(theirs, dict) and name in ours and theirs.get(name, ours[name]) != ours[name]
    ]
    if flags:
        heads = " (without fit_ it is not the anonymizer's)" if "--fit_" in "".join(flags) else ""
        raise MissingFileError(
            f"{path} does not exist; {near.name} does, which {' '.join(flags)} would name, or "
            f"--release {near.stem.removeprefix('train_')}{heads}"
        )


def _as_typed(flag: str, value: object) -> str:
    if isinstance(value, bool):
        return flag if value else f"no {flag}"
    return f"{flag} {value}"


def forbid_settings(args: argparse.Namespace, why: str) -> None:
    """Raise InputError where a setting is given that nothing would read."""
    for name, value in args.settings.items():
        raise InputError(f"{args.setting_flags[name]} {value} has no effect: {why}")
