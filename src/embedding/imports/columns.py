"""Which column of a table, or key of an .npz file, is what: as said, or by its usual name."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from src.core.errors import DataError, InputError, UnknownNameError
from src.embedding import persons
from src.embedding.persons import column_name

EMBEDDING, LABEL, SPLIT, PERSON = ROLES = ("embedding", "label", "split", "person")
ALL = "*"  # as embedding: all columns that are nothing else
USUAL: dict[str, set[str]] = {  # as `column_name` writes them
    EMBEDDING: {
        *("embedding", "embeddings", "emb", "embs", "feature", "features", "feat", "feats"),
        *("representation", "representations", "vector", "vectors", "dim", "f", "x"),
    },
    LABEL: {
        *("label", "labels", "class", "classes", "target", "targets", "y"),
        *("diagnosis", "dx", "category"),
    },
    SPLIT: {"split", "splits", "fold", "subset", "partition"},
    PERSON: persons.NAMES,
}
MOST_NAMED = 10  # columns in a message
_NUMBERED = re.compile(r"(.*?)[\s._\-\[(]*(\d+)[\])]?")  # feat_12, feat12, feat[12], 12


class Found(NamedTuple):
    """The numbers of columns, None where there is none, and of all others (`rest`)."""

    label: int | None
    split: int | None
    person: int | None
    rest: list[int]


def parse(words: Iterable[str]) -> dict[str, str]:
    """`label=dx` and the like: what is said of columns; `person=` says that there is none.

    Raises:
        InputError: a word is not of that form, or names a role that does not exist, or twice.
    """
    said: dict[str, str] = {}
    for word in words:
        role, equals, name = word.partition("=")
        if not equals:
            raise InputError(f"--columns {word}: it must be ROLE=NAME, such as label=dx")
        if role not in ROLES:
            raise UnknownNameError("role in --columns", role, ROLES)
        if role in said:
            raise InputError(f"--columns: {role} is given twice")
        if not name and role in (EMBEDDING, LABEL):
            raise InputError(f"--columns {word}: it needs the name of a column")
        said[role] = name.strip()
    return said


def find(names: Sequence[str], said: Mapping[str, str], where: object) -> Found:
    """The columns that are no part of the embedding, by their names.

    Args:
        names: of all columns.
        said: the names of some, by role.
        where: the file, for errors.

    Raises:
        DataError: a column does not exist, or several could be meant.
    """
    single = {role: _single(names, role, said.get(role), where) for role in ROLES[1:]}
    taken = [i for i in single.values() if i is not None]
    if len(set(taken)) < len(taken):
        raise InputError(f"--columns: one column of {where} cannot be two things")
    rest = [i for i in range(len(names)) if i not in taken]
    return Found(single[LABEL], single[SPLIT], single[PERSON], rest)


def _single(names: Sequence[str], role: str, said: str | None, where: object) -> int | None:
    if said == "":
        return None
    if said is not None:
        return _named(names, role, said, where)
    found = [i for i, name in enumerate(names) if column_name(name) in USUAL[role]]
    if len(found) > 1:
        either = " and ".join(f"'{names[i]}'" for i in found)
        raise DataError(
            f"{where} has {either}, each of which could be the {role}; say which: --columns "
            f"{role}={names[found[0]]}"
        )
    return found[0] if found else None


def _named(names: Sequence[str], role: str, said: str, where: object) -> int:
    """The column of that name; written alike, if none is written so."""
    exact = [i for i, name in enumerate(names) if name == said]
    found = exact or [i for i, n in enumerate(names) if column_name(n) == column_name(said)]
    if len(found) != 1:
        what = "several columns" if found else "no column"
        close = difflib.get_close_matches(said, names, n=1)
        hint = f"; did you mean '{close[0]}'?" if close and not found else ""
        raise DataError(f"{where} has {what} '{said}'{hint} (--columns {role}={said}; it has: "
                        f"{some(names)})")  # fmt: skip
    return found[0]


def dimensions(
    names: Sequence[str], rest: list[int], said: str | None, where: object
) -> list[int]:
    """The column that holds whole vectors, or one per dimension, in the order of their numbers.

    Args:
        names, where: as for `find`.
        rest: the columns to choose from.
        said: their name, without the numbers; names separated by commas; or ALL.

    Raises:
        DataError: there are none, several could be meant, or a number is missing.
    """
    if said == ALL:
        return rest
    if said and "," in said:
        return [_named(names, EMBEDDING, name.strip(), where) for name in said.split(",")]
    families = _families(names, rest)
    wanted = {column_name(said)} if said else USUAL[EMBEDDING]
    whole = [i for i in rest if column_name(names[i]) in wanted]
    numbered = [family for stem, family in families.items() if stem in wanted]
    if not said and not whole and not numbered:  # any name, if there is only one such
        numbered = [family for family in families.values() if len(family) > 1]
    if len(whole) + len(numbered) > 1:
        either = [names[i] for i in whole] + [names[next(iter(f.values()))] for f in numbered]
        raise DataError(
            f"{where}: the embedding could be {' or '.join(map(repr, either))}; say which: "
            "--columns embedding=NAME, the name without the number"
        )
    if numbered:
        return _in_order(names, numbered[0], where)
    if not whole:
        what = f"has no column '{said}' or '{said}0'" if said else "does not say what is embedding"
        raise DataError(
            f"{where} {what}; --columns embedding=NAME says it, also of NAME0, NAME1, ..., and "
            f"embedding=* takes all that is nothing else (it has: {some(names)})"
        )
    return whole


def _families(names: Sequence[str], rest: list[int]) -> dict[str, dict[int, int]]:
    """Columns whose names are a number after the same stem: stem → number → column."""
    families: dict[str, dict[int, int]] = {}
    for i in rest:
        match = _NUMBERED.fullmatch(names[i])
        if match:
            family = families.setdefault(column_name(match[1]), {})
            number = int(match[2])
            family[number if number not in family else -1 - i] = i  # twice: told later
    return families


def _in_order(names: Sequence[str], family: Mapping[int, int], where: object) -> list[int]:
    numbers = sorted(family)
    if numbers[0] < 0:
        raise DataError(
            f"{where}: the number of column '{names[family[numbers[0]]]}' occurs twice"
        )
    if numbers[0] > 1 or numbers[-1] - numbers[0] + 1 != len(numbers):
        missing = next(n for n in range(min(numbers[0], 1), numbers[-1]) if n not in family)
        raise DataError(
            f"{where}: the columns up to '{names[family[numbers[-1]]]}' are not complete: number "
            f"{missing} is missing"
        )
    return [family[number] for number in numbers]


def some(names: Sequence[str]) -> str:
    """The first names, and how many more there are."""
    shown = ", ".join(name or "one without a name" for name in names[:MOST_NAMED])
    more = len(names) - MOST_NAMED
    return f"{shown}, and {more} more" if more > 0 else shown or "nothing"


def is_whole(text: str) -> bool:
    """Whether a text is a whole number."""
    return re.fullmatch(r"-?[0-9]+", text) is not None
