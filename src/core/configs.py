"""YAML files: values mean what they look like, and nothing in them is lost in silence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from src.core.errors import DataError, InputError, reason


class _Texts(yaml.SafeLoader):
    """YAML in which all is text except `true`, `false` and nothing; no key may occur twice."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012 - as PyYAML declares it

    def compose_mapping_node(self, anchor: Any) -> Any:
        """Compose a mapping, of which PyYAML would keep the last of equal keys.

        Raises:
            InputError: a key occurs twice.
        """
        node = super().compose_mapping_node(anchor)
        lines: dict[str, int] = {}
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                line = key.start_mark.line + 1
                if key.value in lines:
                    both = f"lines {lines[key.value]} and {line}"
                    raise InputError(f"the key '{key.value}' occurs twice ({both})")
                lines[key.value] = line
        return node


class _Values(_Texts):
    """The same, in which what looks like a decimal number is one.

    By PyYAML's own rules (YAML 1.1) `010` is 8, `1:30` is 90, `no` is False and `1e-1` is text.
    """


_DECIMAL = r"[-+]?(0|[1-9][0-9]*)"
_FLOAT = rf"({_DECIMAL}(\.[0-9]*)?|[-+]?\.[0-9]+)([eE][-+]?[0-9]+)?|[-+]?\.inf|\.nan"
for _kind, _tag, _form, _first in (  # the tag, how it is written, how that can begin
    (_Texts, "bool", "true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    (_Texts, "null", "null|Null|NULL|", ["n", "N", ""]),
    (_Texts, "merge", "<<", ["<"]),
    (_Values, "int", _DECIMAL, [*"-+0123456789"]),
    (_Values, "float", _FLOAT, [*"-+.0123456789"]),
):
    _kind.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"(?:{_form})$"), _first)


def read_yaml(path: Path, *, as_text: bool = False) -> dict[str, Any]:
    """Read a YAML file that holds a mapping.

    Args:
        as_text: leave numbers as they are written.

    Raises:
        DataError: it is absent, not YAML, not a mapping, or has a key twice.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.load(text, _Texts if as_text else _Values)
    except InputError as error:
        raise DataError(f"{path}: {error}") from error
    except (OSError, UnicodeDecodeError) as error:
        why = reason(error) if isinstance(error, OSError) else "not text"
        raise DataError(f"cannot read config file {path}: {why}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: a huge number
        raise DataError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content or {}, dict):
        raise DataError(f"{path} must hold 'name: value' lines, not a {type(content).__name__}")
    return content or {}
