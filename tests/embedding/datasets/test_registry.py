import subprocess
import sys

import pytest

from src.core.errors import InputError, MissingFileError, UnknownNameError
from src.embedding import datasets
from src.embedding.datasets import medmnist_sets
from tests.embedding.datasets.support import medimeta


def test_names(folder):
    (folder / "medimeta/oct").mkdir(parents=True)
    (folder / "medimeta/oct/info.yaml").write_text("")
    names = datasets.names(folder)
    assert {"mine", "oct", "digits", "stl10", "octdl", "breastmnist", "skinl_derm"} < set(names)
    assert len(names) == len(datasets.NAMES) + 2 == 1 + 8 + 10 + 2


def test_medmnist_flags_are_those_of_the_package():
    from medmnist.info import INFO

    single = {
        flag
        for flag, info in INFO.items()
        if "multi-label" not in info["task"] and not flag.endswith("3d")
    }
    assert set(medmnist_sets.FLAGS) == single
    assert set(medmnist_sets.UNSUITED) == set(INFO) - single


def test_unknown_name(folder):
    with pytest.raises(UnknownNameError, match=r"'mime'; did you mean 'mine'.*breastmnist"):
        datasets.load("mime", root=folder)


@pytest.mark.parametrize("name", ["mine", "digits", "breastmnist", "chestmnist", "stl10", "octdl"])
def test_only_medimeta_datasets_have_tasks(folder, name):
    message = f"^--task x: only MedIMeta datasets have tasks; '{name}' has none$"
    with pytest.raises(InputError, match=message):
        datasets.load(name, root=folder, task="x")


def test_of_two_folders_of_one_name_a_task_picks_medimetas(folder):
    medimeta(folder, "mine")
    assert datasets.load("mine", root=folder).class_names == ["a cat", "b_dog"]
    assert datasets.load("mine", root=folder, task="side").class_names == ["left", "right"]


@pytest.mark.parametrize("name", ["unheard_of", "medmnist"])
def test_a_task_of_an_unknown_dataset_says_where_medimeta_is(folder, name):
    (folder / "medmnist").mkdir()
    with pytest.raises(MissingFileError, match=rf"fetch '{name}' from MedIMeta.* unpack it to"):
        datasets.load(name, root=folder, task="side")


def test_octdl_says_how_to_prepare_it(tmp_path):
    with pytest.raises(MissingFileError, match=r"octdl_preprocessing\.py --output"):
        datasets.load("octdl", root=tmp_path)


def test_a_typo_costs_no_heavy_import(tmp_path):
    code = (
        "import sys; from pathlib import Path\n"
        "from src.core import errors; from src.embedding import datasets\n"
        "try: datasets.load('x', root=Path(sys.argv[1]))\n"
        "except errors.UnknownNameError: print(sorted({'torch', 'sklearn'} & {*sys.modules}))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.run(command, capture_output=True, text=True).stdout == "[]\n"
