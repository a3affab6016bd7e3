"""The benchmark's table: items that can be run, targets judged rightly, files well formed."""

import dataclasses
import json

import pytest
import torch

from benchmarks import __main__ as benchmarks
from benchmarks import measure
from benchmarks.items import ITEMS, Target, faster, seconds
from benchmarks.tasks import TASKS, dense, measure_item
from src.core import process
from src.core.errors import UnknownNameError


def test_every_item_has_a_task_and_every_released_time_an_item():
    assert set(ITEMS) == set(TASKS)
    times = json.loads(benchmarks.RELEASED.read_text())
    assert set(times) - {"about", "yardstick", "yardstick_gflops"} <= set(ITEMS)


def test_an_item_is_measured_printed_and_written(tmp_path, capsys, monkeypatch):
    twice = dataclasses.replace(ITEMS["ksame-dense-k5"], repeats=2)
    monkeypatch.setitem(ITEMS, "ksame-dense-k5", twice)
    output, markdown = tmp_path / "table.json", tmp_path / "table.md"
    benchmarks.main(
        ["ksame-dense-k5", "--device", "cpu", "--output", str(output), "--markdown", str(markdown)]
    )
    written = json.loads(output.read_text())
    assert set(written["machine"]) == {"device", "threads", "torch"}
    [row] = written["items"]
    assert row["name"] == "ksame-dense-k5"
    assert 0.01 < row["seconds"] < 60
    assert row["of_yardstick"] == pytest.approx(
        3882 * 3882 * 784 / row["seconds"] / row["yardstick_gflops"] / 1e9
    )
    assert row["released_seconds"] == pytest.approx(5.6 * 154 / row["yardstick_gflops"])
    assert row["speed_up"] == pytest.approx(row["released_seconds"] / row["seconds"])
    assert row["ok"] == (row["speed_up"] >= 20)
    assert 0.05 < row["memory_gib"] < 1  # the matrix alone has 0.056
    text = markdown.read_text()
    assert text == capsys.readouterr().out
    lines = text.splitlines()
    assert [line.count("|") for line in lines[:3]] == [len(benchmarks.TITLES) + 1] * 3
    assert len({len(line) for line in lines[:3]}) == 1


def test_an_item_is_measured_in_a_process_that_is_tuned_first(monkeypatch):
    calls = []
    monkeypatch.setattr(process, "tune", lambda: calls.append("tune"))
    monkeypatch.setitem(TASKS, "help", lambda *_: measure.Task(run=lambda: calls.append("run")))
    monkeypatch.setattr(measure, "yardstick", lambda device: 1e9)
    measure_item("help", 1, "cpu")
    assert calls == ["tune", "run"]


@pytest.mark.slow
def test_warnings_of_the_random_rows_are_not_printed(tmp_path, capfd, monkeypatch):
    """Fits to noise collapse, in every repeat."""
    once = dataclasses.replace(ITEMS["cvae-dense"], repeats=1)
    monkeypatch.setitem(ITEMS, "cvae-dense", once)
    benchmarks.main(["cvae-dense", "--device", "cpu", "--output", str(tmp_path / "table.json")])
    assert "carry nothing" not in capfd.readouterr().err


def test_an_unknown_item_is_named():
    with pytest.raises(UnknownNameError, match="'ksame-dense'; did you mean 'ksame-dense-k"):
        benchmarks.main(["ksame-dense", "--device", "cpu"])


def test_targets_are_bounds_on_what_was_measured():
    row = {"seconds": 2.0, "speed_up": 30.0, "of_yardstick": 0.5, "memory_gib": None}
    assert seconds(2).met(row)
    assert not seconds(1.9).met(row)
    assert faster(30).met(row)
    assert not faster(31).met(row)
    assert not Target("of_yardstick", 0.6, "").met(row)
    assert Target("memory_gib", 2, "").met(row) is None


def test_times_are_medians_of_one_unit_and_shares_those_of_the_yardstick(monkeypatch):
    ticks = iter([4.0, 2.0, 8.0, 1.0, 6.0, 3.0])  # run and baseline in turn
    calls = []

    def timed(run, device):
        run()
        return next(ticks)

    monkeypatch.setattr(measure, "_seconds", timed)
    monkeypatch.setattr(measure, "yardstick", lambda device: 50e9)
    task = measure.Task(
        run=lambda: calls.append("run"), units=2, flop=30e9, baseline=lambda: calls.append("bare")
    )
    found = measure.measure(task, repeats=3, device=torch.device("cpu"))
    assert calls == ["run", *["run", "bare"] * 3]
    assert found.seconds == 3.0  # the median of 4, 8, 6 for two units
    assert found.of_yardstick == pytest.approx(30 / 3 / 50)
    assert found.of_baseline == pytest.approx(1 / 3)  # the median of 2, 1, 3 for two units
    assert found.yardstick_gflops == 50


def test_dense_rows_are_the_same_every_time_and_of_the_stated_shape():
    splits = dense()
    assert splits.train.embeddings.shape == (3882, 784)
    assert splits.train.num_classes == 2
    assert splits.train.fingerprint == dense().train.fingerprint
