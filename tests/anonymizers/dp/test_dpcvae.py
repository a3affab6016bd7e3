"""The private fit: the gradients' clipping and noise, what a release consists of, the scripts."""

import dataclasses
import json
import sys

import numpy as np
import pytest
import torch
from torch import nn

from src.anonymizers import cvae, methods
from src.anonymizers.dp import accounting, budgets, dpcvae, sums
from src.anonymizers.dp.accounting import Mechanism
from src.core import seeding
from src.core.errors import InputError
from src.database import EmbeddingSet, read
from src.networks.cvae import CVAE
from src.probing import head
from tests.anonymizers.dp.support import (
    CPU,
    anonymize,
    short,
    without_meta,
)
from tests.support import call, files_below


class Training:
    """DP-SGD steps on given rows, and the sums before and after the noise."""

    settings = methods.DPCVAE(epsilon=1.0, max_grad_norm=0.5, hidden_dim=16, latent_dim=2)

    def __init__(self, x, y, monkeypatch, gradients=Mechanism(3.0), values=None):  # noqa: B008
        self.sums, self.noisy, original = [], [], sums.add_noise

        def add_noise(total, multiplier, generator):
            self.sums.append(total)
            self.noisy.append(original(total, multiplier, generator))
            return self.noisy[-1]

        monkeypatch.setattr(sums, "add_noise", add_noise)
        settings = dataclasses.replace(self.settings, **(values or {}))
        budget = budgets.Budget(Mechanism(9.0), None, gradients)
        with seeding.global_seed(0, "test"):
            model = CVAE(x.shape[1], y.shape[1], 16, 2)
        generator = torch.Generator().manual_seed(0)
        model.decoder.class_weights.copy_(y.sum(0))
        self.model, self.accountant = dpcvae._train(
            model, dpcvae.Data(x, y), settings, budget, generator
        )
        monkeypatch.setattr(sums, "add_noise", original)

    def step(self, number, part):
        """One number per weight, of the sums or the noisy sums of a step."""
        size = len([*self.model.parameters()])
        return torch.cat([t.flatten() for t in part[number * size : (number + 1) * size]])


@pytest.fixture
def batch(digits):
    x, y = digits.train.tensors(torch.device("cpu"))
    return x[:40], nn.functional.one_hot(y[:40], 10).float()


def test_one_row_moves_the_gradient_by_the_clipping_norm(batch, monkeypatch):
    taken = Training(batch[0][:1], batch[1][:1], monkeypatch)
    assert 0.99 < taken.step(0, taken.sums).norm() <= 1 + 1e-6  # in units of the clipping norm


def test_noise_has_the_stated_size(batch, monkeypatch):
    taken = Training(*batch, monkeypatch)
    added = taken.step(0, taken.noisy) - taken.step(0, taken.sums)
    assert float(added.std()) == pytest.approx(3.0, rel=0.05)


def test_sums_are_divided_by_the_expected_batch(batch, monkeypatch):
    """Of 40 rows at rate 0.5: that is 20, whatever the sample."""
    seen = []
    step = torch.optim.Adam.step

    def look(optimizer, *args):
        seen.append(torch.cat([p.grad.flatten() for p in optimizer.param_groups[0]["params"]]))
        return step(optimizer, *args)

    monkeypatch.setattr(torch.optim.Adam, "step", look)
    taken = Training(*batch, monkeypatch, Mechanism(3.0, 0.5))
    torch.testing.assert_close(seen[0], taken.step(0, taken.noisy) * 0.5 / 20)


def test_empty_samples_still_take_noisy_steps(batch, monkeypatch):
    taken = Training(*batch, monkeypatch, Mechanism(3.0, 1e-9, 3))
    for number in range(3):
        assert not taken.step(number, taken.sums).any()
        assert taken.step(number, taken.noisy).any()
    assert all(p.isfinite().all() for p in taken.model.parameters())
    assert taken.accountant.history[-1] == (3.0, 1e-9, 3)


def test_samples_are_drawn_finely_enough_for_small_rates(batch, monkeypatch):
    """float32's random numbers lie on a grid of 2⁻²⁴: too many are below a rate of 1e-6."""
    drawn, rand = [], torch.rand
    monkeypatch.setattr(torch, "rand", lambda *a, **k: drawn.append(rand(*a, **k)) or drawn[-1])
    Training(*batch, monkeypatch)
    assert (drawn[-1] * 2**24 % 1 > 0).all()


@pytest.mark.parametrize(
    "values",
    [{"learning_rate": 1e6}, {"max_grad_norm": 1e6}, {"max_grad_norm": 1e-6}, {"kl_weight": 1e300},
     {"prior_variance": 1e-300}, {"learning_rate": 1e6, "max_grad_norm": 1e6}],
)  # fmt: skip
@pytest.mark.parametrize("noise", [0.05, 1e5])
def test_weights_stay_finite_whatever_the_noise_does(batch, monkeypatch, values, noise):
    taken = Training(*batch, monkeypatch, Mechanism(noise, steps=30), values)
    decoder = taken.model.decoder
    assert all(p.isfinite().all() for p in taken.model.parameters())
    decoder.variance = 1e6
    for rows in decoder.sample(torch.arange(10), torch.Generator().manual_seed(0)):
        assert rows.isfinite().all()


def test_no_module_mixes_rows():
    kinds = {type(module) for module in CVAE(4, 2, 8, 2).modules()}
    assert kinds <= {CVAE, nn.Linear, nn.ReLU, nn.Sigmoid, nn.Sequential} | {
        type(CVAE(4, 2, 8, 2).decoder)
    }


def test_the_accountant_counts_the_steps_that_were_run(digits, monkeypatch):
    stepped = []
    step = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda s, *a: stepped.append(1) or step(s, *a))
    facts = anonymize(digits).meta["facts"]
    assert len(stepped) == facts["steps"] == 8


def test_the_same_seed_gives_the_same_bytes(digits):
    first, again = anonymize(digits), anonymize(digits)
    assert first.fingerprint == again.fingerprint
    assert first.meta == again.meta
    assert anonymize(digits, seed=1).fingerprint != first.fingerprint


def test_validation_rows_are_not_used(digits):
    other = EmbeddingSet(digits.val.embeddings[:9] + 1, digits.val.labels[:9], digits.val.meta)
    assert anonymize(digits, val=other).fingerprint == anonymize(digits).fingerprint


def test_sampling_settings_share_a_fit(digits):
    """Other draws of the same decoder cost nothing more."""
    one, two = (
        dpcvae.fit(digits.train, short(**values), seed=0, resources=CPU).decoder
        for values in ({}, {"variance": 0.5, "observation_std": 0.0})
    )
    for ours, theirs in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_rows_by_noisy_counts_and_never_none_of_a_class(digits):
    train = EmbeddingSet(digits.train.embeddings[:30], digits.train.labels[:30], digits.train.meta)
    released = short(delta=1e-5).release(train, digits.val, seed=0, resources=CPU)
    counts = np.bincount(released.labels, minlength=10)
    assert counts.min() >= 1
    assert counts.tolist() != np.bincount(train.labels, minlength=10).tolist()
    assert released.embeddings.shape == (counts.sum(), 64)


def test_classes_are_those_with_names_whatever_the_labels(digits):
    """That the only row of the last class is there does not show in how many classes there are."""
    kept = digits.train.labels != 9
    less = EmbeddingSet(
        digits.train.embeddings[kept], digits.train.labels[kept], digits.train.meta
    )
    settings = short(epochs=1)
    named = settings.release(less, digits.val, seed=0, resources=CPU)
    assert np.unique(named.labels).tolist() == [*range(10)]
    nameless = dpcvae.fit(without_meta(less), settings, seed=0, resources=CPU).decoder
    assert nameless.num_classes == 9


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "dpcvae needs --epsilon"),
        ({"epsilon": 0.0}, "--epsilon 0.0 must be greater than 0"),
        ({"epsilon": float("inf")}, "--epsilon inf must be finite"),
        ({"epsilon": 1.0, "sampling_rate": 1.5}, "--sampling_rate 1.5 is above its maximum, 1"),
        ({"epsilon": 1.0, "count_share": 0.9}, "leave nothing for the training"),
        ({"epsilon": 1.0, "feature_min": 0.0}, "are given together or not at all"),
        ({"epsilon": 1.0, "feature_min": 2.0, "feature_max": 1.0}, "2 is not below --feature_max"),
    ],
)
def test_settings_that_cannot_be(values, message):
    with pytest.raises(InputError, match=message):
        methods.parse("dpcvae", values)


def test_ids():
    method = methods.DPCVAE(epsilon=0.5, delta=1e-6)
    assert method.release_id(3) == "dpcvae-eps0.5-delta1e-06-s3"
    assert methods.parse("dpcvae", {"epsilon": 8}).release_id(0) == "dpcvae-eps8-s0"


@pytest.mark.parametrize("name", ["dpcvae", "dpcvae-online"])
def test_the_online_head_takes_no_statistics_of_real_rows(digits, name):
    method = methods.parse(name, short().given, methods.ALL)
    decoder = method.decoder(digits.train, digits.val, seed=0, resources=CPU)
    reference = method.reference(digits.train, decoder, seed=0)
    assert reference.fingerprint == anonymize(digits).fingerprint


# At the command line.


def script(roots, tmp_path, *more):
    flags = ["--anonymizer", "DPCVAE", "--epsilon", 2, "--epochs", 2, "--seed", 0, *more]
    return call("anonymize", *roots, "--ckpt_root", tmp_path / "ckpts", *flags)


def test_the_last_line_states_the_guarantee(roots, database, tmp_path):
    done = script(roots, tmp_path)
    assert done.status == 0, done.err
    facts = json.loads(done.out.splitlines()[-1])
    released = read(database.path("train", short().release_id(0)))
    assert facts == released.meta["facts"]
    assert facts["epsilon"] <= 2
    assert {"delta", "noise_multiplier", "sampling_rate", "steps", "max_grad_norm", "budget"} <= {
        *facts
    }


def test_without_opacus_nothing_is_written(roots, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "opacus.accountants", None)
    accounting.noise_multiplier.cache_clear()
    before = files_below(tmp_path)
    done = script(roots, tmp_path)
    assert done.status == 2
    assert "requirements-dp.txt" in done.err
    assert done.err.count("\n") == 1
    assert files_below(tmp_path) == before


@pytest.mark.parametrize(
    ("released", "online"),
    [
        (["--feature_min", 0, "--feature_max", 1], ["--feature_min", 0, "--feature_max", 1]),
        (
            ["--learning_rate", 4e-3, "--hidden_dim", 32, "--observation_std", 0.2],
            ["--fit_learning_rate", 4e-3, "--hidden_dim", 32, "--observation_std", 0.2],
        ),
    ],
)
def test_the_online_head_finds_the_fit_of_the_release(
    roots, database, tmp_path, monkeypatch, released, online
):
    """Another fit would be another private model, whose ε adds up with the release's."""
    done = script(roots, tmp_path, *released)
    assert done.status == 0, done.err
    (path,) = database.folder.glob("train_dpcvae-*.npz")
    seen = []
    fit = head.fit_online

    def fit_online(decoder, reference, *args, **kwargs):
        seen.append((decoder, reference))
        return fit(decoder, reference, *args, **kwargs)

    monkeypatch.setattr(head, "fit_online", fit_online)
    flags = ["--epsilon", 2, "--epochs", 2, "--seed", 0, "-e", 1, "--sigma", 0, *online]
    folders = ["--ckpt_root", tmp_path / "ckpts", "--output_root", tmp_path / "logs"]
    done = call("probing_noise_cvae", *roots, *folders, "--anonymizer", "dpcvae-online", *flags)
    assert done.status == 0, done.err
    ((decoder, reference),) = seen
    assert reference.fingerprint == read(path).fingerprint
    again = EmbeddingSet(*cvae.draws(decoder, seed=0))
    assert again.fingerprint == read(path).fingerprint
    (result,) = (tmp_path / "logs").rglob("*.json")
    content = json.loads(result.read_text())
    assert content["settings"] == read(path).meta["settings"]
    assert content["id"] == path.stem.replace("train_dpcvae", "dpcvae-online")
