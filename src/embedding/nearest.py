"""Names of backbones as other libraries write them, and the nearest of timm's."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

_SIZES = {"t": "tiny", "s": "small", "b": "base", "l": "large", "h": "huge", "g": "giant"}
_SHORT_VIT = re.compile(r"vit[-_]?([tsblhg])[-_/]?(\d+)(?!\d)")  # ViT-B/16, dinov2_vits14
_DEFAULT = "vit_base_patch14_dinov2"  # of several that are equally near
_MOST = 5


def nearest(name: str, valid: Iterable[str]) -> list[str]:
    """The valid names nearest to `name`, at most five.

    Those that contain all of its words (`facebook/dinov2-base` has `dinov2` and `base`), else
    those that are spelled alike.
    """
    written = _SHORT_VIT.sub(lambda m: f"vit_{_SIZES[m[1]]}_patch{m[2]}", name.lower())
    written = re.split("[:/]", written)[-1]
    words = _words(written)
    spelled = {v.lower(): v for v in valid}
    having = [v for v in spelled if _joined(v) == _joined(written)] or [
        v for v in spelled if words and all(_begins(word, v) for word in words)
    ]

    def rank(candidate: str) -> tuple[int, bool, float, str]:
        whole = len(set(words) & set(_words(candidate)))
        likeness = difflib.SequenceMatcher(None, written, candidate).ratio()
        return -whole, candidate.partition(".")[0] != _DEFAULT, -likeness, candidate

    found = sorted(having, key=rank)[:_MOST]
    return [spelled[v] for v in found or difflib.get_close_matches(written, spelled, n=_MOST)]


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+\d*|\d+", text)


def _joined(text: str) -> str:
    return "".join(_words(text))


def _begins(word: str, candidate: str) -> bool:
    return any(theirs.startswith(word) for theirs in _words(candidate))
