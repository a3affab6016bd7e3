"""The linear head: by hand, on releases, on fresh draws, under noise."""

import logging
from dataclasses import replace

import numpy as np
import pytest
import torch

from src.core import distances, seeding, threads
from src.core.errors import InputError
from src.core.threads import Team
from src.database import EmbeddingSet, Splits
from src.networks import linear
from src.networks.cvae import Decoder
from src.networks.heads import LinearHead
from src.networks.training import Fit
from src.probing import head, logistic, metrics
from src.probing.head import Head
from src.probing.metrics import Scores
from src.probing.settings import HeadSettings

CPU = torch.device("cpu")
SHORT = HeadSettings(num_epochs=2)


def blobs(rows, seed):
    """Two classes far apart in three dimensions, the last one constant."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, 2, rows)
    x = rng.normal(size=(rows, 3)) + 10 * labels[:, None]
    x[:, 2] = 7
    return EmbeddingSet(x.astype(np.float32), labels)


@pytest.fixture(scope="module")
def splits():
    return Splits(blobs(200, 0), blobs(50, 1), blobs(100, 2))


def fit(splits, rows, settings=SHORT, seed=0):
    return head.fit(rows, splits, settings, seed=seed, device=CPU)


def online(splits, settings=SHORT, reference=None):
    """A head on fresh draws, standardised by the real training rows."""
    rows = reference or splits.train
    return head.fit_online(decoder(), rows, splits, settings, seed=0)


def test_separable_classes_are_separated(splits):
    fitted = fit(splits, splits.train, HeadSettings())
    assert head.evaluate(fitted, splits.test, seed=0) == Scores(100, 100, 100)
    assert 1 <= fitted.fit.best_epoch <= fitted.fit.epochs <= 100


def test_features_are_standardised_by_the_release(splits):
    moved = EmbeddingSet(splits.train.embeddings * 2 + 5, splits.train.labels)
    fitted = fit(splits, moved)
    np.testing.assert_allclose(fitted.mean, moved.embeddings.mean(0), rtol=1e-5)
    expected = moved.embeddings.astype(np.float64).std(0)  # population: divided by n
    np.testing.assert_allclose(fitted.std[:2], expected[:2], rtol=1e-5)
    assert fitted.std[2] == 0
    distance = metrics.average_mindistance(moved, splits.train, CPU).mean
    assert distance == pytest.approx(0, abs=1e-5)  # each side by its own statistics
    assert metrics.average_mindistance(splits.train, splits.train, CPU).mean == 0


def test_a_head_by_hand_under_noise():
    """Logit 2x against 0 on standardised x: labels follow the sign of x."""
    linear = LinearHead(1, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[-1.0], [1.0]]))
        linear.bias.zero_()
    fitted = Head(linear, torch.tensor([3.0]), torch.tensor([2.0]), Fit(1, 1, 0.0, 0.0))
    x = np.repeat([[1.0], [5.0]], 5000, axis=0).astype(np.float32)  # -1 and +1 standardised
    test = EmbeddingSet(x, np.repeat([0, 1], 5000))
    assert head.evaluate(fitted, test, seed=0).accuracy == 100
    # wrong where N(0, 1) exceeds 1: Φ(1) = 0.8413 right
    noisy = head.evaluate(fitted, test, 1.0, seed=0)
    assert noisy.accuracy == pytest.approx(84.13, abs=1)
    # AUC of N(-1, 1) against N(1, 1): Φ(2/√2) = 0.9214
    assert noisy.auc == pytest.approx(92.14, abs=1)


def test_noise_depends_on_the_seed_alone(splits):
    fitted = fit(splits, splits.train)
    one, same, other = (head.evaluate(fitted, splits.test, 30.0, seed=seed) for seed in (0, 0, 1))
    assert one == same
    assert one != other


def test_same_seed_same_head_another_seed_another(splits):
    first, again, other = (
        fit(splits, splits.train, seed=seed).linear.weight for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def decoder(num_classes=2):
    with seeding.global_seed(0, "test"):
        made = Decoder(dim=3, num_classes=num_classes, hidden_dim=4, latent_dim=2)
    made.class_weights.copy_(torch.tensor([150.0, 50.0]))
    return made.requires_grad_(False)


def stepped(monkeypatch):
    """The rows of every step, as heads are fitted."""
    seen, original = [], linear.Stack.gradients

    def step(self, team, x, labels):
        seen.append(x[0, :, : self.dim])
        original(self, team, x, labels)

    monkeypatch.setattr(linear.Stack, "gradients", step)
    return seen


def test_an_online_epoch_is_ten_times_the_training_set(splits, monkeypatch):
    seen = stepped(monkeypatch)
    settings = HeadSettings(num_epochs=2, batch_size=96)
    online(splits, settings)
    sizes = list(map(len, seen))
    assert sum(sizes) == 2 * 10 * 200
    assert sizes[:21] == [96] * 20 + [80]
    assert not torch.equal(seen[0], seen[21])  # the second epoch draws again


def test_an_online_epoch_is_ten_times_the_reference_which_standardises(splits, monkeypatch):
    seen = stepped(monkeypatch)
    fitted = online(splits, HeadSettings(num_epochs=1), reference=splits.val)
    assert sum(map(len, seen)) == 10 * len(splits.val)
    np.testing.assert_allclose(fitted.mean, splits.val.embeddings.mean(0), rtol=1e-5)


def test_the_online_head_does_not_depend_on_how_much_is_drawn_at_once(splits, monkeypatch):
    weights = []
    for batches in (1, 3, 64):
        monkeypatch.setattr(head, "BLOCK_BATCHES", batches)
        weights.append(online(splits).linear.weight)
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(weights[2], weights[0], rtol=1e-3, atol=1e-4)


def test_the_distance_of_online_rows_is_not_that_of_the_originals_to_themselves(splits):
    drawn = head.draw(decoder(), len(splits.train), seed=0)
    assert len(drawn) == len(splits.train)
    assert metrics.average_mindistance(drawn, splits.train, CPU).mean > 0.1
    assert drawn.fingerprint == head.draw(decoder(), len(splits.train), seed=0).fingerprint
    assert drawn.fingerprint != head.draw(decoder(), len(splits.train), seed=1).fingerprint


def test_a_head_that_diverges_says_what_helps(splits):
    with pytest.raises(InputError, match=r"linear head diverged.*a smaller --learning_rate"):
        fit(splits, splits.train, HeadSettings(learning_rate=1e38, num_epochs=5))


# Limited features.


def spied(monkeypatch):
    """What the head sees in training and in validation."""
    validated, original = [], LinearHead.loss

    def loss(self, x, labels):
        validated.append(x)
        return original(self, x, labels)

    monkeypatch.setattr(LinearHead, "loss", loss)
    return {"training": stepped(monkeypatch), "validation": validated}


def far(splits):
    """The splits with one row of each far from all others."""
    moved = {}
    for name in ("train", "val", "test"):
        part = getattr(splits, name)
        rows = part.embeddings.copy()
        rows[0, 0] = 1e4
        moved[name] = EmbeddingSet(rows, part.labels)
    return Splits(**moved)


@pytest.mark.parametrize("fresh", [False, True])
def test_clip_limits_all_splits_but_neither_statistics_nor_noise(splits, monkeypatch, fresh):
    outlying = far(splits)
    seen, tested = spied(monkeypatch), []
    monkeypatch.setattr(LinearHead, "forward", lambda self, x: tested.append(x) or x[:, :2])

    def probe(clip):
        settings = replace(SHORT, clip=clip)
        if fresh:
            return head.fit_online(decoder(), outlying.train, outlying, settings, seed=0)
        return fit(outlying, outlying.train, settings)

    def taken(cases, batches):
        (case,), stack, team = cases, linear.Stack([cases[0].linear]), Team(1)
        for batch in batches([0], team):
            stack.gradients(team, *batch)
        case.linear.loss(case.held_out, case.labels)
        return [Fit(1, 1, 0.5, 0.0)]

    monkeypatch.setattr(linear, "fit", taken)

    free, limited = probe(None), probe(0.3)
    assert torch.equal(free.mean, limited.mean)
    assert torch.equal(free.std, limited.std)
    for rows in seen.values():
        half = len(rows) // 2
        unlimited, clipped = torch.cat(rows[:half]), torch.cat(rows[half:])
        assert unlimited.abs().max() > 0.5
        assert torch.equal(clipped, unlimited.clamp(-0.3, 0.3))
    tested.clear()
    for fitted in (free, limited):
        for sigma in (0.0, 5.0):
            head.evaluate(fitted, outlying.test, sigma, seed=0)
    clean, noisy, clean_limited, noisy_limited = tested
    assert clean.max() > 10
    assert torch.equal(clean_limited, clean.clamp(-0.3, 0.3))
    torch.testing.assert_close(noisy_limited - clean_limited, noisy - clean, atol=1e-4, rtol=0)
    assert noisy_limited.abs().max() > 5


def test_clip_of_a_test_row_by_hand():
    """Logits ∓x of a row at z = 1,000: limited to 2 it is as sure as exp(4) to 1, and no more."""
    linear = LinearHead(1, 2)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[-1.0], [1.0]]))
        linear.bias.zero_()
    fitted = Head(linear, torch.tensor([5.0]), torch.tensor([0.5]), Fit(1, 1, 0.0, 0.0), clip=2.0)
    test = EmbeddingSet(np.float32([[505], [4]]), np.array([1, 0]))
    given = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(metrics, "scores", lambda probabilities, labels: given.append(probabilities))
        head.evaluate(fitted, test, seed=0)
    expected = [[1 / (1 + np.exp(4)), np.exp(4) / (1 + np.exp(4))]]
    np.testing.assert_allclose(given[0], expected + [row[::-1] for row in expected], rtol=1e-5)


@pytest.mark.parametrize(
    "settings", [SHORT, HeadSettings(head="logistic")], ids=["adam", "logistic"]
)
def test_a_limit_that_no_row_reaches_changes_nothing(splits, settings):
    free, limited = (
        fit(splits, splits.train, replace(settings, clip=clip)) for clip in (None, 1e6)
    )
    assert torch.equal(free.linear.weight, limited.linear.weight)
    scores = [head.evaluate(fitted, splits.test, 1.0, seed=0) for fitted in (free, limited)]
    assert scores[0] == scores[1]


# What is said of a fit and of test rows.


def warnings(caplog):
    return [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]


def test_one_row_that_makes_up_the_validation_loss_is_warned_of(splits, caplog):
    val = far(splits).val
    val.labels[0] = 1 - val.labels[0]
    outlying = replace(splits, val=val)
    fit(outlying, splits.train, HeadSettings(num_epochs=1))
    (warning,) = warnings(caplog)
    assert warning.startswith("one of 50 validation rows makes up 95 % of the loss")
    assert warning.endswith("try --head logistic or --clip 10")
    assert "\n" not in warning
    caplog.clear()
    fit(outlying, splits.train, HeadSettings(num_epochs=1, clip=1))  # its share is bounded
    assert not warnings(caplog)
    fit(outlying, splits.train, HeadSettings(head="logistic"))
    assert not warnings(caplog)


def test_a_best_first_epoch_is_warned_of(splits, caplog):
    flipped = EmbeddingSet(splits.val.embeddings, 1 - splits.val.labels)
    fitted = fit(replace(splits, val=flipped), splits.train, HeadSettings(clip=3))
    assert (fitted.fit.best_epoch, fitted.fit.epochs) == (1, 6)
    (warning,) = warnings(caplog)
    assert "best after its first epoch of 6" in warning
    assert warning.endswith("; try --head logistic")  # the limit is set already
    caplog.clear()
    fit(splits, splits.train, HeadSettings(num_epochs=1))  # the only epoch is not "the first"
    fit(splits, splits.train, HeadSettings())
    assert not warnings(caplog)


def test_test_rows_far_from_the_release_are_counted_and_said(caplog):
    linear = LinearHead(2, 2)
    fitted = Head(linear, torch.tensor([1.0, 0.0]), torch.tensor([0.1, 0.0]), Fit(1, 1, 0.0, 0.0))
    x = np.float32([[11, 0], [11.1, 0], [-9.1, 0], [1, 100], [1, -101], [50, 500]])
    test = EmbeddingSet(x, np.zeros(6, np.int64))  # |z| 100, 101, 101; 100, 101; both
    assert head.extreme_rows(fitted, test) == 4
    (warning,) = warnings(caplog)
    assert warning.startswith("4 of 6 test rows are beyond 100 standard deviations")
    assert "up to 500; --clip 10 limits them" in warning
    caplog.clear()
    assert head.extreme_rows(fitted._replace(clip=10.0), test) == 4  # counted before the limit
    near = EmbeddingSet(x[[0, 3]], test.labels[:2])
    assert head.extreme_rows(fitted, near) == 0
    assert not warnings(caplog)


@pytest.mark.parametrize("name", ["val", "test"])
@pytest.mark.parametrize(
    "settings", [SHORT, HeadSettings(head="logistic")], ids=["adam", "logistic"]
)
def test_rows_that_overflow_are_one_line(splits, recwarn, name, settings):
    train = EmbeddingSet(1e-3 * splits.train.embeddings, splits.train.labels)
    rows = EmbeddingSet(getattr(splits, name).embeddings.copy(), getattr(splits, name).labels)
    rows.embeddings[3, 0] = 3e38
    overflowing = replace(splits, train=train, **{name: rows})
    with pytest.raises(InputError, match="far from|diverged") as error:
        fitted = fit(overflowing, train, settings)
        assert name == "test"
        head.evaluate(fitted, overflowing.test, seed=0)
    assert "\n" not in str(error.value)
    fitted = fit(overflowing, train, replace(settings, clip=10))
    head.evaluate(fitted, overflowing.test, seed=0)
    assert not recwarn.list


# What varies only by rounding.


def rounded(part, seed=0):
    """The last feature is 0.1 up to three units in the last place."""
    ulp = np.spacing(np.float32(0.1))
    rows = part.embeddings.copy()
    rows[:, 2] = np.float32(0.1) + ulp * np.random.default_rng(seed).integers(-3, 4, len(rows))
    return EmbeddingSet(rows.astype(np.float32), part.labels)


def test_a_feature_that_varies_by_rounding_alone_is_constant(splits, monkeypatch, caplog):
    train, test = rounded(splits.train), rounded(splits.test)
    test.embeddings[:, 2] = 0.2
    given = Splits(train, rounded(splits.val, 1), test)

    def measured():
        fitted = fit(given, train, HeadSettings())
        return (
            fitted.std[2],
            head.extreme_rows(fitted, test),
            metrics.average_mindistance(rounded(splits.train, 2), train, CPU).mean,
        )

    std, extreme, distance = measured()
    assert std == 0
    assert extreme == 0
    assert distance < 1e-6
    assert not warnings(caplog)
    monkeypatch.setattr(distances, "ROUNDING", 0)  # as it was: noise is blown up to deviations
    std, extreme, distance = measured()
    assert 0 < std < 1e-7
    assert extreme == len(test)
    assert distance > 1e-3


# The logistic head.


def logistic_of(splits, rows, *, seed=0, clip=None):
    return fit(splits, rows, HeadSettings(head="logistic", clip=clip), seed=seed)


def test_a_logistic_head_is_the_same_whatever_the_seed(splits):
    noisy = EmbeddingSet(
        splits.train.embeddings
        + np.random.default_rng(0).normal(0, 9, (200, 3)).astype(np.float32),
        splits.train.labels,
    )
    one, other = (logistic_of(splits, noisy, seed=seed) for seed in (0, 1))
    for first, second in zip(
        one.linear.state_dict().values(), other.linear.state_dict().values(), strict=True
    ):
        assert first.numpy().tobytes() == second.numpy().tobytes()
    assert one.strength == other.strength
    assert one.fit.best_loss == other.fit.best_loss
    assert head.evaluate(one, splits.test, seed=0) == head.evaluate(other, splits.test, seed=1)
    adam = [fit(splits, noisy, SHORT, seed=seed).linear.weight for seed in (0, 1)]
    assert not torch.equal(*adam)  # as published


def test_a_logistic_head_is_that_of_standardised_and_limited_features(splits):
    outlying = far(splits)
    fitted = logistic_of(outlying, outlying.train, clip=0.8)
    mean, std = distances.moments(torch.from_numpy(outlying.train.embeddings))

    def labelled(part):
        x = distances.standardize(torch.from_numpy(part.embeddings), mean, std, 0.8)
        return logistic.Labelled(x.numpy(), part.labels)

    expected = logistic.fit(labelled(outlying.train), labelled(outlying.val), 2)
    assert torch.equal(fitted.mean, mean)
    assert torch.equal(fitted.std, std)
    np.testing.assert_array_equal(fitted.linear.weight.detach(), expected.weight)
    np.testing.assert_array_equal(fitted.linear.bias.detach(), expected.bias)
    assert fitted.strength == expected.strength
    assert fitted.clip == 0.8
    assert fitted.fit.epochs == fitted.fit.best_epoch == expected.steps


def test_separable_classes_are_separated_by_a_logistic_head(splits):
    fitted = logistic_of(splits, splits.train)
    assert head.evaluate(fitted, splits.test, seed=0) == Scores(100, 100, 100)


def test_an_online_logistic_head_uses_one_set_of_ten_draws_per_row(splits, monkeypatch):
    seen, original = [], logistic.fit

    def spy(rows, held_out, num_classes):
        seen.append(rows)
        return original(rows, held_out, num_classes)

    monkeypatch.setattr(logistic, "fit", spy)
    settings = HeadSettings(head="logistic", clip=2)
    made = decoder()
    made.observation_noise = 0.5
    made.noise_scale.fill_(3.0)
    for seed in (0, 0, 1):
        fitted = head.fit_online(made, splits.train, splits, settings, seed=seed)
    once, again, other = seen
    assert len(once.labels) == len(once.x) == 10 * len(splits.train)
    assert once.x.tobytes() == again.x.tobytes()
    assert once.labels.tobytes() == again.labels.tobytes()
    assert once.x.tobytes() != other.x.tobytes()
    assert np.abs(once.x).max() <= 2
    np.testing.assert_allclose(fitted.mean, splits.train.embeddings.mean(0), rtol=1e-5)
    generator = seeding.generator(1, "head/fit")
    labels = made.sample_labels(2000, generator)
    drawn = torch.cat(list(made.sample(labels, generator)))
    expected = distances.standardize(drawn, fitted.mean, fitted.std, 2)
    np.testing.assert_array_equal(other.x, expected)
    np.testing.assert_array_equal(other.labels, labels)


def test_observation_noise_reaches_an_online_head_and_its_distance(splits):
    def measured(noise):
        made = decoder()
        made.noise_scale.fill_(5.0)
        made.observation_noise = noise
        fitted = head.fit_online(made, splits.train, splits, SHORT, seed=0)
        return fitted.linear.weight, head.draw(made, 100, seed=0).embeddings

    (plain, rows), (noisy, more) = measured(0.0), measured(0.5)
    assert not torch.equal(plain, noisy)
    assert (more - rows).std() == pytest.approx(2.5, rel=0.2)


# Several heads at once, and threads.


def test_heads_fitted_together_are_those_fitted_alone(splits):
    fewer = EmbeddingSet(splits.train.embeddings[:150], splits.train.labels[:150])
    other = EmbeddingSet(splits.train.embeddings * 3, splits.train.labels)
    clipped = HeadSettings(clip=1.0, num_epochs=5, learning_rate=0.05, patience=1)
    sought = [
        head.Sought(splits.train, HeadSettings(num_epochs=8), 0),
        head.Sought(other, SHORT, 1),
        head.Sought(fewer, SHORT, 2),
        head.Sought(splits.train, HeadSettings(head="logistic"), 3),
        head.Sought(splits.train, clipped, 4),
        head.Sought(splits.train, HeadSettings(num_epochs=3, batch_size=64), 5),
        head.Sought(splits.train, SHORT, 6),
    ]
    for one, found in zip(sought, head.fit_many(sought, splits, device=CPU), strict=True):
        alone = fit(splits, one.rows, one.settings, one.seed)
        for ours, expected in zip(found[:3], alone[:3], strict=True):
            weights = ours.weight if isinstance(ours, LinearHead) else ours
            theirs = expected.weight if isinstance(expected, LinearHead) else expected
            assert torch.equal(weights, theirs)
        assert torch.equal(found.linear.bias, alone.linear.bias)
        assert found.fit._replace(seconds=0) == alone.fit._replace(seconds=0)
        assert found[4:] == alone[4:]
    assert not head.fit_many([], splits, device=CPU)


def test_a_head_that_cannot_be_fitted_is_an_error_in_its_place(splits):
    one_class = EmbeddingSet(splits.train.embeddings, 0 * splits.train.labels)
    sought = [
        head.Sought(splits.train, SHORT, 0),
        head.Sought(splits.train, HeadSettings(learning_rate=1e38), 0),
        head.Sought(one_class, HeadSettings(head="logistic"), 0),
    ]
    first, second, third = head.fit_many(sought, splits, device=CPU)
    assert torch.equal(first.linear.weight, fit(splits, splits.train).linear.weight)
    assert isinstance(second, InputError)
    assert isinstance(third, InputError)


@pytest.mark.parametrize("fresh", [False, True], ids=["rows", "fresh draws"])
def test_the_number_of_threads_changes_no_byte(splits, fresh, monkeypatch):
    monkeypatch.setattr(head, "BLOCK_BATCHES", 2)
    before, found = torch.get_num_threads(), []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            fitted = online(splits) if fresh else fit(splits, splits.train)
            found.append((fitted.linear.weight, fitted.fit.losses))
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(before)
    assert torch.equal(found[0][0], found[1][0])
    assert found[0][1] == found[1][1]


def test_with_shared_operations_the_bytes_would_depend_on_the_threads():
    """On machines whose products are rounded as threads share them; elsewhere nothing is shown."""
    a, b = torch.randn(10, 128), torch.randn(128, 64)
    before, products = torch.get_num_threads(), []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            products.append(a @ b)
    finally:
        torch.set_num_threads(before)
    if torch.equal(*products):
        pytest.skip("this machine rounds alike")
    with threads.one():
        assert torch.equal(a @ b, products[0])
