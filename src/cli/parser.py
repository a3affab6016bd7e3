"""The parser of every script and tool: config files, and errors as one line."""

from __future__ import annotations

import argparse
import io
import logging
import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from src import __version__
from src.cli import values
from src.core import process
from src.core.configs import read_yaml
from src.core.errors import InputError, UnknownNameError, out_of_memory, reason

CHOICES = (
    "anonymizer",
    "release",
    "decoder",
    "bundle",
)  # flags that name whose settings are given


class Parser(argparse.ArgumentParser):
    """A parser whose errors are InputErrors and whose defaults can come from `--config FILE`."""

    def __init__(self, description: str | None) -> None:
        super().__init__(
            prog=_program(),
            description=description,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        self.register("type", Path, values.path)  # `~` and variables, in every path
        self.set_defaults(settings={})  # of the anonymizer, those that are given
        self.add_argument("--version", action="version", version=__version__)
        text = "YAML file of flag names and values"
        self.add_argument("--config", type=Path, metavar="FILE", help=text)
        self.add_argument("--quiet", action="store_true", help="no progress bars, no notes")

    def parse(self, argv: Sequence[str] | None = None) -> argparse.Namespace:
        """Parse `argv` over the config file's values.

        Raises:
            InputError: an unknown flag or config key, or a value that does not fit.
        """
        argv = list(sys.argv[1:] if argv is None else argv)
        # A config file stands for the same flags in front of the command line's, which then win.
        _require_text(argv)
        flags = self._config_flags(argv)
        _require_text(flags)
        args, unknown = self.parse_known_args([*flags, *argv])
        if unknown:
            known = [f for a in self._actions for f in a.option_strings if f.startswith("--")]
            raise UnknownNameError("argument", unknown[0], known)
        if args.quiet:
            os.environ["TQDM_DISABLE"] = "1"
        level = logging.WARNING if args.quiet else logging.INFO
        logging.basicConfig(level=level, format="%(message)s", force=True)
        for chatty in ("httpx", "httpx2", "PIL", "matplotlib"):
            logging.getLogger(chatty).setLevel(logging.WARNING)
        return args

    def error(self, message: str) -> NoReturn:
        """Report a usage error as every other error."""
        raise InputError(message)

    def _config_flags(self, argv: Sequence[str]) -> list[str]:
        """The config's flags; without its anonymizer's where the command line names another."""
        first = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
        first.add_argument("--config", type=values.path)
        for name in CHOICES:
            first.add_argument(f"--{name}")
        first.error = self.error  # type: ignore[method-assign]
        chosen = vars(first.parse_known_args(argv)[0])
        path = chosen.pop("config")
        if path is None:
            return []
        content = read_yaml(path, as_text=True)
        named = {name: text.lower() for name, text in chosen.items() if text is not None}
        theirs = {name: str(content[name]).lower() for name in CHOICES if content.get(name)}
        if not theirs and "anonymizer" in named:  # the settings are for the one that is named
            theirs = named
        actions = {f[2:]: a for a in self._actions for f in a.option_strings if f[:2] == "--"}
        flags: list[str] = []
        for key, value in content.items():
            if key not in actions or key in ("config", "help", "version"):
                raise UnknownNameError("config key", str(key), actions, f" in {path}")
            if named not in ({}, theirs) and (
                key in CHOICES or isinstance(actions[key], SettingAction)
            ):
                continue
            flags += _as_flags(path, key, value, actions[key])
        return [*flags, f"--config={path}"]  # ends a list, after which a file may be named


def _as_flags(path: Path, key: str, value: Any, action: argparse.Action) -> list[str]:
    """A config's entry as it would be written on the command line.

    Raises:
        InputError: a list for a flag that takes one value, a value for a switch, ...
    """
    if value is None:
        return []
    several = action.nargs not in (None, 0, "?")
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise InputError(
                f"{path}: {key} is {read_yaml(path)[key]!r}; it must be true or false"
            )
        return [f"--{key}"] * value
    texts = value if several and isinstance(value, list) else [value]
    if not all(isinstance(text, str) for text in texts):
        count = "one or more values" if several else "one value"
        raise InputError(f"{path}: {key} takes {count}, not {read_yaml(path)[key]!r}")
    if several:
        return [f"--{key}", *texts]
    return [f"--{key}={value}"]  # with "=" a negative number is not taken for a flag


def _require_text(words: Sequence[str]) -> None:
    """Raise InputError where a word cannot be written as UTF-8, or cannot be in a path at all."""
    for word in words:
        if "\0" in word:
            raise InputError(f"the argument '{word}' has a NUL character")
        try:
            word.encode()
        except UnicodeEncodeError as error:
            raise InputError(
                f"the argument '{word}' is not {sys.getfilesystemencoding()}; rename the file, or "
                "set PYTHONUTF8=1 where the names are UTF-8 and LANG is not"
            ) from error


class SettingAction(argparse.Action):
    """Collect the settings of an anonymizer that are given in `args.settings`, by field name."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        args: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> None:
        """Note one setting; a switch has no value."""
        value = True if self.nargs == 0 else values
        args.settings = {**args.settings, self.dest: value}


def _program() -> str | None:
    """`python -m src.<tool>` where a module was started; else argparse knows the name."""
    spec = sys.modules["__main__"].__spec__
    name = spec.name.removesuffix(".__main__") if spec else ""
    return f"python -m {name}" if name.partition(".")[0] in ("src", "benchmarks") else None


def run(main: Callable[[], object]) -> NoReturn:
    """Run a script's main and exit: 0, 2 with one line for bad input, 130 after Ctrl-C."""
    process.tune()
    _print_anything()
    hangup = getattr(signal, "SIGHUP", signal.SIGTERM)  # a closed terminal; not on Windows
    for number in (signal.SIGTERM, hangup):  # clean up as for Ctrl-C
        if signal.getsignal(number) is not signal.SIG_IGN:  # as under nohup
            signal.signal(number, lambda number, _: sys.exit(128 + number))
    try:
        status = main()
        sys.stdout.flush()
    except InputError as error:
        _fail(str(error))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output has gone, as in `... | head`
        _discard_output()
        sys.exit(141)
    except OSError as error:  # a folder that may not be entered, a name too long, a full disk
        _discard_output()
        where = error.filename or "output"
        _fail(f"{where}: {reason(error)}" if error.strerror else str(error))
    except (MemoryError, RuntimeError) as error:
        line = out_of_memory(error)
        if line is None:
            raise
        _fail(line)
    sys.exit(status if isinstance(status, int) else 0)


def _fail(message: str) -> NoReturn:
    line = " ".join(message.split())
    plain = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line)
    print(f"error: {plain}", file=sys.stderr)
    sys.exit(2)


def _print_anything() -> None:
    """Escape what the terminal's encoding does not have (→ in Latin-1, names that are not UTF-8).

    A result that is written must not end as an error because its line cannot be printed.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def _discard_output() -> None:
    """Let what is still buffered go nowhere; at exit Python would try to write it again."""
    with suppress(OSError):  # a stream that is not a file has nothing to be written
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
