"""Our head and its scores, given the released code's random numbers, are what it got."""

from functools import partial

import numpy as np
import pytest
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from src.core.distances import moments
from src.networks.heads import LinearHead
from src.probing import head, metrics
from src.probing.settings import HeadSettings
from tests.replay.support import (
    CPU,
    RECORDED,
    SPLITS,
    another_adam,
    differing,
    drawn,
    labelled,
    noted,
)

TRAINED_ON = {
    "identity": SPLITS.train,
    "ksame5": labelled(RECORDED["ksame5/rows"], SPLITS.train.labels),
    "cvae": labelled(RECORDED["release/rows"], RECORDED["release/labels"]),
    "early": SPLITS.train,
    "plateau": SPLITS.train,
}
SIGMAS = (0.0, 1.0, 2.0)


def aucs(fitted):
    with drawn(normals=len(SIGMAS) * [RECORDED["test_noise"]]):
        return np.array([head.evaluate(fitted, SPLITS.test, s, seed=0).auc for s in SIGMAS])


def replayed(name):
    """What a fit and its evaluation give with the recorded numbers, by the recorded names."""

    def recorded(key):
        return RECORDED[f"head/{name}/{key}"]

    rows = TRAINED_ON[name]
    settings = HeadSettings(
        learning_rate=float(recorded("learning_rate")[0]),
        num_epochs=int(recorded("most_epochs")),
        batch_size=int(recorded("batch_size")),
        patience=int(recorded("patience")),
    )
    weights = [recorded("initial/weight"), recorded("initial/bias")]
    with drawn(weights=weights, orders=recorded("order")), noted() as course:
        fitted = head.fit(rows, SPLITS, settings, seed=0, device=CPU)
    batch_losses = np.reshape(course.batch_losses, (-1, 3))
    found = {
        "epochs": course.fit.epochs,
        "best_epoch": course.fit.best_epoch,
        "mean": fitted.mean.numpy(),
        "std": fitted.std.numpy(),
        "train_loss_batches": batch_losses,
        "train_loss": batch_losses @ [128, 128, 44] / 300,
        "val_loss": np.array(course.val_losses),
        "learning_rate": np.array(course.batch_rates[::3]),
        "auc": aucs(fitted),
        "average_mindistance": metrics.average_mindistance(rows, SPLITS.train, CPU).mean,
    }
    for kind in ("weight", "bias"):
        found[f"kept/{kind}"] = getattr(fitted.linear, kind).detach().numpy()
        found[f"last/{kind}"] = course.last[kind]
    return {f"head/{name}/{key}": value for key, value in found.items()}


@pytest.mark.parametrize("name", TRAINED_ON)
def test_the_fit_takes_the_same_course_and_scores_the_same(name):
    assert not differing(replayed(name), RECORDED)


def test_stopping_and_the_schedule_act_in_the_recorded_runs():
    assert (RECORDED["head/early/epochs"], RECORDED["head/early/best_epoch"]) == (29, 24)
    assert RECORDED["head/plateau/learning_rate"].tolist() == [0.05] * 30 + [0.05 * 0.1] * 6


@pytest.mark.parametrize("name", TRAINED_ON)
def test_the_released_codes_statistics_are_rounded_to_float32(name):  # departure 3
    rows = TRAINED_ON[name].embeddings
    mean, std = (statistic.numpy() for statistic in moments(torch.from_numpy(rows)))
    wide = rows.astype(np.float64)
    assert np.array_equal(mean, wide.mean(0).astype(np.float32))
    assert std == pytest.approx(wide.std(0), rel=1e-6)
    for ours, kind in ((mean, "mean"), (std, "std")):
        difference = np.abs(ours - RECORDED[f"head/{name}/{kind}"])
        assert difference.max() < 1e-6
        assert (difference / std).max() < 1e-5


@pytest.mark.parametrize("name", TRAINED_ON)
def test_the_released_codes_aucs_are_rounded_to_float32(name):  # departures 4 and 5
    parts = (RECORDED[f"head/{name}/{key}"] for key in ("kept/weight", "kept/bias", "mean", "std"))
    weight, bias, mean, std = map(torch.from_numpy, parts)
    linear = LinearHead(*weight.T.shape)
    linear.load_state_dict({"weight": weight, "bias": bias})
    ours = aucs(head.Head(linear, mean, std, fit=None))
    assert np.abs(ours - RECORDED[f"head/{name}/auc"]).max() < 2e-5


def another_schedule(patch, **changed):
    settings = {"factor": 0.1, "patience": 5, "min_lr": 1e-5} | changed
    patch.setattr(head, "PLATEAU", partial(ReduceLROnPlateau, **settings))


def sample_deviation(patch):
    patch.setattr(head, "moments", lambda rows: (rows.mean(0), rows.std(0)))


@pytest.mark.parametrize(
    ("name", "change", "noticed"),
    [
        ("early", partial(another_adam, eps=1e-7), "kept/weight"),
        ("plateau", partial(another_schedule, patience=4), "learning_rate"),
        ("plateau", partial(another_schedule, factor=0.11), "last/weight"),
        ("identity", sample_deviation, "auc"),
    ],
    ids=["Adam's eps", "patience of the schedule", "factor of the schedule", "deviation"],
)
def test_a_slightly_different_head_is_noticed(name, change, noticed, monkeypatch):
    change(monkeypatch)
    assert f"head/{name}/{noticed}" in differing(replayed(name), RECORDED)
