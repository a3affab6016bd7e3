"""Checkpoints as other programs write them: what they are, and their arrays under timm's names.

Wrappers (`state_dict`, `model`, `teacher`, …), prefixes (`module.`, `backbone.`, `_orig_mod.`, …),
Meta's blocks in chunks, and the vision transformers of transformers (ViT, DINOv2).
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path

import torch
from torch import Tensor

from src.core.errors import DataError, MissingFileError
from src.core.files import reading

# The keys below which a checkpoint holds its arrays, in the order of preference.
WRAPPERS = (
    *("state_dict_ema", "model_ema", "teacher", "ema", "state_dict", "model_state_dict"),
    *("model_state", "model", "module", "network", "net", "backbone", "encoder", "weights"),
)
# What trains a network and is not part of its features, by the first part of its names.
HEADS = re.compile(
    r"((\w*_)?heads?(_\w+)?|fc|classifier|pooler|projector|predictor|prototypes|mask_token|criterion|"
    r"\w*loss\w*|queue\w*|center)(\.|$)"
)
LEADING = re.compile(
    r"((module|_orig_mod|model|teacher|student|ema|net|network|encoder|backbone|vit|"
    r"dinov2(_with_registers)?)\.)+"
)
TRANSFORMERS = (  # names of transformers' ViT and DINOv2: pattern, what Meta and timm write
    (r"embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"embeddings\.position_embeddings$", "pos_embed"),
    (r"embeddings\.(cls_token|mask_token|register_tokens)$", r"\1"),
    (r"encoder\.layer\.(\d+)\.", r"blocks.\1."),
    (r"attention\.attention\.(query|key|value)\.", r"attn.\1."),
    (r"attention\.output\.dense\.", "attn.proj."),
    (r"intermediate\.dense\.", "mlp.fc1."),
    (r"(blocks\.\d+\.)output\.dense\.", r"\1mlp.fc2."),
    (r"layernorm_before\.", "norm1."),
    (r"layernorm_after\.", "norm2."),
    (r"layer_scale([12])\.lambda1$", r"ls\1.gamma"),
    (r"mlp\.weights_in\.", "mlp.w12."),
    (r"mlp\.weights_out\.", "mlp.w3."),
    (r"(^|\.)layernorm\.", r"\1norm."),
)


def read(file: Path) -> dict[str, Tensor]:
    """The arrays of a checkpoint (safetensors or torch's format, whatever its suffix), in order.

    Raises:
        MissingFileError: it does not exist.
        DataError: it is something else, damaged, or holds pickled objects.
    """
    start = require_weights(file)
    try:
        if start[8:9] == b"{":
            from safetensors.torch import load_file

            return load_file(file)
        with torch.serialization.safe_globals([argparse.Namespace]):  # of timm's trainer
            content = torch.load(file, map_location="cpu", weights_only=True)
    except MemoryError as error:
        raise DataError(f"{file} does not fit into memory") from error
    except Exception as error:  # damaged bytes can make anything fail
        if "weights_only" in str(error):  # torch advises to load them all the same
            raise DataError(
                f"cannot load {file}: it holds pickled objects, which could do anything, or no "
                "arrays at all; save the arrays alone: torch.save(checkpoint['state_dict'], FILE)"
            ) from error
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise DataError(f"cannot load {file}: truncated or damaged ({reason})") from error
    return _unwrapped(file, content)


def require_weights(file: Path) -> bytes:
    """The first bytes of a file of weights.

    Raises:
        MissingFileError: it does not exist.
        DataError: it does not begin as weights do; says what it is.
    """
    if file.is_dir():
        raise MissingFileError(f"{file} is a folder; name the file of weights in it")
    if not file.is_file():
        raise MissingFileError(f"{file} does not exist")
    with reading(file, "cannot be read as weights"), file.open("rb") as opened:
        start = opened.read(512)
    text = start.lstrip().lower()
    if start.startswith(b"version https://git-lfs"):
        what = "a Git LFS pointer, not the weights themselves; fetch them: git lfs pull"
    elif text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        what = "a web page (HTML), not weights; download the file itself"
    elif not start:
        what = "empty"
    elif start[:4] == b"PK\3\4" and b".npy" in start:
        what = "an .npz of numpy arrays; weights in safetensors or torch's format are needed"
    elif start[8:9] == b"{" or start[:4] == b"PK\3\4" or start[:1] == b"\x80":
        return start
    else:
        what = f"not weights in safetensors or torch's format; it begins with {start[:12]!r}"
    raise DataError(f"{file} is {what}")


def _unwrapped(file: Path, content: object) -> dict[str, Tensor]:
    while isinstance(content, Mapping):
        inner = next((content[k] for k in WRAPPERS if isinstance(content.get(k), Mapping)), None)
        if inner is None:
            break
        content = inner
    found = {str(k): v for k, v in content.items()} if isinstance(content, Mapping) else {}
    arrays = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    if not arrays:
        names = ", ".join(list(found)[:5]) or type(content).__name__
        raise DataError(f"{file} holds no arrays that are weights (it holds: {names})")
    return arrays


def renamed(
    arrays: Mapping[str, Tensor], body: Collection[str]
) -> tuple[dict[str, Tensor], list[str]] | None:
    """The arrays under the model's names, and the names of those left out; None if most are not.

    Args:
        arrays: as the file names them.
        body: the model's names except its classifier's.
    """
    for variant in (dict(arrays), _chunks_joined(arrays), _from_transformers(arrays)):
        prefix = _prefix(variant, body)
        kept = {n.removeprefix(prefix): v for n, v in variant.items() if n.startswith(prefix)}
        if len(kept.keys() & set(body)) > len(body) / 2:  # timm renames a few itself
            return kept, [name for name in variant if not name.startswith(prefix)]
    return None


def _prefix(names: Collection[str], body: Collection[str]) -> str:
    """What stands before most of the model's names; a teacher's before a student's."""
    counts: Counter[str] = Counter()
    for name in names:
        parts = name.split(".")
        counts.update(
            ".".join([*parts[:i], ""]) for i in range(len(parts)) if ".".join(parts[i:]) in body
        )
    most = max(counts.values(), default=0)
    best = [prefix for prefix, count in counts.items() if count == most]
    return min(best, key=lambda prefix: ("teacher" not in prefix, len(prefix)), default="")


def _chunks_joined(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Meta's `blocks.<chunk>.<block>.` as `blocks.<block>.`."""
    return {re.sub(r"\bblocks\.\d+\.(\d+)\.", r"blocks.\1.", k): v for k, v in arrays.items()}


def _from_transformers(arrays: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The names of Meta and timm, with query, key and value in one array."""
    renamed = {}
    for name, value in arrays.items():
        for pattern, ours in TRANSFORMERS:
            name = re.sub(pattern, ours, name)
        renamed[name] = value
    for name in [name for name in renamed if ".attn.query." in name]:
        parts = [name.replace(".query.", f".{part}.") for part in ("query", "key", "value")]
        if all(part in renamed for part in parts):
            joined = torch.cat([renamed.pop(part) for part in parts])
            renamed[name.replace(".query.", ".qkv.")] = joined
    return renamed


def is_head(name: str) -> bool:
    """Whether an array may be left unused: a classifier's, a projector's, a student's."""
    return bool(HEADS.match(LEADING.sub("", name))) or name.startswith("student.")


def described(names: Collection[str]) -> str:
    """How a file calls its arrays, in few words."""
    kinds = list(dict.fromkeys(re.sub(r"\.\d+\..*|\.[^.]*$", "", name) for name in names))
    return ", ".join(f"'{kind}.…'" for kind in kinds[:4]) + ", …" * (len(kinds) > 4)


def misfit(file: str, backbone: str, names: Collection[str], body: Collection[str]) -> str:
    """What is said of a file that lacks arrays: how many, the first of each side, its names."""
    missing = [name for name in body if name not in names]
    others = [name for name in names if name not in body]
    more = f", and has {len(others)} others, the first '{others[0]}'" if others else ""
    return (
        f"{file} does not fit backbone '{backbone}': it lacks {len(missing)} of its "
        f"{len(body)} arrays, the first '{missing[0]}'{more}; it calls its arrays "
        f"{described(names)}"
    )
