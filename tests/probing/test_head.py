"""The linear head: by hand, on releases, on fresh draws, under noise."""

import numpy as np
import pytest
import torch

from src.core import seeding
from src.core.errors import InputError
from src.database import EmbeddingSet, Splits
from src.networks.cvae import Decoder
from src.networks.heads import LinearHead
from src.networks.training import Fit
from src.probing import head, metrics
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
    distance = metrics.average_mindistance(moved, splits.train, CPU)
    assert distance == pytest.approx(0, abs=1e-5)  # each side by its own statistics
    assert metrics.average_mindistance(splits.train, splits.train, CPU) == 0


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


def test_an_online_epoch_is_ten_times_the_training_set(splits, monkeypatch):
    seen = []
    original = LinearHead.loss

    def loss(self, x, labels):
        if torch.is_grad_enabled():
            seen.append((len(x), x))
        return original(self, x, labels)

    monkeypatch.setattr(LinearHead, "loss", loss)
    settings = HeadSettings(num_epochs=2, batch_size=96)
    online(splits, settings)
    sizes = [size for size, _ in seen]
    assert sum(sizes) == 2 * 10 * 200
    assert sizes[:21] == [96] * 20 + [80]
    assert not torch.equal(seen[0][1], seen[21][1])  # the second epoch draws again


def test_an_online_epoch_is_ten_times_the_reference_which_standardises(splits, monkeypatch):
    sizes = []
    original = LinearHead.loss

    def loss(self, x, labels):
        if torch.is_grad_enabled():
            sizes.append(len(x))
        return original(self, x, labels)

    monkeypatch.setattr(LinearHead, "loss", loss)
    fitted = online(splits, HeadSettings(num_epochs=1), reference=splits.val)
    assert sum(sizes) == 10 * len(splits.val)
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
    assert metrics.average_mindistance(drawn, splits.train, CPU) > 0.1
    assert drawn.fingerprint == head.draw(decoder(), len(splits.train), seed=0).fingerprint
    assert drawn.fingerprint != head.draw(decoder(), len(splits.train), seed=1).fingerprint


def test_a_head_that_diverges_says_what_helps(splits):
    with pytest.raises(InputError, match=r"linear head diverged.*a smaller --learning_rate"):
        fit(splits, splits.train, HeadSettings(learning_rate=1e38, num_epochs=5))
