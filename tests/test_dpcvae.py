"""The guarantee: what it covers, that the noise is there, and that one row cannot do more."""

import json
import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.func import functional_call, grad, vmap

from src import anonymizers, privacy, runs, seeding
from src.anonymizers import Resources, dpcvae
from src.anonymizers.settings import DPCVAESettings
from src.database import Database, EmbeddingSet, read
from src.errors import InputError, OutputError
from src.head import HeadSettings
from src.models.cvae import CVAE
from src.privacy import Mechanism
from tests.conftest import call, files_below
from tests.test_privacy import gaussian_delta, google_epsilon

CPU = Resources(torch.device("cpu"))
ENTRY = anonymizers.get("dpcvae")
SHORT = {"epsilon": 2.0, "epochs": 2}


def anonymize(digits, *, seed=0, val=None, resources=CPU, **values):
    settings = ENTRY.parse({**SHORT, **values})
    val = digits.val if val is None else val
    return anonymizers.anonymize(
        ENTRY, settings, digits.train, val, seed=seed, resources=resources
    )


def without_meta(data):
    return EmbeddingSet(data.embeddings, data.labels)


def mechanisms(facts):
    """What a release's facts say was run."""
    budget = facts["budget"]
    found = [Mechanism(budget["class_counts"]["noise_multiplier"])]
    if "noise_multiplier" in budget["scaling"]:
        found.append(Mechanism(budget["scaling"]["noise_multiplier"], steps=3))
    gradients = Mechanism(facts["noise_multiplier"], facts["sampling_rate"], facts["steps"])
    return [*found, gradients]


@pytest.mark.parametrize(("epsilon", "public"), [(2.0, True), (8.0, False)])
def test_epsilon_by_another_accountant(digits, epsilon, public):
    train = digits.train if public else without_meta(digits.train)
    settings = ENTRY.parse({**SHORT, "epsilon": epsilon})
    facts = dpcvae.fit(train, settings, seed=0, resources=CPU).facts
    assert ("public_bounds" in facts["budget"]["scaling"]) == public
    assert facts["steps"] == 8  # two epochs of a quarter of the rows
    assert facts["epsilon"] <= epsilon
    other = google_epsilon(*mechanisms(facts), delta=facts["delta"])
    assert 0 <= facts["epsilon"] - other < 0.02
    assert other > 0.95 * epsilon  # and the budget is used


def test_a_small_budget_can_be_spent(digits):
    facts = anonymize(digits, epsilon=0.01).meta["facts"]
    assert facts["epsilon"] <= 0.01
    whole = sum(
        1 / (m.noise_multiplier / m.sampling_rate) ** 2 * m.steps for m in mechanisms(facts)
    )
    exact = gaussian_delta(whole**-0.5, facts["epsilon"])  # nearly, with that much noise
    assert 0.5 * facts["delta"] < exact < facts["delta"]


@pytest.mark.parametrize(("target", "error"), [(16.0, 0.01), (0.2, 0.01), (0.01, 0.0005)])
def test_the_error_of_the_accountant_is_small_beside_the_target(target, error):
    assert privacy.tolerance(target) == pytest.approx(error)


def test_the_accountant_counts_the_steps_that_were_run(digits, monkeypatch):
    stepped = []
    step = torch.optim.Adam.step
    monkeypatch.setattr(torch.optim.Adam, "step", lambda s, *a: stepped.append(1) or step(s, *a))
    facts = anonymize(digits).meta["facts"]
    assert len(stepped) == facts["steps"] == 8


def test_facts_do_not_depend_on_rows(digits):
    rng = np.random.default_rng(0)
    train = EmbeddingSet(
        rng.random((1100, 64), dtype=np.float32), rng.integers(0, 10, 1100), digits.train.meta
    )
    settings = ENTRY.parse(SHORT)
    ours, theirs = (
        dpcvae.fit(data, settings, seed=seed, resources=CPU).facts
        for data, seed in ((digits.train, 0), (train, 1))
    )
    assert ours == theirs


@pytest.mark.parametrize(
    ("rows", "delta"), [(1, 0.1), (10, 0.01), (11, 1e-3), (1000, 1e-4), (1293, 1e-5)]
)
def test_the_default_delta_is_below_one_in_ten_n(rows, delta):
    assert dpcvae._delta(DPCVAESettings(epsilon=1.0), rows) == pytest.approx(delta)
    assert delta * 10 * rows <= 1 + 1e-9


def test_a_delta_that_would_allow_to_release_a_row(digits):
    with pytest.raises(InputError, match=r"--delta 0.001 must be below 1/n = 0.00077"):
        anonymize(digits, delta=1e-3)


# One row's influence.

rows_of_three = st.lists(
    st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3), min_size=1, max_size=8
)


@given(rows_of_three, st.lists(st.floats(-1e6, 1e6, width=32), min_size=3, max_size=3))
def test_one_row_changes_a_sum_by_at_most_one(rows, extra):
    def total(values):
        return dpcvae.noisy_sum(torch.tensor(values), 0.0, torch.Generator())

    assert (total([*rows, extra]) - total(rows)).norm() <= 1 + 1e-5


@pytest.mark.parametrize("value", [3e37, 3e38, float("inf"), float("nan")])
def test_no_row_is_too_large_for_a_sum(value):
    rows = torch.full((3, 64), 0.01)
    rows[1] = value
    total = dpcvae.noisy_sum(rows, 0.0, torch.Generator())
    assert (total - 0.02).norm() <= 1 + 1e-5


def test_no_row_is_too_large_for_bounds():
    rows = torch.randn(500, 4, generator=torch.Generator().manual_seed(1)) * 1e-3
    rows[0] = torch.tensor([3e37, -3e38, 3e37, 0.0])  # divided by the norm of typical rows: inf
    low, high = bounds(rows)
    assert low.isfinite().all()
    assert high.isfinite().all()
    assert (high - low).max() < 1


def test_sums_carry_the_noise_that_is_stated():
    noise = dpcvae.noisy_sum(torch.zeros(2, 20_000), 5.0, torch.Generator().manual_seed(0))
    assert float(noise.std()) == pytest.approx(5.0, rel=0.02)


class Training:
    """One DP-SGD step on given rows, and what opacus made of them before and after the noise."""

    settings = DPCVAESettings(epsilon=1.0, max_grad_norm=0.5, hidden_dim=16, latent_dim=2)

    def __init__(self, x, y, monkeypatch, *, rate=1.0, steps=1, noise=3.0):
        self.x, self.y, self.sums, self.noisy = x, y, [], []
        optimizers = privacy.opacus("optimizers")
        original = optimizers.DPOptimizerFastGradientClipping.add_noise

        def add_noise(optimizer):
            self.sums.append(torch.cat([p.summed_grad.flatten() for p in optimizer.params]))
            original(optimizer)
            self.noisy.append(torch.cat([p.grad.flatten() for p in optimizer.params]))

        target = optimizers.DPOptimizerFastGradientClipping
        monkeypatch.setattr(target, "add_noise", add_noise)
        with seeding.global_seed(0, "test"):
            self.start = CVAE(x.shape[1], y.shape[1], 16, 2)
        budget = dpcvae.Budget(Mechanism(9.0), None, Mechanism(noise, rate, steps))
        model = CVAE(x.shape[1], y.shape[1], 16, 2)
        model.load_state_dict(self.start.state_dict())
        generator = torch.Generator().manual_seed(0)
        self.model, self.accountant = dpcvae._train(
            model, x, y, float(len(x)), self.settings, budget, generator
        )
        monkeypatch.setattr(target, "add_noise", original)


@pytest.fixture
def batch(digits):
    x, y = digits.train.tensors(torch.device("cpu"))
    return x[:40], nn.functional.one_hot(y[:40], 10).float()


def test_each_gradient_is_clipped_before_it_is_added(batch, monkeypatch):
    """Against gradients of single rows by another way of differentiation."""
    step = Training(*batch, monkeypatch)
    model, (x, y) = step.start, batch
    weights = dict(model.named_parameters())
    with torch.no_grad():
        weights["decoder.layers.0.weight"][:, 2:] *= dpcvae.CLASS_GAIN
    generator = torch.Generator().manual_seed(0)
    torch.rand(40, generator=generator)
    noise = torch.randn(40, 2, generator=generator)

    class Loss(nn.Module):
        def __init__(self):
            super().__init__()
            self.model = model

        def forward(self, *rows):
            return self.model.loss_rows(
                *(r[None] for r in rows), kl_weight=0.1, prior_variance=0.5
            )[0]

    loss = Loss()
    parameters = dict(loss.named_parameters())
    single = vmap(grad(lambda p, *row: functional_call(loss, p, row)), in_dims=(None, 0, 0, 0))(
        parameters, x, y, noise
    )
    rows = torch.cat([g.flatten(1) for g in single.values()], dim=1)
    norms = rows.norm(dim=1, keepdim=True)
    assert norms.min() > 0.5  # all of them are too long
    torch.testing.assert_close(step.sums[0], (rows * 0.5 / norms).sum(0), rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("outlier", [0.0, 0.5, 1.0])
def test_one_row_more_moves_the_gradient_by_the_clipping_norm_at_most(batch, monkeypatch, outlier):
    """From no row to one: with the test above, from any rows to one more."""
    step = Training(torch.full((1, 64), outlier), batch[1][:1], monkeypatch)
    assert 0.49 < step.sums[0].norm() <= 0.5 + 1e-6


def test_weights_that_are_not_finite_are_not_released(batch, monkeypatch):
    with pytest.raises(InputError, match="DP-CVAE diverged; a smaller --learning_rate"):
        Training(batch[0] * 1e30, batch[1], monkeypatch)


def test_noise_has_the_stated_size_and_the_batch_the_expected_one(batch, monkeypatch):
    step = Training(*batch, monkeypatch, noise=3.0)
    added = step.noisy[0] - step.sums[0]
    assert float(added.std()) == pytest.approx(3.0 * 0.5, rel=0.05)


def test_empty_samples_still_take_noisy_steps(batch, monkeypatch):
    step = Training(*batch, monkeypatch, rate=1e-9, steps=3)
    assert len(step.sums) == 3
    assert not torch.stack(step.sums).any()
    assert torch.stack(step.noisy).any(1).all()
    assert all(p.isfinite().all() for p in step.model.parameters())
    assert step.accountant.history[-1] == (3.0, 1e-9, 3)


def test_no_module_mixes_rows():
    kinds = {type(module) for module in CVAE(4, 2, 8, 2).modules()}
    assert kinds <= {CVAE, nn.Linear, nn.ReLU, nn.Sigmoid, nn.Sequential} | {
        type(CVAE(4, 2, 8, 2).decoder)
    }


# What a release is made of.


def test_the_same_seed_gives_the_same_bytes(digits):
    first, again = anonymize(digits), anonymize(digits)
    assert first.fingerprint == again.fingerprint
    assert first.meta == again.meta
    assert anonymize(digits, seed=1).fingerprint != first.fingerprint


def test_validation_rows_are_not_used(digits):
    other = EmbeddingSet(digits.val.embeddings[:9] + 1, digits.val.labels[:9], digits.val.meta)
    assert anonymize(digits, val=other).fingerprint == anonymize(digits).fingerprint


def test_noise_comes_from_a_secret_key_too(digits, tmp_path):
    """The same key gives the same bytes; without it, knowing the seed is of no use."""
    kept, lost = (Resources(CPU.device, tmp_path / name) for name in ("kept", "lost"))
    first = anonymize(digits, resources=kept)
    assert first.fingerprint == anonymize(digits, resources=kept).fingerprint
    assert first.fingerprint != anonymize(digits, resources=lost).fingerprint
    assert first.fingerprint != anonymize(digits).fingerprint
    key = tmp_path / "kept" / "dpcvae.key"
    assert len(key.read_text()) == 64
    assert key.stat().st_mode & 0o077 == 0
    assert "secret key" in first.meta["facts"]["noise"]
    assert "keep it secret" in anonymize(digits).meta["facts"]["noise"]


def test_first_fits_at_the_same_time_use_one_key(tmp_path):
    for folder in (tmp_path / str(number) for number in range(20)):
        barrier = threading.Barrier(4)

        def first(folder, barrier):
            barrier.wait()
            return dpcvae._secret(folder)

        with ThreadPoolExecutor(4) as pool:
            keys = {*pool.map(first, [folder] * 4, [barrier] * 4)}
        assert keys == {(folder / "dpcvae.key").read_text()}
        assert [path.name for path in folder.iterdir()] == ["dpcvae.key"]


def test_a_key_is_never_replaced_nor_readable_by_others(tmp_path, monkeypatch):
    path = tmp_path / "dpcvae.key"
    dpcvae._make_key(path)
    key = path.read_text()
    modes = []
    link = os.link
    monkeypatch.setattr(
        os, "link", lambda a, b: modes.append(Path(a).stat().st_mode) or link(a, b)
    )
    dpcvae._make_key(path)  # the loser of a race
    assert path.read_text() == key
    assert [mode & 0o777 for mode in modes] == [0o600]


def test_a_key_that_cannot_be_kept(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"cannot make or read .*dpcvae.key"):
        dpcvae._secret(tmp_path / "file" / "below")


def test_all_of_the_key_is_in_the_generator(digits):
    """With a key, no seed of torch's leads to it; without one, the generator is the seed's."""
    settings = ENTRY.parse(SHORT)

    def made(secret):
        return dpcvae._generator(secret, digits.train, settings, 0, CPU.device)

    key = "0" * 64
    assert torch.equal(made(key).get_state(), made(key).get_state())
    assert not torch.equal(made(key).get_state(), made("1" * 64).get_state())
    for secret, seeded in ((key, False), ("", True)):
        state = made(secret).get_state()
        word = int(state[seeding.STATE].numpy().view(np.uint64)[0])  # where a seed is put
        from_seed = torch.Generator().manual_seed(word)
        drawn = torch.rand(9, generator=made(secret))
        assert torch.equal(drawn, torch.rand(9, generator=from_seed)) == seeded


def test_neighbours_share_no_noise(digits):
    """What two releases say differs by more than the row: no noise cancels out."""
    train, settings = digits.train, ENTRY.parse(SHORT)
    less = EmbeddingSet(train.embeddings[:-1], train.labels[:-1], train.meta)
    ours, theirs = (
        dpcvae.fit(data, settings, seed=0, resources=CPU).decoder.class_weights
        for data in (train, less)
    )
    assert ((ours - theirs).abs() > 1).sum() > 5


def test_sampling_settings_share_a_fit(digits):
    """Other draws of the same decoder cost nothing more."""
    one, two = (
        dpcvae.fit(digits.train, ENTRY.parse({**SHORT, **values}), seed=0, resources=CPU).decoder
        for values in ({}, {"variance": 0.5, "observation_std": 0.0})
    )
    for ours, theirs in zip(one.state_dict().values(), two.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)


def test_rows_by_noisy_counts_and_never_none_of_a_class(digits):
    train = EmbeddingSet(digits.train.embeddings[:30], digits.train.labels[:30], digits.train.meta)
    settings = ENTRY.parse({**SHORT, "delta": 1e-5})
    released = dpcvae.release(train, digits.val, settings, seed=0, resources=CPU)
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
    settings = ENTRY.parse({**SHORT, "epochs": 1})
    named = dpcvae.release(less, digits.val, settings, seed=0, resources=CPU)
    assert np.unique(named.labels).tolist() == [*range(10)]
    nameless = dpcvae.fit(without_meta(less), settings, seed=0, resources=CPU).decoder
    assert nameless.num_classes == 9


# Scaling without public bounds.


def bounds(rows, noise=1e-3):
    return dpcvae._private_bounds(rows, float(len(rows)), noise, torch.Generator().manual_seed(0))


def test_private_bounds_are_the_mean_and_four_deviations():
    rows = torch.randn(4000, 3, generator=torch.Generator().manual_seed(1))
    rows = rows * torch.tensor([1.0, 2.0, 0.5]) + torch.tensor([3.0, 0.0, -1.0])
    low, high = bounds(rows)
    deviation = (rows - rows.mean(0)).abs().mean(0)
    torch.testing.assert_close((low + high) / 2, rows.mean(0), atol=0.1, rtol=0.1)
    torch.testing.assert_close((high - low) / 2, 4 * deviation, atol=0.1, rtol=0.1)


@pytest.mark.parametrize("value", [0.0, 7.0, -1e-6])
def test_constant_features_have_a_range_like_all_others(value):
    rows = torch.randn(500, 4, generator=torch.Generator().manual_seed(1))
    rows[:, 2] = value
    low, high = bounds(rows, noise=5.0)
    assert (high > low).all()
    assert low[2] < value < high[2]


def test_rows_of_zeros():
    low, high = bounds(torch.zeros(50, 4), noise=5.0)
    assert (high > low).all()
    assert low.isfinite().all()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "dpcvae needs --epsilon"),
        ({"epsilon": 0.0}, "--epsilon 0.0 must be greater than 0"),
        ({"epsilon": float("inf")}, "--epsilon inf must be finite"),
        ({"epsilon": 1.0, "sampling_rate": 1.5}, "--sampling_rate 1.5 is above 1"),
        ({"epsilon": 1.0, "count_share": 0.9}, "leave nothing for the training"),
        ({"epsilon": 1.0, "feature_min": 0.0}, "are given together or not at all"),
        ({"epsilon": 1.0, "feature_min": 2.0, "feature_max": 1.0}, "2 is not below --feature_max"),
    ],
)
def test_settings_that_cannot_be(values, message):
    with pytest.raises(InputError, match=message):
        ENTRY.parse(values)


def test_ids():
    settings = ENTRY.parse({"epsilon": 0.5, "delta": 1e-6})
    assert ENTRY.release_id(settings, 3) == "dpcvae-eps0.5-delta1e-06-s3"
    assert ENTRY.release_id(ENTRY.parse({"epsilon": 8}), 0) == "dpcvae-eps8-s0"


def test_the_online_head_takes_no_statistics_of_real_rows(digits, tmp_path):
    settings = ENTRY.parse(SHORT)
    run = runs.OnlineRun(
        database=Database(tmp_path, "digits", "pixels"),
        splits=digits,
        anonymizer=anonymizers.get("dpcvae-online"),
        settings=settings,
        head=HeadSettings(),
        seed=0,
        output_root=tmp_path,
    )
    reference = run.prepare(CPU).keywords["reference"]
    assert reference.fingerprint == anonymize(digits).fingerprint


# At the command line.


def script(roots, tmp_path):
    flags = ["--anonymizer", "DPCVAE", "--epsilon", 2, "--epochs", 2, "--seed", 0]
    return call("anonymize", *roots, "--ckpt_root", tmp_path / "ckpts", *flags)


def test_the_last_line_states_the_guarantee(roots, database, tmp_path):
    done = script(roots, tmp_path)
    assert done.status == 0, done.err
    facts = json.loads(done.out.splitlines()[-1])
    settings = ENTRY.parse(SHORT)
    released = read(database.path("train", ENTRY.release_id(settings, 0)))
    assert facts == released.meta["facts"]
    assert facts["epsilon"] <= 2
    assert {"delta", "noise_multiplier", "sampling_rate", "steps", "max_grad_norm", "budget"} <= {
        *facts
    }


def test_without_opacus_nothing_is_written(roots, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "opacus.accountants", None)
    privacy.noise_multiplier.cache_clear()
    before = files_below(tmp_path)
    done = script(roots, tmp_path)
    assert done.status == 2
    assert "requirements-dp.txt" in done.err
    assert done.err.count("\n") == 1
    assert files_below(tmp_path) == before
