"""The YAML file of a sweep: what it may hold, and what its lists stand for."""

import json

import pytest
import yaml

from src.audit.measures import MEASURES
from src.audit.settings import AuditSettings, OneRunSettings
from src.core.errors import InputError
from src.report import grid, published
from tests.support import ROOT

SWEEP = {
    "name": "small",
    "datasets": ["a", "b"],
    "backbones": ["pixels"],
    "seeds": [0, 1],
    "sigma": [0, 1],
    "runs": [{"anonymizer": "identity"}, {"anonymizer": "kSAME", "k": [2, 5]}],
}


def read(folder, **changes):
    path = folder / "sweep.yaml"
    path.write_text(yaml.safe_dump(SWEEP | changes, sort_keys=False))
    return grid.read(path)


@pytest.mark.parametrize("missing", ["name", "datasets", "backbones", "seeds", "runs"])
def test_keys_that_are_required(tmp_path, missing):
    path = tmp_path / "sweep.yaml"
    path.write_text(yaml.safe_dump({key: SWEEP[key] for key in SWEEP if key != missing}))
    with pytest.raises(InputError, match=f"the key '{missing}' is missing"):
        grid.read(path)


def test_lists_are_expanded_in_order(tmp_path):
    entry = {"anonymizer": "cvae", "variance": [2, 0.5], "latent_dim": [4, 50]}
    sweep = read(tmp_path, runs=[entry])
    values = [(a.variance, a.latent_dim) for a in sweep.anonymizers]
    assert values == [(2.0, 4), (2.0, 50), (0.5, 4), (0.5, 50)]
    assert [type(v) for v in values[0]] == [float, int]
    assert sweep.anonymizers[3].label == "cvae (variance=0.5)"  # 50 is the default
    assert len({a.fit_id(0) for a in sweep.anonymizers}) == 2  # the variance is no part of a fit
    assert sweep.shown.sigma == (0.0, 1.0)


def test_one_value_needs_no_list(tmp_path):
    one = read(tmp_path, datasets="a", seeds=3, sigma=2)
    assert (one.datasets, one.seeds, one.sigma) == (("a",), (3,), (2.0,))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": ["a", "b"]}, r"name must be a name, not \['a', 'b'\]"),
        ({"seeds": [[0, 1]]}, r"seeds must be whole numbers, 0 or above, not \[0, 1\]"),
        ({"sigma": [[0, 1]]}, r"sigma must be numbers, 0 or above, not \[0, 1\]"),
        ({"head": {"num_epochs": [1, 2]}}, r"num_epochs is \[1, 2\]; it must be a whole number"),
        ({"head": [1]}, r"head must hold 'name: value' pairs, not 1"),
        ({"audit": {"shadows": [2, 4]}}, r"shadows is \[2, 4\]; it must be a whole number"),
        ({"audit": [16]}, r"audit must hold 'name: value' pairs, not \[16\]"),
        ({"report": {"published": ["a.yaml"]}}, r"published must be a name, not \['a.yaml'\]"),
        ({"runs": [{"anonymizer": ["cvae", "plan"]}]}, "entry 1: anonymizer must be a name, not"),
        ({"runs": [{"anonymizer": "ksame", "k": [[2, 5]]}]}, r"entry 1: k is \[2, 5\]; it must"),
    ],
)
def test_a_list_where_one_value_is_meant(tmp_path, changes, said):
    with pytest.raises(InputError, match=said):
        read(tmp_path, **changes)


def test_the_key_audit(tmp_path):
    assert read(tmp_path, audit=False).audit is None
    plain = read(tmp_path, audit=True)
    assert plain.audit == AuditSettings()
    assert plain.shown.metrics == ("auc", "average_mindistance", "shadow_auc")
    assert plain.shown.figures[-1] == "auc_shadow_auc"
    assert plain.one_run is None
    proven = read(tmp_path, audit={"one_run": True, "unit": "row"})
    assert proven.audit == AuditSettings(unit="row")
    assert proven.one_run == OneRunSettings(unit="row")
    assert read(tmp_path, audit={"one_run": False}).one_run is None
    without = read(tmp_path, audit={"shadows": 0})
    assert without.audit == AuditSettings(shadows=0)
    assert without.shown.metrics[-1] == "nearest_auc"


def test_paper_configurations_are_valid():
    paths = sorted((ROOT / "configs" / "paper").glob("*.yaml"))
    sweeps = {p.stem: grid.read(p) for p in paths if p.stem != "published"}
    assert set(sweeps) == {"utility", "robustness", "variance"}
    for sweep in sweeps.values():
        assert len(sweep.datasets) == 8
        assert sweep.shown.published.exists()


def test_the_sweeps_behind_the_tables_of_docs():
    audit, dp = (grid.read(ROOT / "configs" / f"{name}.yaml") for name in ("audit", "dp"))
    for sweep in (audit, dp):
        assert list(sweep.embedded()) == [("digits", "pixels")]
        assert sweep.seeds == (0, 1, 2, 3, 4)
        assert sweep.audit == AuditSettings(shadows=16)
    assert [a.label for a in audit.anonymizers] == [
        "identity", "ksame (k=2)", "ksame (k=5)", "ksame (k=10)", "gaussian", "cvae", "plan (k=5)",
    ]  # fmt: skip
    resolved = {
        key
        for key in MEASURES
        if key.startswith(("nearest_", "calibrated_", "shadow_"))
        and not key.endswith(("_max_auc", "_tpr_at_0.001"))  # of persons; of 1,000 non-members
    }
    assert resolved <= set(audit.shown.metrics)
    assert [a.label for a in dp.anonymizers] == [
        "identity", "ksame (k=5)", "gaussian", "cvae",
        *(f"dpcvae (epsilon={e})" for e in (16, 8, 4, 1)),
        *(f"dpgaussian (epsilon={e})" for e in (8, 4, 1)),
    ]  # fmt: skip
    assert dp.sigma == (0, 1, 2, 4)


def test_the_set_to_choose_from():
    sweep = grid.read(ROOT / "configs" / "choose.yaml")
    assert [a.label for a in sweep.anonymizers] == [
        "identity", "gaussian", "ksame (k=5)", "ksame (k=10)", "cvae",
        "cvae (variance=0.5, observation_noise=0.5, clip=10)", "plan (k=5)",
        "dpgaussian (epsilon=1)", "dpgaussian (epsilon=8)", "dpcvae (epsilon=8)",
    ]  # fmt: skip
    assert [head.label for head in sweep.heads] == ["logistic, clip 10"]
    assert (len(sweep.seeds), sweep.sigma[0]) == (3, 0)
    assert len(sweep.sigma) > 1
    assert sweep.audit.shadows
    assert sweep.one_run
    assert [*grid.read(ROOT / "configs" / "choose.yaml", ["a"], ["b"]).embedded()] == [("a", "b")]


def test_the_released_code_stands_beside_the_pixels():
    """configs/released.yaml says what benchmarks/parity.json says."""
    sweep = grid.read(ROOT / "configs" / "pixels.yaml")
    assert sweep.image_size is None  # 8 x 8 pixels, as they are
    values = published.read(sweep.shown.published)
    expected = json.loads((ROOT / "benchmarks" / "parity.json").read_text())
    for key, value in values.items():
        name = "-".join([key.anonymizer.name, *(f"{k}" for k in key.anonymizer.given.values())])
        entry = expected[f"{name}|{key.sigma or 0:g}"]
        assert value.value == entry[key.metric]["mean"]
    assert len(values) == 25
