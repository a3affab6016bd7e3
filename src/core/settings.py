"""Settings: frozen dataclasses whose fields carry their help and their valid range.

One declaration serves the flag, the key in a sweep's YAML, the name of a file and its record.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import MISSING, dataclass
from typing import Any, Self, get_args, get_type_hints

from src.core.errors import InputError, UnknownNameError
from src.core.files import value_name

WORDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a name"}


def setting(  # noqa: PLR0913 - what a field can say, each by its name
    help: str,
    default: Any = MISSING,
    *,
    tag: str | None = None,
    minimum: float | None = None,
    above: float | None = None,
    maximum: float | None = None,
    fitted: bool = True,
    choices: tuple[str, ...] = (),
) -> Any:
    """A field of a settings class.

    Args:
        help: one line, with the unit or the symbol.
        default: without one, the setting is required.
        tag: prefix of a non-default value in a release's id (None: the field's name; "" where
            the value says enough, as in `ksame-5`).
        minimum: smallest valid value.
        above: exclusive lower bound.
        maximum: largest valid value.
        fitted: False where fitting does not depend on it, so that one fit serves all its values.
        choices: the valid values of a text.
    """
    metadata = {
        "help": help,
        "tag": tag,
        "minimum": minimum,
        "above": above,
        "maximum": maximum,
        "fitted": fitted,
        "choices": choices,
    }
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Base of all settings; every value is checked when an instance is made."""

    @classmethod
    def parse(cls, values: Mapping[str, Any], *, of: str) -> Self:
        """Settings from names and values, as flags or YAML give them.

        Raises:
            InputError: a name is unknown, a required value missing, or a value out of range.
        """
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for name in values:
            if name not in fields:
                raise UnknownNameError(f"setting of {of}", name, fields)
        for name, field in fields.items():
            if field.default is MISSING and values.get(name) is None:
                raise InputError(f"{of} needs --{name}: {field.metadata['help']}")
        return cls(**{name: value for name, value in values.items() if value is not None})

    def __post_init__(self) -> None:
        hints = get_type_hints(type(self))
        for field in dataclasses.fields(self):
            value = _typed(field.name, getattr(self, field.name), hints[field.name])
            object.__setattr__(self, field.name, value)  # 1 becomes 1.0: equal names for equals
            if isinstance(value, bool) or value is None:
                continue
            if isinstance(value, str):
                if value not in field.metadata["choices"]:
                    raise UnknownNameError(field.name, value, field.metadata["choices"])
                continue
            minimum, above, maximum = map(field.metadata.get, ("minimum", "above", "maximum"))
            if minimum is not None and not value >= minimum:
                raise InputError(f"--{field.name} {value} is below its minimum, {minimum}")
            if above is not None and not value > above:
                raise InputError(f"--{field.name} {value} must be greater than {above}")
            if not abs(value) < float("inf"):
                raise InputError(f"--{field.name} {value} must be finite")
            if maximum is not None and not value <= maximum:
                raise InputError(f"--{field.name} {value} is above its maximum, {maximum}")

    def for_fit(self) -> Self:
        """These settings with the defaults for all that a fit does not depend on."""
        sampling = {
            f.name: f.default for f in dataclasses.fields(self) if not f.metadata["fitted"]
        }
        return dataclasses.replace(self, **sampling)

    @property
    def given(self) -> dict[str, Any]:
        """The required settings and those that differ from their default, by name."""
        values = {f.name: (getattr(self, f.name), f.default) for f in dataclasses.fields(self)}
        return {name: value for name, (value, default) in values.items() if value != default}

    @property
    def tags(self) -> list[str]:
        """The parts of a file's name that tell these settings from others."""
        fields = {field.name: field for field in dataclasses.fields(self)}
        parts = []
        for name, value in self.given.items():
            tag = fields[name].metadata["tag"]
            tag = name if tag is None else tag
            parts.append(tag if value is True else f"{tag}{value_name(value)}")
        return parts


def _typed(name: str, value: Any, hint: Any) -> Any:
    """The value in the type that `hint` asks for; only a whole number for a number changes."""
    kinds = get_args(hint) or (hint,)  # `float | None` is either
    if type(value) is int and float in kinds:
        return float(value)
    if type(value) not in kinds:
        raise InputError(f"--{name} is {value!r}; it must be {WORDS[kinds[0]]}")
    return value
