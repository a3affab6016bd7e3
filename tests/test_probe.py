import json

import numpy as np
import pytest
import torch

from src import probe, results
from src.database import EmbeddingSet, Splits
from src.metrics import Scores
from src.models.cvae import Decoder
from src.models.linear import LinearHead
from src.probe import HeadSettings
from src.training import Fit

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


def online(splits, settings):
    """A head on fresh draws, standardised by the real training rows."""
    train = splits.train
    return probe.probe_decoder(
        splits, decoder(), 1.0, settings, reference=train, originals=train, seed=0, device=CPU
    )


def test_separable_classes_are_separated(splits):
    fitted = probe.probe_release(splits, splits.train, HeadSettings(), seed=0, device=CPU)
    assert probe.evaluate(fitted, splits.test, 0.0, seed=0) == Scores(100, 100, 100)
    assert fitted.average_mindistance == 0.0


def test_features_are_standardised_by_the_release(splits):
    moved = EmbeddingSet(splits.train.embeddings * 2 + 5, splits.train.labels)
    fitted = probe.probe_release(splits, moved, SHORT, seed=0, device=CPU)
    np.testing.assert_allclose(fitted.mean, moved.embeddings.mean(0), rtol=1e-5)
    expected = moved.embeddings.astype(np.float64).std(0)  # population: divided by n
    np.testing.assert_allclose(fitted.std[:2], expected[:2], rtol=1e-5)
    assert fitted.std[2] == 0
    assert fitted.average_mindistance == pytest.approx(0, abs=1e-5)  # each by its own statistics


def test_a_head_by_hand_under_noise():
    """Logit 2x against 0 on standardised x: labels follow the sign of x."""
    head = LinearHead(1, 2)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[-1.0], [1.0]]))
        head.bias.zero_()
    fitted = probe.Probe(head, torch.tensor([3.0]), torch.tensor([2.0]), Fit(1, 1, 0.0), 0.0)
    x = np.repeat([[1.0], [5.0]], 5000, axis=0).astype(np.float32)  # -1 and +1 standardised
    test = EmbeddingSet(x, np.repeat([0, 1], 5000))
    assert probe.evaluate(fitted, test, 0.0, seed=0).accuracy == 100
    # wrong where N(0, 1) exceeds 1: Φ(1) = 0.8413 right
    noisy = probe.evaluate(fitted, test, 1.0, seed=0)
    assert noisy.accuracy == pytest.approx(84.13, abs=1)
    # AUC of N(-1, 1) against N(1, 1): Φ(2/√2) = 0.9214
    assert noisy.auc == pytest.approx(92.14, abs=1)


def test_noise_depends_on_the_seed_alone(splits):
    fitted = probe.probe_release(splits, splits.train, SHORT, seed=0, device=CPU)
    one, same, other = (probe.evaluate(fitted, splits.test, 30.0, seed=seed) for seed in (0, 0, 1))
    assert one == same
    assert one != other


def test_same_seed_same_head_another_seed_another(splits):
    first, again, other = (
        probe.probe_release(splits, splits.train, SHORT, seed=seed, device=CPU).head.weight
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def decoder(num_classes=2):
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
    assert not torch.equal(seen[0][1], seen[21][1])  # the second epoch draws anew


def test_the_online_head_does_not_depend_on_how_much_is_drawn_at_once(splits, monkeypatch):
    weights = []
    for batches in (1, 3, 64):
        monkeypatch.setattr(probe, "BLOCK_BATCHES", batches)
        fitted = online(splits, SHORT)
        weights.append(fitted.head.weight)
    torch.testing.assert_close(weights[1], weights[0], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(weights[2], weights[0], rtol=1e-3, atol=1e-4)


def test_the_distance_of_online_rows_is_not_that_of_the_originals_to_themselves(splits):
    fitted = online(splits, SHORT)
    assert fitted.average_mindistance > 0.1


@pytest.mark.parametrize(
    ("release_id", "sigma", "name"),
    [
        ("identity", None, "digits_identity-s0.json"),
        ("ksame-5", None, "digits_ksame-5-s0.json"),
        ("cvae-s0", None, "digits_cvae-s0.json"),
        ("cvae-s10", None, "digits_cvae-s10-s0.json"),
        ("cvae-online-var0.5-s0", 1.0, "digits_cvae-online-var0.5-s0_sigma1.json"),
        ("identity", 0.25, "digits_identity-s0_sigma0.25.json"),
    ],
)
def test_names_of_results(tmp_path, release_id, sigma, name):
    path = results.result_path(tmp_path, "digits", "pixels", release_id, 0, sigma)
    assert path == tmp_path / "digits" / "pixels" / name


def test_a_result_says_what_it_was_made_from(splits):
    facts = {
        "release_id": "x", "release": None, "anonymizer": "x", "settings": {},
        "head": SHORT, "seed": 0, "sigma": None,
    }  # fmt: skip
    one = results.identity(splits, **facts)
    assert json.loads(json.dumps(one)) == one
    assert one == results.identity(splits, **facts)
    for change in ({"seed": 1}, {"sigma": 0.0}, {"head": HeadSettings()}, {"settings": {"k": 2}}):
        assert one["fingerprint"] != results.identity(splits, **facts | change)["fingerprint"]
