"""Audits in sweeps: which are run, which are kept, and where their figures appear."""

import csv
import json

import pytest
import yaml

from src.audit.measures import MEASURES
from src.core.errors import InputError
from src.database import Database, EmbeddingSet, write
from src.report import grid
from tests.support import call

SWEEP = {
    "name": "audited",
    "datasets": ["small"],
    "backbones": ["pixels"],
    "seeds": [0, 1],
    "sigma": [0, 1],
    "head": {"num_epochs": 2},
    "runs": [
        {"anonymizer": "identity"},
        {"anonymizer": "gaussian"},
        {"anonymizer": "cvae-online", "num_epochs": 2},
    ],
    "audit": {"shadows": 2, "bootstrap": 20},
    "report": {
        "metrics": ["auc", "nearest_auc", "nearest_tpr_at_0.001", "coverage"],
        "sigma": [0],
        "figures": ["auc_nearest_auc"],
    },
}


def read(folder, **changes):
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(SWEEP | changes, sort_keys=False))
    return grid.read(path)


@pytest.fixture
def sweep(tmp_path, digits):
    """A function that runs the sweep on 200 digits."""
    database = Database(tmp_path / "database", "small", "pixels")
    for split in ("train", "val", "test"):
        whole = getattr(digits, split)
        part = EmbeddingSet(whole.embeddings[:200], whole.labels[:200], whole.meta)
        write(database.path(split), part)
    read(tmp_path)
    words = [
        tmp_path / "sweep.yaml", "--device", "cpu", "--database_root", database.root,
        "--ckpt_root", tmp_path / "ckpts", "--output_root", tmp_path / "logs",
    ]  # fmt: skip
    return lambda *more: call("src.sweep.__main__", *words, *more)


def test_released_rows_are_audited_and_their_figures_reported(sweep, tmp_path):
    done = sweep()
    assert done.status == 0, done.err
    files = sorted(path.name for path in (tmp_path / "logs/small/pixels").glob("*_audit.json"))
    assert files == [
        f"small_{n}-s{s}_audit.json" for n in ("gaussian", "identity") for s in (0, 1)
    ]
    report = tmp_path / "logs/reports/audited"
    with (report / "results.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 12
    for line in lines:
        audited = line["anonymizer"] != "cvae-online"
        assert bool(line["nearest_auc"]) == bool(line["coverage"]) == audited
        assert line["nearest_tpr_at_0.001"] == ""  # 200 rows do not resolve it
        if line["anonymizer"] == "identity":
            assert float(line["nearest_auc"]) == 1
    table = (report / "table.md").read_text()
    assert MEASURES["nearest_auc"].label in table
    assert "the lowest of nearest neighbour: AUC" in table
    rows = {line.split("|")[3].strip(): line for line in table.splitlines() if "small" in line}
    assert "1.000 ± 0.000" in rows["identity"]
    assert "– " in rows["cvae-online (num_epochs=2)"]
    assert "**" in rows["gaussian"]
    assert (report / "auc_nearest_auc.pdf").exists()


def test_audits_are_kept_where_whole_and_of_the_same_settings(sweep, tmp_path):
    assert sweep().status == 0
    folder = tmp_path / "logs/small/pixels"
    kept, damaged = (folder / f"small_identity-s{s}_audit.json" for s in (0, 1))
    before = kept.stat().st_mtime_ns
    damaged.write_text(damaged.read_text()[:100])
    told = sweep("--dry_run").out.splitlines()
    assert "small/pixels: audit of identity, seed 0: done" in told
    assert "small/pixels: audit of identity, seed 1: needs audit" in told
    assert told[-1] == "10 runs, 9 done, 1 to do"
    assert sweep().status == 0
    assert kept.stat().st_mtime_ns == before
    assert json.loads(damaged.read_text())["seed"] == 1
    read(tmp_path, audit={"shadows": 2, "bootstrap": 30})
    assert sweep("--dry_run").out.splitlines()[-1] == "10 runs, 6 done, 4 to do"


def test_a_missing_audit_is_named_as_a_missing_seed(sweep, tmp_path):
    assert sweep().status == 0
    path = tmp_path / "logs/small/pixels/small_gaussian-s1_audit.json"
    content = json.loads(path.read_text())
    path.unlink()
    flags = ["--database_root", tmp_path / "database", "--output_root", tmp_path / "logs"]
    report = call("src.report.__main__", tmp_path / "sweep.yaml", *flags)
    assert "1 (missing: 1)" in report.out
    content["inputs"]["release"] = "0" * 16  # of other released rows: as good as none
    path.write_text(json.dumps(content))
    assert "1 (missing: 1)" in call("src.report.__main__", tmp_path / "sweep.yaml", *flags).out


def test_one_run_audits_are_run_kept_and_reported(sweep, tmp_path):
    read(tmp_path, audit={"shadows": 0, "bootstrap": 20, "one_run": True}, seeds=[0])
    done = sweep()
    assert done.status == 0, done.err
    folder = tmp_path / "logs/small/pixels"
    files = sorted(path.name for path in folder.glob("*_onerun.json"))
    assert files == ["small_gaussian-s0_onerun.json", "small_identity-s0_onerun.json"]
    real = json.loads((folder / files[1]).read_text())
    assert real["epsilon_lower"] > 1  # every row that is in is found
    page = (tmp_path / "logs/reports/audited/report.html").read_text()
    assert f"{real['epsilon_lower']:.2f} (of at most {real['epsilon_ceiling']:.2f})" in page
    told = sweep("--dry_run").out.splitlines()
    assert "small/pixels: one run of gaussian, seed 0: done" in told
    assert told[-1] == "7 runs, 7 done, 0 to do"
    (folder / files[0]).write_text("{")
    assert "small/pixels: one run of gaussian, seed 0: needs one run" in sweep("--dry_run").out
    read(tmp_path, audit={"shadows": 0, "bootstrap": 20}, seeds=[0])
    assert sweep("--dry_run").out.splitlines()[-1] == "5 runs, 5 done, 0 to do"


def test_a_run_that_fails_is_named_on_the_page(sweep, tmp_path):
    runs = [{"anonymizer": "identity"}, {"anonymizer": "ksame", "k": [5, 500]}]
    read(tmp_path, runs=runs, seeds=[0], report={"figures": []})
    done = sweep()
    assert done.status == 1
    assert "failed: small/pixels: ksame (k=500), seed 0: " in done.err
    page = (tmp_path / "logs/reports/audited/report.html").read_text()
    assert "Results are missing: ksame (k=500) (seed 0)." in page


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"audit": {"one_run": 1}}, "audit: one_run must be true or false, not 1"),
        ({"audit": {"shadow": 3}}, "unknown setting of audit 'shadow'; did you mean 'shadows'"),
        ({"audit": {"shadows": 1}}, "shadows 1: 0 or at least 2"),
        ({"audit": "yes please"}, "audit must hold"),
        ({"audit": False}, "unknown name in report's metrics 'nearest_auc'"),
        ({"report": {"figures": ["auc_best"]}}, "unknown name in report's figures 'auc_best'"),
    ],
)
def test_mistakes_are_found_before_anything_runs(tmp_path, changes, said):
    with pytest.raises(InputError, match=said):
        read(tmp_path, **changes)
