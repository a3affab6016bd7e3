"""Data sets: name → the three splits.

To add one: a module with `load(...) -> ImageSplits` beside this one, its name in NAMES and a case
in `load`. Nothing heavy is imported before a name is known to be valid.
"""

from __future__ import annotations

from pathlib import Path

from src.datasets import medimeta, medmnist_sets
from src.datasets.base import ImageSplits
from src.errors import InputError, MissingFileError, UnknownNameError

TORCHVISION = ("aircraft", "dtd", "oxford-pets", "stl10")
NAMES = ("digits", "octdl", *TORCHVISION, *medmnist_sets.FLAGS, *medimeta.TASKS)
OCTDL_SCRIPT = "assets/data/octdl/octdl_preprocessing.py"


def names(root: Path) -> list[str]:
    """Every name `load` knows: the built-in ones and what `root` and `root/medimeta` hold."""
    own = {path.parent.name for path in root.glob("*/train")}
    own |= {path.parent.name for path in root.glob("medimeta/*/info.yaml")}
    return sorted(own | set(NAMES))


def require_known(name: str, root: Path) -> None:
    """Raise UnknownNameError if `load` knows no such data set, without loading any."""
    if name not in names(root):
        raise _unknown(name, root)


def load(
    name: str, *, root: Path, image_size: int | None = None, task: str | None = None
) -> ImageSplits:
    """The three splits of a data set; what is missing is downloaded where that is possible.

    Args:
        name: one of `names(root)`, or with `task` any MedIMeta id.
        root: the folder that data sets are in.
        image_size: the size in px in which MedMNIST comes; no matter to the others.
        task: the MedIMeta task whose labels are used.

    Raises:
        UnknownNameError: there is no such data set or task.
        InputError: the data set does not come in that size, or has no tasks.
        MissingFileError: files are missing and cannot be downloaded; says where to put which.
        DataError: files are damaged or contradict each other.
    """
    if name in medimeta.TASKS or (task and name not in NAMES):
        return medimeta.load(name, root, task)
    if task:
        raise InputError(f"--task {task}: only MedIMeta's data sets have tasks, {name} has none")
    if name == "digits":
        from src.datasets import digits

        return digits.load()
    if name in TORCHVISION:
        from src.datasets import torchvision_sets

        return torchvision_sets.load(name, root)
    if name in medmnist_sets.FLAGS or name in medmnist_sets.UNSUITED:
        return medmnist_sets.load(name, root, image_size)
    return _from_folder(name, root)


def _from_folder(name: str, root: Path) -> ImageSplits:
    from src.datasets import folders

    if name == "octdl":
        prepared = root / "octdl" / "dataset_1"
        if not prepared.is_dir():
            raise MissingFileError(
                f"{prepared} does not exist; fetch OCTDL (doi.org/10.1038/s41597-024-03182-7) "
                f"and prepare it with: python {OCTDL_SCRIPT} --output {prepared}"
            )
        return folders.load(prepared)
    if (root / name).is_dir() and name not in ("medimeta", "medmnist"):
        return folders.load(root / name)
    if (root / "medimeta" / name / "info.yaml").exists():
        return medimeta.load(name, root, None)
    raise _unknown(name, root)


def _unknown(name: str, root: Path) -> UnknownNameError:
    own = f"; own images go to {root / name}/{{train,val,test}}/<class>/"
    return UnknownNameError("dataset", name, names(root), own)
