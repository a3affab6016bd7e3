"""The comparison of PLAN with its baselines: what it measures, its table, its picture."""

import numpy as np
import pytest

from benchmarks import data, path_figure
from benchmarks import plan as benchmark
from src.anonymizers import methods
from src.anonymizers.methods import Plan
from src.database import Splits
from tests.anonymizers.latent.support import COUNTS, CPU, TRAIN, VAL, clusters, made
from tests.support import call, files_below

SPLITS = Splits(TRAIN, VAL, clusters(seed=2))


def test_the_default_compares_the_paper_s_weight_with_ours():
    rows = benchmark.releases(5, 12, benchmark.WEIGHTS)
    assert list(rows)[-3:] == ["plan, weight 0.1", "plan, weight 1", "plan, weight 10"]
    assert rows["plan, weight 1"] == Plan(k=5) == methods.parse("plan", {"k": 5})
    assert rows["latent-linear"].release_id(0) == "latent-linear-5-s0"


def test_a_run_measures_every_release():
    rows = {
        "real rows": methods.Identity(),
        "latent-ksame": made("latent-ksame"),
        "plan": made("plan"),
    }
    measured = benchmark.run(SPLITS, rows, seed=0, resources=CPU)
    assert list(measured) == list(rows)
    real, groups, plan = measured.values()
    assert (real.rows, groups.rows, plan.rows) == (sum(COUNTS), 14, sum(COUNTS))
    assert real.distance == real.distance_5 == 0
    assert real.confidence > 0.9
    assert plan.distance > plan.distance_5 > 0
    assert plan.confidence < 0.5
    assert measured == benchmark.run(SPLITS, rows, seed=0, resources=CPU)


def test_each_run_is_compared_and_deviations_are_those_of_a_sample():
    def run(distance, confidence, auc):
        return benchmark.Measures(10, distance, distance / 2, confidence, confidence, 0.1, auc)

    runs = [
        {"plan": run(2, 0.1, 97), "latent-linear": run(1, 0.4, 97), "latent-ksame": run(1, 1, 96)},
        {"plan": run(1, 0.6, 95), "latent-linear": run(2, 0.5, 97), "latent-ksame": run(1, 1, 96)},
    ]
    margins = benchmark.margins(runs, "plan").values()
    np.testing.assert_allclose(
        list(margins), [[1, -1], [0.5, -0.5], [0.3, -0.1], [0.3, -0.1], [0, -2], [1, -1]]
    )
    lines = [line.split() for line in benchmark.table(runs).splitlines()]
    # of 2 and 1: √(½² + ½²) over one degree of freedom
    assert lines[2][:11] == ["|", "plan", "|", "10", "|", "1.500", "±", "0.707", "|", "0.750", "±"]
    assert lines[0][:8] == ["|", "release", "|", "rows", "|", "distance", "|", "5"]


def test_the_path_of_the_picture_is_the_release_s_first(tmp_path):
    settings = made("plan")
    drawn = benchmark.example(TRAIN, VAL, settings, seed=0, resources=CPU)
    assert drawn.straight.shape == drawn.walked.shape == (7, 9)
    assert drawn.class_name == "a"
    for end in (0, -1):
        np.testing.assert_array_equal(drawn.straight[end], drawn.walked[end])
    assert np.abs(drawn.straight - drawn.walked)[1:-1].max() > 0.01
    released = settings.anonymize(TRAIN, VAL, seed=0, resources=CPU).embeddings
    # all 20 rows of class a are points of its 4 paths of 5; each of the first may be among them
    apart = np.abs(released[:, None] - drawn.walked[None, 1:-1]).max(2).min(0)
    assert apart.max() < 1e-2


def test_the_same_figure_has_the_same_bytes(tmp_path):
    rows = np.random.default_rng(0).uniform(size=(4, 9)).astype(np.float32)
    example = path_figure.Example(rows, rows + 1, "a")
    for kind in (".png", ".pdf"):
        files = [tmp_path / f"{name}{kind}" for name in "xy"]
        for file in files:
            path_figure.draw(file, example, TRAIN)
        assert files[0].read_bytes() == files[1].read_bytes()


def test_the_command_prints_the_table_and_draws_a_path(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "digits", lambda: SPLITS)
    quick = {"k": 3, "path_points": 7, "num_epochs": 3, "path_steps": 5}
    monkeypatch.setattr(benchmark, "releases", lambda k, path_points, weights: {
        "latent-ksame": methods.LatentKSame(k=k, num_epochs=3),
        "latent-linear": methods.LatentLinear(k=k, path_points=path_points, num_epochs=3),
        **{f"plan, weight {w:g}": Plan(**quick, privacy_weight=w) for w in weights},
    })  # fmt: skip
    figure = tmp_path / "figures" / "path.png"
    flags = ["--device", "cpu", "--k", 3, "--path_points", 7, "--weights", 1, "--figure", figure]
    done = call("benchmarks.plan", *flags, "--seeds", 0, 1)
    assert done.status == 0, done.err
    assert done.out.startswith("digits/pixels, k = 3, T = 7, seeds 0, 1\n\n| release ")
    assert "\nplan, weight 1:\n  mean distance above latent-linear by " in done.out
    assert " of 2 runs\n" in done.out
    assert figure.read_bytes().startswith(b"\x89PNG")


def test_a_figure_that_could_not_be_written_is_refused_before_work(tmp_path, monkeypatch):
    monkeypatch.setattr(data, "digits", lambda: pytest.fail("work was done"))
    before = files_below(tmp_path)
    done = call("benchmarks.plan", "--figure", tmp_path / "path.gif")
    assert done.status == 2
    assert done.err.count("\n") == 1
    assert "path.gif: its name must end in one of .png, .pdf" in done.err
    assert files_below(tmp_path) == before
