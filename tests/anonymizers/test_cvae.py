"""The CVAE as a method: its fit, its checkpoints and its releases."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.anonymizers import cvae, methods
from src.anonymizers.base import ordered
from src.anonymizers.dp import accounting
from src.core import distances, seeding, threads
from src.core.devices import Resources
from src.core.errors import InputError
from src.database import EmbeddingSet
from src.networks import checkpoints, training
from src.networks.cvae import CVAE
from src.probing import head
from src.probing.settings import HeadSettings

CPU = torch.device("cpu")
SHORT = methods.CVAE(num_epochs=3)


def release(data, anonymizer, seed, ckpt_folder=None):
    resources = Resources(CPU, ckpt_folder)
    return anonymizer.release(data.train, data.val, seed=seed, resources=resources)


def test_same_seed_same_bytes_another_seed_other_draws(digits):
    first, again, other = (release(digits, SHORT, seed) for seed in (0, 0, 1))
    assert first.embeddings.tobytes() == again.embeddings.tobytes()
    assert first.embeddings.tobytes() != other.embeddings.tobytes()
    assert np.array_equal(np.bincount(first.labels), np.bincount(digits.train.labels))


def test_the_number_of_threads_changes_nothing(digits):
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = release(digits, SHORT, 0)
        torch.set_num_threads(2)
        two = release(digits, SHORT, 0)
    finally:
        torch.set_num_threads(threads)
    assert one.embeddings.tobytes() == two.embeddings.tobytes()


@pytest.mark.parametrize("part_flop", [1e6, 1e18], ids=["in parts", "whole"])
def test_whoever_computes_a_step_the_release_is_the_same(digits, monkeypatch, part_flop):
    monkeypatch.setattr(threads, "PART_FLOP", part_flop)
    before, rows = torch.get_num_threads(), []
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            rows.append(release(digits, replace(SHORT, observation_noise=1.0), 0).embeddings)
            assert torch.get_num_threads() == number
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(rows[0], rows[1])
    assert np.array_equal(rows[0], rows[2])


def test_ctrl_c_in_a_fit_gives_the_threads_back(digits, monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    before = torch.get_num_threads()
    monkeypatch.setattr(cvae.Objective, "__call__", interrupted)
    torch.set_num_threads(2)
    try:
        with pytest.raises(KeyboardInterrupt):
            release(digits, SHORT, 0)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_stored_fit_gives_what_fitting_again_gives(digits, tmp_path, monkeypatch):
    fresh = release(digits, SHORT, 0)
    release(digits, SHORT, 0, ckpt_folder=tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(cvae, "_train", lambda *_: pytest.fail("fitted again"))
        reused = release(digits, SHORT, 0, ckpt_folder=tmp_path)
        scaled = release(digits, replace(SHORT, variance=0.5), 0, ckpt_folder=tmp_path)
    assert reused.embeddings.tobytes() == fresh.embeddings.tobytes()
    assert scaled.embeddings.tobytes() != fresh.embeddings.tobytes()


def test_a_stored_fit_is_not_reused_for_other_data_or_settings(digits, tmp_path):
    path = tmp_path / "cvae-num_epochs3-s0.safetensors"
    release(digits, SHORT, 0, ckpt_folder=tmp_path)
    first = path.read_bytes()
    shifted = replace(digits, val=EmbeddingSet(digits.val.embeddings / 2, digits.val.labels))
    release(shifted, SHORT, 0, ckpt_folder=tmp_path)
    assert path.read_bytes() != first
    release(digits, replace(SHORT, hidden_dim=8), 0, ckpt_folder=tmp_path)
    assert (tmp_path / "cvae-hidden_dim8-num_epochs3-s0.safetensors").exists()


def test_a_damaged_checkpoint_is_fitted_again(digits, tmp_path):
    path = tmp_path / "cvae-num_epochs3-s0.safetensors"
    fresh = release(digits, SHORT, 0, ckpt_folder=tmp_path)
    path.write_bytes(path.read_bytes()[:100])
    assert checkpoints.load(path, {}) is None
    again = release(digits, SHORT, 0, ckpt_folder=tmp_path)
    assert again.embeddings.tobytes() == fresh.embeddings.tobytes()


def test_a_fit_that_diverges_says_so(digits):
    with pytest.raises(InputError, match=r"CVAE diverged.*--learning_rate"):
        release(digits, methods.CVAE(learning_rate=1e30, num_epochs=5), 0)


def test_one_fit_serves_the_release_the_online_head_and_the_latent_walks(
    digits, tmp_path, monkeypatch
):
    release(digits, SHORT, 0, ckpt_folder=tmp_path)
    monkeypatch.setattr(cvae, "_train", lambda *_: pytest.fail("fitted again"))
    resources = Resources(CPU, tmp_path)
    online = methods.CVAEOnline(num_epochs=3, variance=0.5)
    decoder = online.decoder(digits.train, digits.val, seed=0, resources=resources)
    assert decoder.variance == 0.5
    assert online.fit_id(0) == SHORT.fit_id(0) == "cvae-num_epochs3-s0"
    assert online.reference(digits.train, decoder, seed=0) is digits.train
    walks = methods.LatentKSame(k=5, num_epochs=3)
    walks.release(digits.train, digits.val, seed=0, resources=resources)


@pytest.fixture(scope="module")
def fitted(digits, tmp_path_factory):
    folder = tmp_path_factory.mktemp("ckpts")
    resources = Resources(CPU, folder)
    return methods.CVAE().anonymize(digits.train, digits.val, seed=0, resources=resources)


def test_draws_of_a_class_are_recovered_by_a_head_trained_on_real_rows(digits, fitted):
    trained = head.fit(digits.train, digits, HeadSettings(), seed=0, device=CPU)
    assert head.evaluate(trained, fitted, seed=0).accuracy > 80  # chance is 10
    parts = (
        EmbeddingSet(fitted.embeddings[rows], fitted.labels[rows])
        for rows in (np.flatnonzero(fitted.labels == c) for c in range(10))
    )
    assert min(head.evaluate(trained, part, seed=0).accuracy for part in parts) > 50


def test_draws_are_not_copies_and_stay_in_range(digits, fitted):
    rows, originals = (
        torch.from_numpy(fitted.embeddings),
        torch.from_numpy(digits.train.embeddings),
    )
    assert distances.nearest(rows, originals).distances.min() > 0.1
    assert (rows >= originals.amin(0) - 1e-6).all()
    assert (rows <= originals.amax(0) + 1e-6).all()


# Observation noise.


def test_residual_deviations_by_hand(monkeypatch):
    """Everything is decoded to the middle of the extent, ½ and 4."""
    model = CVAE(dim=2, num_classes=1, hidden_dim=1, latent_dim=1)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    model.decoder.minimum.copy_(torch.tensor([0.0, 2.0]))
    model.decoder.extent.copy_(torch.tensor([1.0, 4.0]))
    rows = torch.tensor([[0.0, 2.0], [1.0, 4.0], [0.5, 7.0]])
    # residuals -½, ½, 0 and -2, 0, 3: mean squares 1/6 and 13/3
    for block in (1, 2, 8192):
        monkeypatch.setattr(cvae, "BLOCK", block)
        found = cvae.residual_deviations(model, rows, torch.ones(3, 1))
        np.testing.assert_allclose(found, [(1 / 6) ** 0.5, (13 / 3) ** 0.5], rtol=1e-6)
        assert not found.requires_grad


LATENT, DIM, FLAT = 2, 7, 1e-3  # FLAT: how little of the sigmoid is used, where it is straight


def linear(weight, offset):
    """A CVAE that decodes z to offset + weight · z and reads z off the first features."""
    model = CVAE(DIM, 1, hidden_dim=2 * LATENT, latent_dim=LATENT)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    both = torch.cat((torch.eye(LATENT), -torch.eye(LATENT)))  # z = relu(z) - relu(-z)
    extent = 4 / FLAT  # the sigmoid's slope in the middle is 1/4
    decoder = model.decoder
    decoder.extent.fill_(extent)
    decoder.minimum.copy_(offset - extent / 2)
    with torch.no_grad():
        decoder.layers[0].weight[:, :LATENT] = both
        decoder.layers[2].weight.copy_(FLAT * weight @ both.T)
        model.encoder[0].weight[:, :LATENT] = extent * both
        model.encoder[0].bias.copy_(-extent / 2 * both.sum(1))
        model.encoder[2].weight[:LATENT] = both.T
    return model


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    scale=st.sampled_from([0.3, 0.5**0.5, 1.0]),
    noise=st.sampled_from([0.2, 1.0, 2.0]),
)
def test_draws_vary_as_the_training_rows_where_model_and_noise_are_right(seed, scale, noise):
    """x = offset + W z + r ε, z ~ N(0, scale² I): the first features are z itself, no noise."""
    n, generator = 4000, torch.Generator().manual_seed(seed)
    weight = torch.randn(DIM, LATENT, generator=generator)
    offset = 10 * torch.randn(DIM, generator=generator)
    r = noise * (0.1 + torch.rand(DIM, generator=generator))
    weight[:LATENT], offset[:LATENT], r[:LATENT] = torch.eye(LATENT), 0, 0
    z = scale * torch.randn(n, LATENT, generator=generator)
    rows = offset + z @ weight.T + r * torch.randn(n, DIM, generator=generator)
    model = linear(weight, offset)
    found = cvae.residual_deviations(model, rows, torch.ones(n, 1))
    # a sample deviation's standard error is r / √(2 n)
    np.testing.assert_allclose(found, r, atol=2e-3, rtol=5 / (2 * n) ** 0.5)

    model.decoder.noise_scale.copy_(found)
    model.decoder.class_weights.fill_(n)
    model.decoder.variance = scale

    def surplus(observation_noise):
        """Variance of draws over that of training rows, in standard errors of their ratio."""
        model.decoder.observation_noise = observation_noise
        drawn = torch.from_numpy(cvae.draws(model.decoder, seed=seed)[0])
        ratio = drawn.double().var(0) / rows.double().var(0)
        return ((ratio - 1) / (4 / n) ** 0.5).numpy()  # each variance has √(2 / n) of itself

    assert np.abs(surplus(1.0)).max() < 5
    share = (r**2 / (r**2 + scale**2 * weight.square().sum(1))).numpy()  # of noise in the variance
    if share.max() > 0.4:  # as published, and with half the noise: too narrow where there is noise
        assert surplus(0.0)[share.argmax()] < -5
        assert surplus(0.5)[share.argmax()] < -4
        assert surplus(2.0)[share.argmax()] > 5


def noisy_rows(n, seed):
    """Two classes in the plane of two latents, in 20 features with noise of 0.3 or 1."""
    fixed, rng = np.random.default_rng(0), np.random.default_rng(seed)
    weight, labels = fixed.normal(size=(20, 2)), rng.integers(0, 2, n)
    noise = np.where(np.arange(20) % 2, 1.0, 0.3)
    x = rng.normal(size=(n, 2)) @ weight.T + 3 * labels[:, None] * fixed.normal(size=20)
    return EmbeddingSet((x + noise * rng.normal(size=(n, 20))).astype(np.float32), labels)


def test_with_observation_noise_a_fit_s_draws_vary_as_the_rows_do():
    train, val = noisy_rows(1500, 1), noisy_rows(200, 2)
    resources = Resources(CPU, None)
    made = methods.CVAE(variance=0.5**0.5, num_epochs=100, latent_dim=4, batch_size=128)
    decoder = made.decoder(train, val, seed=0, resources=resources)

    def ratio(observation_noise):
        decoder.observation_noise = observation_noise
        rows, labels = cvae.draws(decoder, seed=0)
        return np.mean(
            [
                rows[labels == c].var(0) / train.embeddings[train.labels == c].var(0)
                for c in (0, 1)
            ],
            axis=0,
        )

    assert ratio(0.0).min() < 0.1  # as published: a tenth of the variance where noise is all
    assert ratio(0.0).max() < 0.6
    assert ratio(1.0).min() > 0.7
    assert ratio(1.0).max() < 1.1


def test_without_observation_noise_a_release_is_what_it_was(digits):
    """Decoded draws of N(0, variance² I) and nothing else, to the byte."""
    for variance in (1.0, 0.5):
        made = replace(SHORT, variance=variance)
        released = release(digits, made, 0)
        resources = Resources(CPU, None)
        decoder = made.decoder(digits.train, digits.val, seed=0, resources=resources)
        assert decoder.observation_noise == 0
        assert decoder.noise_scale.max() > 0
        counts = np.bincount(digits.train.labels)
        labels = torch.arange(10).repeat_interleave(torch.from_numpy(counts))
        z = torch.randn(1293, 50, generator=seeding.generator(0, "cvae/release"))
        with torch.no_grad():
            rows = decoder.embed(variance * z, labels)
        expected, _ = ordered(rows.numpy(), labels.numpy())
        assert released.embeddings.tobytes() == expected.tobytes()
        assert np.array_equal(released.labels, labels)


def test_one_fit_serves_every_variance_and_every_noise(digits, tmp_path, monkeypatch):
    release(digits, SHORT, 0, ckpt_folder=tmp_path)
    files = {path: path.read_bytes() for path in tmp_path.iterdir()}
    monkeypatch.setattr(training, "fit", lambda *_, **__: pytest.fail("fitted again"))
    rows, fits = set(), set()
    for variance in (0.5, 1.0):
        for noise in (0.0, 0.5, 1.0):
            made = replace(SHORT, variance=variance, observation_noise=noise)
            rows.add(release(digits, made, 0, ckpt_folder=tmp_path).embeddings.tobytes())
            online = methods.CVAEOnline(num_epochs=3, variance=variance, observation_noise=noise)
            fits |= {made.fit_id(0), online.fit_id(0)}
    assert len(rows) == 6
    assert fits == {"cvae-num_epochs3-s0"}
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == files
    stored = checkpoints_of(tmp_path)
    assert stored["decoder.noise_scale"].shape == (64,)


def checkpoints_of(folder):
    from safetensors.torch import load_file

    (path,) = folder.glob("*.safetensors")
    return load_file(path)


def test_a_stored_fit_has_the_noise_of_a_fresh_one(digits, tmp_path):
    made = replace(SHORT, observation_noise=0.5)
    fresh, kept, reused = (
        release(digits, made, 0, ckpt_folder=folder) for folder in (None, tmp_path, tmp_path)
    )
    assert fresh.embeddings.tobytes() == kept.embeddings.tobytes() == reused.embeddings.tobytes()


def test_with_observation_noise_the_number_of_threads_changes_nothing(digits):
    threads = torch.get_num_threads()
    made, rows = replace(SHORT, observation_noise=1.0), []
    try:
        for number in (1, 2):
            torch.set_num_threads(number)
            rows.append(release(digits, made, 0).embeddings.tobytes())
    finally:
        torch.set_num_threads(threads)
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    ("name", "given", "release_id"),
    [
        ("cvae", {"observation_noise": 0}, "cvae-s0"),
        ("cvae", {"observation_noise": 1}, "cvae-obs1-s0"),
        ("cvae", {"observation_noise": 0.5, "variance": 0.5}, "cvae-var0.5-obs0.5-s0"),
        ("cvae", {"clip": 10}, "cvae-clip10-s0"),
        (
            "cvae",
            {"clip": 10, "observation_noise": 0.5, "variance": 0.5},
            "cvae-var0.5-obs0.5-clip10-s0",
        ),
        (
            "cvae-online",
            {"observation_noise": 0.5, "variance": 0.5},
            "cvae-online-var0.5-obs0.5-s0",
        ),
        ("latent-ksame", {"k": 5, "observation_noise": 1}, "latent-ksame-5-obs1-s0"),
        ("latent-linear", {"k": 5, "observation_noise": 0.5}, "latent-linear-5-obs0.5-s0"),
        ("plan", {"k": 5, "observation_noise": 0.5}, "plan-5-obs0.5-s0"),
    ],
)
def test_ids(name, given, release_id):
    made = methods.parse(name, given, methods.ALL)
    assert made.release_id(0) == release_id
    plain = {key: value for key, value in given.items() if key in ("k", "clip")}
    assert made.fit_id(0) == methods.parse(name, plain, methods.ALL).fit_id(0)


@pytest.mark.parametrize("name", ["cvae", "cvae-online", "latent-ksame", "latent-linear", "plan"])
@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-0.5, "--observation_noise -0.5 is below its minimum, 0"),
        (float("nan"), "--observation_noise nan is below its minimum, 0"),
        (float("inf"), "--observation_noise inf must be finite"),
        ("much", "--observation_noise is 'much'; it must be a number"),
    ],
)
def test_bad_observation_noise(name, value, message):
    k = {"k": 5} if ("-" in name and "cvae" not in name) or name == "plan" else {}
    with pytest.raises(InputError, match=message):
        methods.parse(name, {**k, "observation_noise": value}, methods.ALL)


@pytest.mark.parametrize("name", ["ksame", "identity", "gaussian", "dpcvae", "dpcvae-online"])
def test_methods_without_observation_noise_refuse_it(name):
    message = f"^unknown setting of {name} 'observation_noise'"
    with pytest.raises(InputError, match=message):
        methods.parse(name, {"observation_noise": 0.5}, methods.ALL)


# Validation rows that are limited, and constant features.


def outlying(digits):
    """The digits with one validation row far out in one feature."""
    rows = digits.val.embeddings.copy()
    rows[0, 20] = 1e3
    return replace(digits, val=EmbeddingSet(rows, digits.val.labels))


def losses(data, settings):
    """The validation losses of all epochs."""
    seen, original = [], training.fit

    def spy(*args, validation_loss, **kwargs):
        def kept(team):
            seen.append(float(validation_loss(team)))
            return torch.tensor(seen[-1])

        return original(*args, validation_loss=kept, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(training, "fit", spy)
        release(data, settings, 0)
    return np.array(seen)


def test_clip_bounds_what_one_validation_row_adds_to_the_stopping_loss(digits):
    clean = losses(digits, SHORT)
    far = losses(outlying(digits), SHORT)
    assert (far > 100 * clean).all()  # the row is all there is to see
    limited = losses(outlying(digits), replace(SHORT, clip=10.0))
    np.testing.assert_allclose(limited, losses(digits, replace(SHORT, clip=10.0)), rtol=0.05)
    np.testing.assert_allclose(limited, clean, rtol=0.05)


def test_a_limit_that_no_validation_row_reaches_changes_no_byte(digits):
    free, limited = (release(digits, replace(SHORT, clip=clip), 0) for clip in (None, 1e4))
    assert free.embeddings.tobytes() == limited.embeddings.tobytes()


def test_a_feature_that_varies_by_rounding_alone_is_decoded_to_its_constant(digits, monkeypatch):
    ulp, rng = np.spacing(np.float32(0.1)), np.random.default_rng(0)
    rows = digits.train.embeddings.copy()
    rows[:, 0] = np.float32(0.1) + ulp * rng.integers(-3, 4, len(rows))
    data = replace(digits, train=EmbeddingSet(rows, digits.train.labels))
    made, resources = replace(SHORT, observation_noise=1.0), Resources(CPU, None)

    def decoder():
        return made.decoder(data.train, data.val, seed=0, resources=resources)

    fitted = decoder()
    assert fitted.extent[0] == 0
    assert fitted.noise_scale[0] < 4 * ulp
    drawn, _ = cvae.draws(fitted, seed=0)
    assert np.abs(drawn[:, 0] - 0.1).max() < 20 * ulp
    others = fitted.extent[1:].numpy()
    assert np.array_equal(others, np.ptp(rows, axis=0)[1:])
    monkeypatch.setattr(distances, "ROUNDING", 0)
    with pytest.raises(InputError, match="diverged"):  # as it was: rounding decides the scale
        decoder()


@pytest.mark.parametrize("name", ["cvae", "dpcvae"])
def test_variance_reaches_the_decoder(digits, name, monkeypatch):
    """Also of dpcvae, whose fit is another."""
    given = {"num_epochs": 1} if name == "cvae" else {"epsilon": 8, "epochs": 1}
    if name == "dpcvae":
        monkeypatch.setattr(accounting, "noise_multiplier", lambda *_, **__: 1.0)  # found slowly
    made = methods.parse(name, {**given, "variance": 0.25})
    decoder = made.decoder(digits.train, digits.val, seed=0, resources=Resources(CPU, None))
    assert decoder.variance == 0.25
