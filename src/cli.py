"""The command line: shared flags, config files, and errors as one line.

Nothing heavy is imported here, so that `--help` and a typo answer at once.
"""

from __future__ import annotations

import argparse
import dataclasses
import logging
import os
import re
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn, get_args, get_type_hints

from src import anonymizers
from src.anonymizers import ANONYMIZERS, Anonymizer
from src.errors import InputError, UnknownNameError
from src.files import read_yaml
from src.head import HeadSettings

SETTING = "setting "  # begins the names that parsed settings of anonymizers are stored under
CHOICES = ("anonymizer", "release", "decoder")  # flags that name whose settings are given
LARGEST = 2**63 - 1  # of whole numbers: what an int64 holds
DEFAULT_BACKBONE = "vit_base_patch14_dinov2.lvd142m"


class Parser(argparse.ArgumentParser):
    """A parser whose errors are InputErrors and whose defaults can come from `--config FILE`."""

    def __init__(self, description: str | None) -> None:
        super().__init__(
            prog=_program(),
            description=description,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.add_argument("--config", metavar="FILE", help="YAML file of flag names and values")
        self.add_argument("--quiet", action="store_true", help="no progress bars, no notes")

    def parse(self, argv: Sequence[str] | None = None) -> argparse.Namespace:
        """Parse `argv` over the config file's values.

        Raises:
            InputError: an unknown flag or config key, or a value that does not fit.
        """
        argv = list(sys.argv[1:] if argv is None else argv)
        first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        for name in ("config", *CHOICES):
            first.add_argument(f"--{name}")
        first.error = self.error  # type: ignore[method-assign]
        chosen = vars(first.parse_known_args(argv)[0])
        config = chosen.pop("config")
        # A config file stands for the same flags in front of the command line's, which then win.
        given = [*self._flags_of(Path(config), chosen), *argv] if config else argv
        args, unknown = self.parse_known_args(given)
        if unknown:
            flags = [f for a in self._actions for f in a.option_strings if f.startswith("--")]
            raise UnknownNameError("argument", unknown[0], flags)
        if args.quiet:
            os.environ["TQDM_DISABLE"] = "1"
        logging.basicConfig(
            level=logging.WARNING if args.quiet else logging.INFO, format="%(message)s", force=True
        )
        for chatty in ("httpx", "httpx2", "PIL", "matplotlib"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        return args

    def error(self, message: str) -> NoReturn:
        """Report a usage error as every other error."""
        raise InputError(message)

    def _flags_of(self, path: Path, chosen: Mapping[str, str | None]) -> list[str]:
        """The config's flags; without its anonymizer's where `chosen` of CHOICES names another."""
        actions = {
            flag[2:]: action
            for action in self._actions
            for flag in action.option_strings
            if flag.startswith("--") and action.dest not in ("help", "config")
        }
        content = read_yaml(path)
        named = {name: text.lower() for name, text in chosen.items() if text is not None}
        theirs = {name: str(content[name]).lower() for name in CHOICES if content.get(name)}
        if not theirs and "anonymizer" in named:  # the settings are for the one that is named
            theirs = named
        flags: list[str] = []
        for key, value in content.items():
            if key not in actions:
                raise UnknownNameError("config key", str(key), actions, f" in {path}")
            if named not in ({}, theirs) and (
                key in CHOICES or actions[key].dest.startswith(SETTING)
            ):
                continue
            if actions[key].nargs == 0:
                if not isinstance(value, bool):
                    raise InputError(f"{path}: {key} is {value!r}; it must be true or false")
                negated = [f"--no-{key}"] if f"no-{key}" in actions else []
                flags += [f"--{key}"] if value else negated
            elif value is not None:
                # with "=" a negative number is not taken for a flag
                several = isinstance(value, list)
                flags += [f"--{key}", *map(str, value)] if several else [f"--{key}={value}"]
        return flags


def _program() -> str | None:
    """`python -m src.<tool>` where this was started so; else argparse knows the name."""
    package = getattr(sys.modules["__main__"].__spec__, "parent", "")
    return f"python -m {package}" if package.startswith("src.") else None


def run(main: Callable[[], object]) -> NoReturn:
    """Run a script's main and exit: 0, 2 with one line for bad input, 130 after Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # clean up as for Ctrl-C
    try:
        status = main()
        sys.stdout.flush()
    except InputError as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone, as in `... | head`
        _give_output_up()
        sys.exit(141)
    except OSError as error:  # a folder that may not be entered, a name too long, a full disk
        reason = f"{error.filename or 'output'}: {error.strerror}" if error.strerror else error
        print(f"error: {reason}", file=sys.stderr)
        _give_output_up()
        sys.exit(2)
    sys.exit(status if isinstance(status, int) else 0)


def _give_output_up() -> None:
    """Let what is buffered go nowhere: at the exit it would be tried to be written again."""
    with suppress(OSError):  # a stream that is no file has nothing to be written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


# Types of values. argparse shows an ArgumentTypeError's message after the flag's name.


def number(
    kind: type[int] | type[float], *, minimum: float | None = None, above: float | None = None
) -> Callable[[str], float]:
    """A finite number of that kind, at least `minimum`, greater than `above`."""
    name = "a whole number" if kind is int else "a number"

    def parse(text: str) -> float:
        try:
            value = kind(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"'{text}' is not {name}") from error
        if not abs(value) < float("inf"):
            raise argparse.ArgumentTypeError(f"{text} is not finite")
        if kind is int and value > LARGEST:
            raise argparse.ArgumentTypeError(f"{text} is above {LARGEST}")
        if minimum is not None and value < minimum:
            raise argparse.ArgumentTypeError(f"{text} is below {minimum}")
        if above is not None and value <= above:
            raise argparse.ArgumentTypeError(f"{text} is not greater than {above}")
        return value

    return parse


def device_name(text: str) -> str:
    """`auto`, `cpu`, `cuda`, `cuda:N` or `mps`; whether it is there is seen later."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?|mps", text):
        raise argparse.ArgumentTypeError(f"'{text}' is none of auto, cpu, cuda, cuda:N, mps")
    return text


def plain_name(text: str) -> str:
    """A name that can be one folder: not empty, no path in it."""
    if not text or text in (".", "..") or "/" in text or "\\" in text or "\0" in text:
        raise argparse.ArgumentTypeError(f"'{text}' is not a name (a path cannot be one)")
    return text


# Groups of flags.


def add_data_flags(parser: Parser, *, seed: bool = True) -> None:
    """--dataset, --backbone, --database_root, and --seed."""
    parser.add_argument(
        "--dataset", type=plain_name, default="digits", help="name (default: digits)"
    )
    parser.add_argument(
        "--backbone",
        default=DEFAULT_BACKBONE,
        help="any timm model name, or 'pixels' (default: %(default)s)",
    )
    add_database_flag(parser)
    if seed:
        parser.add_argument(
            "--seed", type=number(int, minimum=0), default=42, help="default: %(default)s"
        )


def add_database_flag(parser: Parser) -> None:
    """--database_root."""
    parser.add_argument(
        "--database_root",
        type=Path,
        default=Path("assets/database"),
        metavar="DIR",
        help="embedding databases (default: %(default)s)",
    )


def add_images_flag(parser: Parser) -> None:
    """--dataset_root."""
    parser.add_argument(
        "--dataset_root",
        type=Path,
        default=Path("assets/data"),
        metavar="DIR",
        help="images; what can be downloaded is, when missing (default: %(default)s)",
    )


def add_device_flag(parser: Parser) -> None:
    """--device."""
    parser.add_argument(
        "--device",
        type=device_name,
        default="auto",
        help="auto, cpu, cuda, cuda:N or mps (default: auto)",
    )


def add_ckpt_flag(parser: Parser) -> None:
    """--ckpt_root."""
    parser.add_argument(
        "--ckpt_root",
        type=Path,
        default=Path("assets/ckpts"),
        metavar="DIR",
        help="fitted models (default: %(default)s)",
    )


def add_output_flag(parser: Parser, default: str) -> None:
    """--output_root."""
    parser.add_argument(
        "--output_root",
        type=Path,
        default=Path(default),
        metavar="DIR",
        help="results (default: %(default)s)",
    )


def add_head_flags(parser: Parser) -> None:
    """--learning_rate, --num_epochs and --batch_size of the linear head."""
    head = parser.add_argument_group("linear head")
    head.add_argument(
        "-l",
        "--learning_rate",
        type=number(float, above=0),
        default=1e-3,
        help="Adam's learning rate (default: %(default)s)",
    )
    head.add_argument(
        "-e",
        "--num_epochs",
        type=number(int, minimum=1),
        default=100,
        help="most epochs (default: %(default)s)",
    )
    head.add_argument(
        "-b",
        "--batch_size",
        type=number(int, minimum=1),
        default=128,
        help="rows in a batch (default: %(default)s)",
    )


def head_settings(args: argparse.Namespace) -> HeadSettings:
    """The hyperparameters that the flags of `add_head_flags` give."""
    return HeadSettings(
        learning_rate=args.learning_rate, num_epochs=args.num_epochs, batch_size=args.batch_size
    )


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


def add_anonymizer_flags(
    parser: Parser, *, online: bool, default: str | None = None, only_tagged: bool = False
) -> argparse._ActionsContainer:
    """--anonymizer and the settings of all anonymizers of that kind.

    Args:
        only_tagged: keep to the settings that have a tag of their own in a release's id.

    Returns:
        Where to add a flag that takes the place of --anonymizer, if that has a default.
    """
    entries = [entry for entry in ANONYMIZERS.values() if entry.online == online]
    place = parser if default is None else parser.add_mutually_exclusive_group()
    place.add_argument(
        "--anonymizer",
        default=default,
        required=default is None,
        metavar="NAME",
        help=f"{', '.join(entry.name for entry in entries)}, in any case"
        + (f" (default: {default})" if default else ""),
    )
    group = parser.add_argument_group("settings of the anonymizers")
    users: dict[str, dict[str, Any]] = {}  # setting → anonymizer → field
    hints: dict[str, Any] = {}
    for entry in entries:
        hints |= get_type_hints(entry.settings)
        for field in dataclasses.fields(entry.settings):
            users.setdefault(field.name, {})[entry.name] = field
    for name, fields in users.items():
        metadata = next(iter(fields.values())).metadata
        if only_tagged and metadata["tag"] is None:
            continue
        kind: Any = {"action": argparse.BooleanOptionalAction}
        if hints[name] is not bool:
            numbers = get_args(hints[name]) or (hints[name],)  # `float | None` is either
            kind = {"type": number(numbers[0]), "metavar": name.upper()}
        text = f"{', '.join(fields)}: {metadata['help']}{_defaults(fields)}"
        group.add_argument(f"--{name}", dest=SETTING + name, default=None, help=text, **kind)
    return place


def _defaults(fields: Mapping[str, Any]) -> str:
    """What the help says of defaults: one for all anonymizers, or each one's."""
    unset = (None, dataclasses.MISSING)
    defaults = {name: f.default for name, f in fields.items() if f.default not in unset}
    if len(set(defaults.values())) > 1:
        return f" (default: {', '.join(f'{value} {name}' for name, value in defaults.items())})"
    return f" (default: {next(iter(defaults.values()))})" if defaults else ""


def chosen_anonymizer(args: argparse.Namespace, *, online: bool) -> tuple[Anonymizer, Any]:
    """The entry that --anonymizer names and its settings from the flags.

    Raises:
        InputError: it is unknown, a value is out of range or missing, or a flag was given that
            is no setting of it.
    """
    entry = anonymizers.get(args.anonymizer, online=online)
    own = [field.name for field in dataclasses.fields(entry.settings)]
    given = {}
    for dest, value in vars(args).items():
        if dest.startswith(SETTING) and value is not None:
            name = dest.removeprefix(SETTING)
            if name not in own:
                known = ", ".join(own) or "none"
                raise InputError(f"--{name} is no setting of {entry.name} (it has: {known})")
            given[name] = value
    return entry, entry.parse(given)


def forbid_settings(args: argparse.Namespace, why: str) -> None:
    """Raise InputError where a setting of an anonymizer is given that nothing would read."""
    for dest, value in vars(args).items():
        if dest.startswith(SETTING) and value is not None:
            raise InputError(f"--{dest.removeprefix(SETTING)} {value} cannot be given: {why}")


# What probing.py and probing_noise.py share.


def probing_parser(description: str | None, *, output_root: str) -> Parser:
    """Flags for a head on a release: an anonymizer's, or any file beside train.npz."""
    parser = Parser(description)
    add_data_flags(parser)
    add_device_flag(parser)
    add_output_flag(parser, output_root)
    add_head_flags(parser)
    place = add_anonymizer_flags(parser, online=False, default="identity", only_tagged=True)
    place.add_argument(
        "--release",
        type=plain_name,
        metavar="ID",
        help="instead of an anonymizer: train_ID.npz, made with other settings or elsewhere",
    )
    return parser


def probe_release(args: argparse.Namespace, sigmas: Sequence[float | None]) -> None:
    """Fit the head on the release that the flags name; write and print a result for each sigma.

    Raises:
        InputError: a flag, file or device cannot be used.
    """
    release_id = args.release
    if release_id is not None:
        forbid_settings(args, "--release names a file, whatever it was made with")
    else:
        anonymizer, settings = chosen_anonymizer(args, online=False)
        release_id = anonymizer.release_id(settings, args.seed)

    from src.database import Database, data_folder
    from src.files import require_writable

    database = Database(args.database_root, args.dataset, args.backbone)
    require_writable(data_folder(args.output_root, args.dataset, args.backbone))
    splits = database.splits()
    released = database.release(release_id, splits.train)

    from src import devices, runs

    run = runs.OfflineRun(
        database=database,
        splits=splits,
        released=released,
        release_id=release_id,
        head=head_settings(args),
        seed=args.seed,
        output_root=args.output_root,
    )
    resources = anonymizers.Resources(devices.resolve(args.device))
    print(*run.perform(sigmas, resources), sep="\n")
