"""Reports: numbers checked by hand, gaps that are named, files that stay the same."""

import csv
import dataclasses
import io
import math
import re

import numpy as np
import pytest
import yaml

from src import report
from src.core.errors import DataError, InputError
from src.core.files import read_json, write_json
from src.database import Database, EmbeddingSet, write
from src.probing import results
from src.report import collect, grid, published, tables
from src.report.recommendation import Thresholds
from tests.support import call, files_below

SWEEP = {
    "name": "hand_made",
    "datasets": ["my_set"],
    "backbones": ["pixels"],
    "seeds": [0, 1, 2],
    "sigma": [0, 1],
    "runs": [
        {"anonymizer": "identity"},
        {"anonymizer": "ksame", "k": [2, 5]},
        {"anonymizer": "cvae-online"},
    ],
    "report": {"sigma": [0]},
}
# AUC of seeds 0, 1, 2 by release id: means 99, 90, 80, 90; sample deviations 1, 2, 0, 3
AUCS = {
    "identity": (98.0, 99.0, 100.0),
    "ksame-2": (88.0, 90.0, 92.0),
    "ksame-5": (80.0, 80.0, 80.0),
    "cvae-online": (87.0, 90.0, 93.0),
}
DISTANCES = {"identity": 0.0, "ksame-2": 1.5, "ksame-5": 2.0, "cvae-online": 2.0004}


@pytest.fixture
def sweep(tmp_path):
    return read(tmp_path)


def read(folder, **changes):
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(SWEEP | changes, sort_keys=False))
    return grid.read(path)


@pytest.fixture
def logs(tmp_path, sweep):
    """The result files of the sweep, made by hand."""
    for anonymizer, seed in sweep.seeded():
        for sigma in sweep.sigma:
            write_result(tmp_path / "logs", sweep, anonymizer, seed, sigma)
    return tmp_path / "logs"


def write_result(logs, sweep, anonymizer, seed, sigma, inputs="a"):
    name = anonymizer.release_id(seed).removesuffix(f"-s{seed}")
    trial = results.Trial(
        dataset="my_set",
        backbone="pixels",
        id=anonymizer.release_id(seed),
        anonymizer=anonymizer.name,
        settings=dataclasses.asdict(anonymizer),
        head=sweep.heads[0],
        seed=seed,
        sigma=sigma,
        inputs={"train": inputs, "val": "b", "test": "c", "release": None},
    )
    auc = AUCS[name][seed] - 10 * sigma
    values = {"auc": auc, "accuracy": auc / 2, "balanced_accuracy": auc / 4, "seconds": 0.25}
    content = dataclasses.asdict(trial) | values | {"average_mindistance": DISTANCES[name]}
    write_json(trial.path(logs), content)


def path_of(logs, name):
    return logs / "my_set" / "pixels" / f"my_set_{name}.json"


def built(sweep, logs, paper=None):
    found = collect.found(sweep, logs, logs / "nothing")
    return tables.build(sweep, found, paper or {})


# The list of runs.


def test_results_csv_has_a_line_for_each_run_and_noise_level(sweep, logs, tmp_path):
    found = collect.found(sweep, logs, tmp_path / "nothing")
    path = collect.write_csv(tmp_path / "results.csv", sweep, found)
    lines = list(csv.DictReader(io.StringIO(path.read_text())))
    assert len(lines) == 4 * 3 * 2
    assert [(x["anonymizer"], x["k"], x["seed"], x["sigma"]) for x in lines[5:8]] == [
        ("identity", "", "2", "1.0"), ("ksame", "2", "0", "0.0"), ("ksame", "2", "0", "1.0"),
    ]  # fmt: skip
    assert lines[7]["auc"] == "78.0"
    assert lines[7]["accuracy"] == "39.0"
    assert lines[7]["balanced_accuracy"] == "19.5"
    assert lines[7]["average_mindistance"] == "1.5"
    assert lines[7]["seconds"] == "0.25"
    assert lines[7]["per_class"] == "False"
    assert lines[7]["head_num_epochs"] == "100"
    assert lines[-1]["variance"] == "1.0"


def test_only_whole_results_of_these_settings_count(sweep, logs, tmp_path):
    damage = {
        "identity-s0_sigma0": lambda c: c | {"auc": None},
        "identity-s0_sigma1": lambda c: c | {"auc": math.pi, "seed": 1},
        "identity-s1_sigma0": lambda c: c | {"head": {**c["head"], "num_epochs": 5}},
        "identity-s1_sigma1": lambda c: c | {"inputs": None},
        "ksame-2-s0_sigma0": lambda c: c | {"format": 2},
        "ksame-2-s0_sigma1": lambda c: c | {"backbone": "pix_els"},
        "identity-s2_sigma0": lambda c: [c],
    }
    for name, change in damage.items():
        write_json(path_of(logs, name), change(read_json(path_of(logs, name))))
    path_of(logs, "identity-s2_sigma1").write_text("{")
    found = collect.found(sweep, logs, tmp_path / "nothing")
    assert len(found) == 3 * 3 * 2 - 2
    assert "identity" not in {result.anonymizer.name for result in found}


def test_results_of_different_embeddings_are_not_mixed(sweep, logs, tmp_path):
    write_result(logs, sweep, sweep.anonymizers[1], 0, 1.0, inputs="other")
    with pytest.raises(DataError, match="my_set/pixels were made from 2 different sets"):
        collect.found(sweep, logs, tmp_path / "nothing")


def test_embeddings_that_are_there_say_which_results_count(sweep, logs, tmp_path, digits):
    database = Database(tmp_path / "database", "my_set", "pixels")
    for split in ("train", "val", "test"):
        write(database.path(split), getattr(digits, split))
    assert collect.found(sweep, logs, database.root) == []


# The table.


def test_means_deviations_and_the_best(sweep, logs):
    table = built(sweep, logs)
    auc, distance = tables.Column("auc", 0.0), tables.Column("average_mindistance", None)
    assert table.columns == [auc, distance]
    cells = [line.cells[auc] for line in table.lines]
    assert [(c.mean, c.deviation) for c in cells] == [(99, 1), (90, 2), (80, 0), (90, 3)]
    # identity does not compete; what is shown as equal is equally good
    assert table.best == [set(), {auc}, {distance}, {auc, distance}]


def test_the_table_in_markdown(sweep, logs):
    lines = tables.as_markdown(built(sweep, logs)).splitlines()
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines[:6]]
    assert cells[0] == ["dataset", "backbone", "anonymizer", "AUC (%)", "distance", "seeds"]
    assert cells[2] == ["my_set", "pixels", "identity", "99.00 ± 1.00", "0.000 ± 0.000", "3"]
    assert cells[4][2:] == ["ksame (k=5)", "80.00 ± 0.00", "**2.000 ± 0.000**", "3"]
    assert cells[5][2:] == ["cvae-online", "**90.00 ± 3.00**", "**2.000 ± 0.000**", "3"]
    assert len({len(line) for line in lines[:6]}) == 1


def test_the_table_in_latex(sweep, logs):
    text = tables.as_latex(built(sweep, logs))
    body = text[text.index(r"\begin") :]
    assert r"my\_set & pixels & ksame (k=2) & \textbf{90.00 $\pm$ 2.00} & 1.500" in body
    assert r"AUC (\%)" in body
    assert re.search(r"(?<!\\)[_%#~]", body) is None
    assert body.count("{") == body.count("}")
    columns = re.search(r"tabular}{([lr]+)}", body)[1]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert {row.count(" & ") for row in rows} == {len(columns) - 1}
    assert len(rows) == 5
    for rule in ("toprule", "midrule", "bottomrule", r"end{tabular}"):
        assert body.count(rule) == 1


def test_the_table_in_numbers(sweep, logs):
    lines = list(csv.DictReader(io.StringIO(tables.as_csv(built(sweep, logs)))))
    assert lines[3]["anonymizer"] == "cvae-online"
    assert lines[3]["seeds"] == "3"
    assert float(lines[3]["auc_sigma0_mean"]) == 90
    assert float(lines[3]["auc_sigma0_sd"]) == 3
    assert lines[3]["auc_sigma0_best"] == "1"
    assert float(lines[3]["average_mindistance_mean"]) == 2.0004


def test_missing_seeds_are_named_and_do_not_compete(sweep, logs):
    for name in ("ksame-2-s0_sigma0", "ksame-2-s2_sigma0"):
        path_of(logs, name).unlink()
    for seed in (0, 1, 2):
        path_of(logs, f"ksame-5-s{seed}_sigma0").unlink()
    path_of(logs, "cvae-online-s1_sigma1").unlink()  # a noise level that the table does not show
    table = built(sweep, logs)
    text = tables.as_markdown(table).splitlines()
    assert "| 1 (missing: 0, 2)" in text[3]
    assert "| 90.00  " in text[3]  # one seed has no deviation
    assert "| 0 (missing: 0, 1, 2)" in text[4]
    assert "| –  " in text[4]
    assert text[5].strip("| ").endswith("3")
    assert [len(best) for best in table.best] == [0, 0, 0, 2]
    (line,) = (x for x in tables.as_csv(table).splitlines() if "k=5" in x)
    assert line == "my_set,pixels,ksame (k=5),0,0 1 2,,,,,,"


def test_a_distance_that_is_unknown_is_left_out(sweep, logs, tmp_path):
    """As in results of a bundle's decoder, whose originals nobody here has."""
    for seed in sweep.seeds:
        for sigma in (0, 1):
            path = path_of(logs, f"ksame-2-s{seed}_sigma{sigma}")
            write_json(path, read_json(path) | {"average_mindistance": None})
    found = collect.found(sweep, logs, tmp_path / "nothing")
    assert len(found) == 4 * 3 * 2
    path = collect.write_csv(tmp_path / "results.csv", sweep, found)
    line = list(csv.DictReader(io.StringIO(path.read_text())))[6]
    assert (line["k"], line["auc"], line["average_mindistance"]) == ("2", "88.0", "")
    text = tables.as_markdown(built(sweep, logs)).splitlines()
    assert [c.strip() for c in text[3].strip("|").split("|")][3:] == ["**90.00 ± 2.00**", "–", "3"]
    assert drawn(sweep, logs, "auc_distance").keys() == {"identity", "ksame (k=5)", "cvae-online"}


# The figures.


def drawn(sweep, logs, name):
    """What a figure's only panel shows: by label the means and the deviations of both axes."""
    from src.report import figures

    found = collect.found(sweep, logs, logs / "nothing")
    (ax,) = figures._comparison(name, sweep, found).axes
    shown = {}
    for container in ax.containers:
        (line, _, bars) = container.lines
        lengths = [np.ptp(bar.get_segments()[0], axis=0).max() / 2 for bar in bars]
        shown[container.get_label()] = (*line.get_xydata()[0], *lengths)
    return shown


def test_figures_show_the_means_and_deviations_of_the_table(sweep, logs):
    shown = drawn(sweep, logs, "auc_distance")
    assert shown["cvae-online"] == pytest.approx((2.0004, 90, 0, 3))
    assert shown["ksame (k=2)"] == pytest.approx((1.5, 90, 0, 2))


def test_figures_take_the_noise_level_that_the_table_has_first(tmp_path, logs):
    for levels in ([1, 0], [0, 1], [1]):
        sweep = read(tmp_path, report={"sigma": levels})
        first = tables.as_markdown(built(sweep, logs)).splitlines()[3].split("|")[4]
        _, auc, _, _ = drawn(sweep, logs, "auc_distance")["ksame (k=2)"]
        assert first.strip(" *").startswith(f"{auc:.2f} ± ")
        assert auc == pytest.approx(90 - 10 * levels[0])


# Published values.

ENTRY = {"dataset": "my_set", "backbone": "pixels", "anonymizer": "kSAME", "k": 5}


def test_published_values_stand_beside_ours(tmp_path, logs):
    content = {
        "A et al., table 2": [ENTRY | {"auc": 81.5}, ENTRY | {"sigma": 1, "auc": 1}],
        "B et al., table 1": [ENTRY | {"dataset": "another", "auc": 2}],
    }
    (tmp_path / "published.yaml").write_text(yaml.safe_dump(content))
    sweep = read(tmp_path, report={"sigma": [0], "published": "published.yaml"})
    table = built(sweep, logs, published.read(sweep.shown.published))
    lines = tables.as_markdown(table).splitlines()
    cells = [[c.strip() for c in line.strip("|").split("|")] for line in lines[:6]]
    assert cells[0][3:5] == ["AUC (%)", "published"]
    assert [line[4] for line in cells[2:]] == ["–", "–", "81.50", "–"]
    assert lines[-1] == "Published: A et al., table 2."
    assert "auc_sigma0_published" in tables.as_csv(table)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"auc": 1}, "it has no name for 'dataset'"),
        (ENTRY, "it has no value of auc, "),
        (ENTRY | {"auc": "81.5"}, "auc is '81.5'; it must be a number"),
        (ENTRY | {"auc": float("nan")}, "auc is nan; it must be a number"),
        (ENTRY | {"auc": 1, "k": [2, 5]}, "k must be one value"),
        (ENTRY | {"auc": 1, "aucc": 1}, "unknown setting of ksame 'aucc'"),
    ],
)
def test_mistakes_in_published_values(tmp_path, entry, message):
    path = tmp_path / "published.yaml"
    path.write_text(yaml.safe_dump({"table 1": [entry]}))
    with pytest.raises(InputError, match=re.escape(message)) as error:
        published.read(path)
    assert str(error.value).startswith(f"{path}: 'table 1', entry 1: ")


def test_one_quantity_has_one_published_value(tmp_path):
    path = tmp_path / "published.yaml"
    path.write_text(
        yaml.safe_dump({"table 1": [ENTRY | {"auc": 80}], "text": [ENTRY | {"auc": 81}]})
    )
    with pytest.raises(
        InputError, match="'text', entry 1: 'table 1' already has a value of the same"
    ):
        published.read(path)


def test_an_empty_file_of_published_values(tmp_path):
    path = tmp_path / "published.yaml"
    path.write_text("# nothing yet\n")
    assert published.read(path) == {}


# The whole report.


def test_the_report_is_rebuilt_from_result_files_alone(tmp_path, sweep, logs):
    words = [tmp_path / "sweep.yaml", "--output_root", logs, "--database_root", tmp_path / "no"]
    first = call("src.report.__main__", *words)
    assert (first.status, first.err) == (0, "")
    assert "no projection of my_set/pixels: " in first.out
    folder = logs / "reports" / "hand_made"
    files = files_below(folder)
    assert {path.name for path in files} == {
        "results.csv", "table.md", "table.tex", "table.csv", "report.html",
        "auc_sigma.png", "auc_sigma.pdf", "auc_distance.png", "auc_distance.pdf",
    }  # fmt: skip
    assert all(str(path) in first.out for path in files)
    assert call("src.report.__main__", *words).out == first.out
    assert files_below(folder) == files
    for path, content in files.items():  # nor would another day change them
        assert b"CreationDate" not in content, path
        assert b"matplotlib" not in content.lower(), path


def test_without_results_the_table_says_so(sweep, tmp_path):
    written = report.write(sweep, tmp_path / "logs", tmp_path / "no", Thresholds())
    assert "0 (missing: 0, 1, 2)" in written.table
    assert "no auc_sigma: there are no results" in written.notes
    assert [path.suffix for path in written.files] == [".csv", ".md", ".tex", ".csv", ".html"]


def test_the_projection_shows_real_and_released_rows(tmp_path, digits, monkeypatch):
    from src.report import figures

    sweep = read(tmp_path, report={"figures": ["projection"]}, datasets=["digits"])
    database = Database(tmp_path / "database", "digits", "pixels")
    names = ["a$x_{$b", "caf\udce9", "_c", *"3456789"]  # as names of folders can be
    for split in ("train", "val", "test"):
        data = getattr(digits, split)
        named = EmbeddingSet(data.embeddings, data.labels, {"class_names": names})
        write(database.path(split), named)
    written = report.write(sweep, tmp_path / "logs", database.root, Thresholds())
    assert "train_ksame-2.npz does not exist" in written.notes[0]
    shifted = EmbeddingSet(digits.train.embeddings[:100] + 1, digits.train.labels[:100])
    for k in (2, 5):
        write(database.path("train", f"ksame-{k}"), shifted)
    drawn = []
    save = figures._save
    monkeypatch.setattr(figures, "_save", lambda f, stem: drawn.append(f) or save(f, stem))
    written = report.write(sweep, tmp_path / "logs", database.root, Thresholds())
    assert written.notes == []
    assert [p.name for p in written.files[5:]] == [
        "projection_digits_pixels.png", "projection_digits_pixels.pdf",
    ]  # fmt: skip
    axes = drawn[0].axes
    assert [ax.get_title() for ax in axes] == ["real", "ksame (k=2)", "ksame (k=5)"]
    shown = [sum(len(line.get_xdata()) for line in ax.lines) for ax in axes]
    assert shown == [1000, 100, 100]
    assert [len(ax.lines) for ax in axes] == [10, 10, 10]
