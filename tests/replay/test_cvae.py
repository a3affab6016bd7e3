"""Our CVAE, given the released code's random numbers, gives what it gave, to rounding."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from src.anonymizers import cvae
from src.anonymizers.settings import FitSettings
from src.core.devices import Resources
from src.networks.cvae import CVAE
from tests.replay.support import (
    CPU,
    NOISE_UNIT,
    RECORDED,
    SPLITS,
    another_adam,
    cvae_weights,
    differing,
    drawn,
    noted,
)

SETTINGS = FitSettings(
    batch_size=int(RECORDED["cvae/batch_size"]),
    num_epochs=int(RECORDED["cvae/most_epochs"]),
    patience=int(RECORDED["cvae/patience"]),
)
BATCHES = np.array([128, 128, 44])  # rows of each batch of an epoch
# Departure 1: what ours adds to the loss of each row
CONSTANT = 0.1 * 50 * ((math.log(0.5) - 1) / 2 + 0.5)
BY_CLASS = np.argsort(RECORDED["release/labels"], kind="stable")  # ours draws class by class


def one_vector(weights):
    return np.concatenate([weights[name].ravel() for name in cvae_weights("kept")])


def fit(settings, weights, orders, normals):
    """Fit with these numbers → the model, and what the fit did."""
    with drawn(weights=weights.values(), orders=orders, normals=normals), noted() as course:
        model = cvae.fit(SPLITS.train, SPLITS.val, settings, seed=0, resources=Resources(CPU))
    return model, course


def draws(model):
    """Our release from the recorded latents: rows and labels."""
    with drawn(normals=[RECORDED["release/latents"][BY_CLASS]]):
        return cvae.draws(model.decoder, seed=0)


def matched(rows, labels):
    """Each released row's nearest row of ours that has its label: departure 6."""
    theirs, classes = RECORDED["release/rows"], RECORDED["release/labels"]
    distances = np.linalg.norm(theirs[:, None] - rows, axis=2)
    nearest = np.where(classes[:, None] == labels, distances, np.inf).argmin(1)
    return {
        "release/rows": rows[nearest],
        "release/labels": labels[nearest],
        "release/distinct": len(np.unique(nearest)),
    }


def replayed(settings=SETTINGS):
    """What a fit and its release give with the recorded numbers, by the recorded names."""
    normals = []
    for train, val in zip(RECORDED["cvae/train_noise"], RECORDED["cvae/val_noise"], strict=True):
        normals += [*np.split(NOISE_UNIT * train, [128, 256]), NOISE_UNIT * val]
    model, course = fit(settings, cvae_weights("initial"), RECORDED["cvae/order"], normals)
    kept = {name: value.numpy() for name, value in model.state_dict().items()}
    batch_losses = np.reshape(course.batch_losses, (-1, 3))
    return {
        "cvae/epochs": course.fit.epochs,
        "cvae/best_epoch": course.fit.best_epoch,
        "cvae/train_loss_batches": batch_losses,
        "cvae/train_loss": batch_losses.sum(1) / 300,
        "cvae/val_loss": np.array(course.val_losses),
        "cvae/minimum": kept["decoder.minimum"],
        "cvae/extent": kept["decoder.extent"],
        "cvae/kept/weights": one_vector(kept),
        "cvae/last/weights": one_vector(course.last),
        **matched(*draws(model)),
    }


def released():
    """What the released code gave, its losses with our constant: departure 1."""
    names = "cvae/epochs", "cvae/best_epoch", "cvae/minimum"
    return {
        **{name: RECORDED[name] for name in names},
        "cvae/train_loss_batches": RECORDED["cvae/train_loss_batches"] + CONSTANT * BATCHES,
        "cvae/train_loss": RECORDED["cvae/train_loss"] + CONSTANT,
        "cvae/val_loss": RECORDED["cvae/val_loss"] + CONSTANT * 60,
        "cvae/extent": RECORDED["cvae/maximum"] - RECORDED["cvae/minimum"],
        "cvae/kept/weights": one_vector(cvae_weights("kept")),
        "cvae/last/weights": one_vector(cvae_weights("last")),
        "release/rows": RECORDED["release/rows"],
        "release/labels": RECORDED["release/labels"],
        "release/distinct": 300,
    }


def differences(ours):
    theirs = released()
    for moment in ("kept", "last"):
        name, median = f"cvae/{moment}/weights", f"cvae/{moment}/median of weights"
        ours[median] = np.median(np.abs(ours[name] - theirs[name]))
        theirs[median] = 0.0
    return differing(ours, theirs)


def released_model():
    """Our model with the weights that the released code kept."""
    model = CVAE(SPLITS.train.dim, 10, SETTINGS.hidden_dim, SETTINGS.latent_dim)
    low, high = (torch.from_numpy(RECORDED[f"cvae/{name}"]) for name in ("minimum", "maximum"))
    tensors = {name: torch.from_numpy(value) for name, value in cvae_weights("kept").items()}
    tensors |= {"decoder.minimum": low, "decoder.extent": high - low}
    tensors["decoder.class_weights"] = torch.from_numpy(np.bincount(SPLITS.train.labels))
    unknown = model.load_state_dict(tensors, strict=False).unexpected_keys
    assert not unknown
    return model


@pytest.fixture(scope="module")
def ours():
    return replayed()


def test_the_fit_takes_the_same_course_and_releases_the_same_rows(ours):
    assert not differences(ours)


def test_rows_from_the_released_weights_are_the_same():
    assert not differing(matched(*draws(released_model())), released())


def test_losses_differ_by_a_constant_per_row(ours):  # departure 1
    assert pytest.approx(-1.732868, abs=1e-6) == CONSTANT
    for name, rows in {"train_loss_batches": BATCHES, "train_loss": 1, "val_loss": 60}.items():
        per_row = (ours[f"cvae/{name}"] - RECORDED[f"cvae/{name}"]) / rows
        assert per_row == pytest.approx(np.full_like(per_row, CONSTANT), abs=1e-4)


def test_released_rows_have_another_order():  # departure 6
    _, labels = draws(released_model())
    first_seen = np.unique(SPLITS.train.labels, return_index=True)[1].argsort()
    assert np.array_equal(RECORDED["release/classes"], first_seen)
    assert np.array_equal(labels, np.sort(RECORDED["release/labels"]))
    assert not np.array_equal(first_seen, np.arange(10))
    assert np.array_equal(RECORDED["release/counts"], np.bincount(labels)[first_seen])


def test_the_released_code_halves_rows_of_a_smaller_last_batch():  # departure 8
    model, labels = released_model(), torch.from_numpy(SPLITS.val.labels)
    x, y = model.scale(torch.from_numpy(SPLITS.val.embeddings)), torch.eye(10)[labels]
    noise = torch.from_numpy(NOISE_UNIT * RECORDED["partial/noise"]).float()
    with torch.no_grad():
        rows = model.loss_rows(x, y, noise, kl_weight=0.1, prior_variance=0.5).double() - CONSTANT
    sums = np.array(
        [part.sum().item() for part in rows.split(int(RECORDED["partial/batch_size"]))]
    )
    weighted = np.average(sums, weights=[40, 20])
    ours = {"partial/loss_batches": sums, "partial/val_loss": weighted}
    assert not differing(ours, RECORDED)
    assert weighted == pytest.approx(183.0760, rel=1e-6)
    assert sums.sum() == pytest.approx(331.1798, rel=1e-6)


def test_ours_counts_each_validation_row_once():  # departure 8
    settings = replace(SETTINGS, batch_size=40, num_epochs=1, learning_rate=1e-30)
    noise = [*np.split(np.zeros((300, 50)), range(40, 300, 40))]
    noise.append(NOISE_UNIT * RECORDED["partial/noise"])
    _, course = fit(settings, cvae_weights("kept"), [np.arange(300)], noise)
    assert course.val_losses[0] - 60 * CONSTANT == pytest.approx(331.1798, rel=1e-5)


def another_scale(patch):
    def scale(model, rows):
        return (rows - model.decoder.minimum) / (model.decoder.extent + 1e-5)

    patch.setattr(CVAE, "scale", scale)


@pytest.mark.parametrize(
    "change",
    [
        lambda patch: another_adam(patch, eps=1e-7),
        lambda patch: another_adam(patch, betas=(0.9, 0.9989)),
        lambda patch: another_scale(patch),
        lambda _: {"kl_weight": 0.1001},
        lambda _: {"prior_variance": 1.0},
        lambda _: {"learning_rate": 1.0001e-3},
    ],
    ids=["Adam's eps", "Adam's beta", "range", "KL weight", "prior", "learning rate"],
)
def test_a_slightly_different_method_is_noticed(change, monkeypatch):
    changed = change(monkeypatch) or {}
    assert "release/rows" in differences(replayed(replace(SETTINGS, **changed)))
