"""Datasets: name → the three splits.

To add one: a module with `load(...) -> ImageSplits` beside this one, its name in NAMES and a case
in `load`. Nothing heavy is imported before a name is known to be valid.
"""

from __future__ import annotations

import logging
from pathlib import Path

from src.core.errors import InputError, MissingFileError, UnknownNameError
from src.embedding.datasets import medimeta, medmnist_sets
from src.embedding.datasets.base import ImageSplits
from src.embedding.persons import UNASKED, Choice

TORCHVISION = ("aircraft", "dtd", "oxford-pets", "stl10")
MEDMNIST = (*medmnist_sets.FLAGS, *medmnist_sets.UNSUITED)
NAMES = ("digits", "octdl", *TORCHVISION, *medmnist_sets.FLAGS, *medimeta.TASKS)
SHARED_FOLDERS = ("medimeta", "medmnist")  # of several datasets, so not datasets themselves
STORES = ("fgvc-aircraft-2013b", "oxford-iiit-pet", "stl10_binary")  # likewise, of torchvision
TAKEN = {*SHARED_FOLDERS, *STORES, *NAMES, *MEDMNIST}
OCTDL_SCRIPT = "assets/data/octdl/octdl_preprocessing.py"
OCTDL_LABELS = "OCTDL_labels.csv"

log = logging.getLogger(__name__)


def names(root: Path) -> list[str]:
    """Every name `load` knows: the built-in ones and those in `root` and `root/medimeta`."""
    own = {path.name for path in root.glob("[!.]*") if _is_own(path.name, root)}
    own |= {path.parent.name for path in root.glob("medimeta/*/info.yaml")}
    return sorted(own | set(NAMES))


def require_known(name: str, root: Path) -> None:
    """Raise UnknownNameError if `load` does not know this dataset, without loading it."""
    if name not in names(root):
        raise _unknown(name, root)


def load(
    name: str,
    *,
    root: Path,
    image_size: int | None = None,
    task: str | None = None,
    window: tuple[float, float] | None = None,
    persons: Choice = UNASKED,
) -> ImageSplits:
    """The three splits of a dataset; missing files are downloaded where that is possible.

    Args:
        name: one of `names(root)`, or with `task` any MedIMeta id.
        root: the folder that holds datasets.
        image_size: the size, in pixels, of MedMNIST's images; other datasets ignore it.
        task: the MedIMeta task whose labels are used.
        window: the grey values that become black and white, of own images of more than 8 bits.
        persons: where it is said whose the images are, and whether splits are made by person.

    Raises:
        UnknownNameError: the dataset or task does not exist.
        InputError: the name is a built-in one and that of an own folder; or the dataset does not
            come in that size, or has no tasks, no persons, or no use for a window.
        MissingFileError: files are missing and cannot be downloaded; says which go where.
        DataError: files are damaged or contradict each other.
    """
    _require_one_meaning(name, root)
    of_files = name == "octdl" or (_is_own(name, root) and not _is_medimeta(name, root, task))
    if window and not window[0] < window[1]:
        raise InputError("--window LOW HIGH: {:g} is not below {:g}".format(*window))
    if window and name in names(root) and not of_files:
        raise InputError(f"--window has no effect: '{name}' is not a folder of your own images")
    if _is_medimeta(name, root, task):
        return medimeta.load(name, root, task, persons)
    if task:
        raise InputError(f"--task {task}: only MedIMeta datasets have tasks; '{name}' has none")
    if persons.flags and name in names(root) and not of_files:
        raise InputError(f"{persons.flags} has no effect: '{name}' does not know persons")
    if name == "digits":
        from src.embedding.datasets import digits

        return digits.load()
    if name in TORCHVISION:
        from src.embedding.datasets import torchvision_sets

        return torchvision_sets.load(name, root)
    if name in MEDMNIST:
        return medmnist_sets.load(name, root, image_size)
    return _from_folder(name, root, window, persons)


def _is_medimeta(name: str, root: Path, task: str | None) -> bool:
    """Whether MedIMeta has it; of two folders of that name a task picks MedIMeta's."""
    if name in NAMES or name in MEDMNIST:
        return name in medimeta.TASKS
    there = (root / "medimeta" / name / "info.yaml").exists()
    if _is_own(name, root):
        return there and task is not None
    return there or task is not None


def _is_own(name: str, root: Path) -> bool:
    return name not in TAKEN and (root / name).is_dir()


def _require_one_meaning(name: str, root: Path) -> None:
    """Raise InputError where a folder of one's own has a name that is taken."""
    folder = Path(root, name)
    if name not in TAKEN or not folder.is_dir():
        return
    from src.embedding.datasets.finding import entries, is_folder, split_of

    found = [entry.name for entry in entries(folder) if is_folder(entry)]
    if name in ("octdl", "medimeta"):  # what lies in them has names of its own
        foreign = [inner for inner in found if split_of(inner)]
    else:
        foreign = [inner for inner in found if (name, inner) != ("dtd", "dtd")]
    if foreign and name not in STORES:
        raise InputError(
            f"'{name}' is ambiguous: the name is built in, and {folder} has folders of your own "
            f"({', '.join(foreign[:3])}); rename it, for example to {root / f'my_{name}'}, and "
            f"pass --dataset my_{name}"
        )


def _from_folder(
    name: str, root: Path, window: tuple[float, float] | None, persons: Choice
) -> ImageSplits:
    from src.embedding.datasets import own

    if name == "octdl":
        prepared = root / "octdl" / "dataset_1"
        if not prepared.is_dir():
            raise MissingFileError(
                f"{prepared} does not exist; fetch OCTDL (doi.org/10.1038/s41597-024-03182-7) "
                f"and prepare it with: python {OCTDL_SCRIPT} --output {prepared}"
            )
        labels = root / "octdl" / OCTDL_LABELS
        if not labels.exists():
            log.warning("%s does not exist, so it is not known whose the images are", labels)
        return own.load(prepared, window, persons, labels if labels.exists() else None)
    if _is_own(name, root):
        return own.load(root / name, window, persons)
    raise _unknown(name, root)


def _unknown(name: str, root: Path) -> UnknownNameError:
    own = f"; own images go to {root / name}/{{train,val,test}}/<class>/"
    return UnknownNameError("dataset", name, names(root), own)
