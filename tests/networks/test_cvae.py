"""The conditional VAE: module, objective and draws of its decoder."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.distributions import Normal, kl_divergence

from src.core import seeding
from src.networks.cvae import CVAE, Decoder, kl_to_prior


@settings(max_examples=50, deadline=None)
@given(
    seed=st.integers(0, 2**31),
    rows=st.integers(1, 5),
    dims=st.integers(1, 7),
    prior_variance=st.floats(0.05, 5),
)
def test_kl_is_that_of_torch_distributions(seed, rows, dims, prior_variance):
    generator = torch.Generator().manual_seed(seed)
    mean = torch.randn(rows, dims, generator=generator, dtype=torch.float64)
    log_std = torch.randn(rows, dims, generator=generator, dtype=torch.float64)
    prior = Normal(torch.zeros_like(mean), prior_variance**0.5)
    expected = kl_divergence(Normal(mean, log_std.exp()), prior).sum(1)
    torch.testing.assert_close(kl_to_prior(mean, log_std, prior_variance), expected)


def test_kl_by_hand():
    # std 1, mean 1, prior variance 1/2: ½ (1/½ + 1/½ − 1 − ln(1/½)) = ½ (3 − ln 2)
    value = kl_to_prior(torch.ones(1, 1), torch.zeros(1, 1), 0.5)
    assert value.item() == pytest.approx((3 - np.log(2)) / 2)


def test_at_half_the_kl_term_is_the_released_one_up_to_a_constant():
    generator = torch.Generator().manual_seed(0)
    mean, log_std = torch.randn(2, 6, 50, generator=generator, dtype=torch.float64)
    released = ((2 * log_std).exp() + mean**2 - log_std - 0.5).sum(1)
    difference = kl_to_prior(mean, log_std, 0.5) - released
    torch.testing.assert_close(difference, difference[:1].expand(6))


def test_the_loss_of_a_row_by_hand():
    model = CVAE(dim=2, num_classes=1, hidden_dim=3, latent_dim=1)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    x = torch.tensor([[0.0, 1.0]])
    # all weights zero: z = noise, decoded to sigmoid(0) = ½; mean 0, std 1
    rows = model.loss_rows(
        x, torch.ones(1, 1), torch.ones(1, 1), kl_weight=0.1, prior_variance=0.5
    )
    kl = 0.5 * (1 / 0.5 - 1 - np.log(1 / 0.5))
    assert rows.item() == pytest.approx(0.25 + 0.25 + 0.1 * kl)


def test_parameters_are_those_of_the_paper():
    shapes = [tuple(p.shape) for p in CVAE(64, 10, 256, 50).parameters()]
    assert shapes == [
        (256, 74), (256,), (100, 256), (100,), (256, 60), (256,), (64, 256), (64,)
    ]  # fmt: skip


def test_constant_features_are_decoded_to_their_constant():
    decoder = Decoder(dim=3, num_classes=2, hidden_dim=4, latent_dim=2)
    decoder.minimum.copy_(torch.tensor([5.0, -1.0, 0.0]))
    decoder.extent.copy_(torch.tensor([0.0, 2.0, 1.0]))
    rows = decoder.embed(torch.randn(7, 2), torch.tensor([0, 1, 0, 1, 0, 1, 0]))
    assert torch.equal(rows[:, 0], torch.full((7,), 5.0))
    assert rows[:, 1].min() > -1
    assert rows[:, 1].max() < 1


def test_draws_do_not_depend_on_the_block_size():
    decoder = Decoder(dim=64, num_classes=3, hidden_dim=32, latent_dim=5)
    decoder.variance = 0.5
    labels = decoder.sample_labels(1000, torch.Generator().manual_seed(1))
    drawn = [
        torch.cat(list(decoder.sample(labels, torch.Generator().manual_seed(2), rows)))
        for rows in (1, 64, 333, 10_000)
    ]
    for other in drawn[1:]:
        torch.testing.assert_close(other, drawn[0], rtol=1e-6, atol=1e-6)


def test_variance_scales_the_noise():
    decoder = Decoder(dim=4, num_classes=2, hidden_dim=8, latent_dim=3)
    labels = torch.tensor([0, 0, 0, 1])

    def drawn(variance):
        decoder.variance = variance
        return torch.cat(list(decoder.sample(labels, torch.Generator().manual_seed(0))))

    rows = drawn(0.0)
    assert torch.equal(rows[0], rows[1])
    assert not torch.equal(rows[0], rows[3])
    noise = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    assert torch.equal(drawn(2.0), decoder.embed(2 * noise, labels))
    assert Decoder.variance == 1


def test_labels_follow_the_class_weights():
    decoder = Decoder(dim=2, num_classes=3, hidden_dim=2, latent_dim=2)
    decoder.class_weights.copy_(torch.tensor([1.0, 0.0, 3.0]))
    counts = torch.bincount(decoder.sample_labels(8000, seeding.generator(0, "test")), minlength=3)
    assert counts[1] == 0
    assert counts[2] / 8000 == pytest.approx(0.75, abs=0.03)


# Observation noise.


def noisy_decoder(noise=0.0):
    with seeding.global_seed(0, "test"):
        decoder = Decoder(dim=4, num_classes=2, hidden_dim=8, latent_dim=3)
    decoder.noise_scale.copy_(torch.tensor([0.0, 1.0, 0.5, 10.0]))
    decoder.observation_noise = noise
    return decoder


def sampled(decoder, labels, block_rows=8192):
    """Draws, and the generator after them."""
    generator = torch.Generator().manual_seed(0)
    return torch.cat(list(decoder.sample(labels, generator, block_rows))), generator


def test_without_observation_noise_draws_are_decoded_means_and_nothing_more_is_drawn():
    labels = torch.tensor([0, 1, 1, 0, 1])
    rows, generator = sampled(noisy_decoder(), labels)
    alone = torch.Generator().manual_seed(0)
    z = torch.randn(5, 3, generator=alone)
    assert torch.equal(rows, noisy_decoder().embed(z, labels).detach())
    assert torch.equal(generator.get_state(), alone.get_state())
    assert Decoder.observation_noise == 0
    assert Decoder(2, 2, 2, 2).noise_scale.tolist() == [0, 0]


@pytest.mark.parametrize("noise", [0.5, 1.0, 3.0])
def test_observation_noise_is_added_in_units_of_each_feature_and_not_limited(noise):
    labels = torch.arange(2).repeat_interleave(3000)
    decoder = noisy_decoder(noise)
    means, _ = sampled(noisy_decoder(), labels)
    rows, _ = sampled(decoder, labels)
    added = rows - means
    generator = torch.Generator().manual_seed(0)
    torch.randn(6000, 3, generator=generator)  # the latents come first, so they are the same
    epsilon = torch.randn(6000, 4, generator=generator)
    torch.testing.assert_close(added, noise * decoder.noise_scale * epsilon, atol=1e-5, rtol=1e-5)
    assert added[:, 0].eq(0).all()
    # the decoder's rows lie within 0..1
    assert rows[:, 3].min() < -2 * noise
    assert rows[:, 3].max() > 1 + 2 * noise


def test_twice_the_noise_is_twice_as_far_from_the_means():
    labels = torch.tensor([0, 1, 0, 1])
    means, once, twice = (sampled(noisy_decoder(s), labels)[0] for s in (0.0, 0.5, 1.0))
    torch.testing.assert_close(twice - means, 2 * (once - means), atol=1e-5, rtol=1e-5)


def test_with_noise_the_latents_do_not_depend_on_the_block_size():
    decoder, labels = noisy_decoder(1.0), torch.tensor([0, 1] * 50)
    small, large = (sampled(decoder, labels, size)[0] for size in (7, 100))
    torch.testing.assert_close(small[:, 0], large[:, 0], rtol=1e-6, atol=1e-6)  # without noise
    assert not torch.equal(small[:, 1], large[:, 1])


def test_residuals_by_hand():
    """One feature of extent 4 from 2; the posterior mean is the scaled feature, decoded to ½."""
    model = CVAE(dim=1, num_classes=1, hidden_dim=1, latent_dim=1)
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    decoder = model.decoder
    decoder.minimum.fill_(2.0)
    decoder.extent.fill_(4.0)
    rows, y = torch.tensor([[2.0], [3.0], [6.0]]), torch.ones(3, 1)
    # all weights zero: everything is decoded to ½, which is 2 + 4 · ½ = 4
    assert model.residuals(rows, y).flatten().tolist() == [-2, -1, 2]
    with torch.no_grad():
        model.encoder[0].weight[0, 0] = 1  # scaled feature 0, ¼, 1
        model.encoder[2].weight[0, 0] = 2  # mean 0, ½, 2
        model.encoder[2].bias[1] = 5  # a wide posterior, which is not sampled
        decoder.layers[0].weight[0, 0] = 1
        decoder.layers[2].weight[0, 0] = 1
    decoded = 2 + 4 / (1 + np.exp(-np.array([0, 0.5, 2])))
    np.testing.assert_allclose(
        model.residuals(rows, y).detach().flatten(), rows[:, 0].numpy() - decoded, rtol=1e-5
    )


def test_residuals_of_a_constant_feature_are_those_to_its_constant():
    model = CVAE(dim=2, num_classes=1, hidden_dim=3, latent_dim=1)
    model.decoder.minimum.copy_(torch.tensor([0.1, 0.0]))
    model.decoder.extent.copy_(torch.tensor([0.0, 1.0]))
    rows = torch.tensor([[0.1, 0.3], [0.1, 0.6]])
    assert model.residuals(rows, torch.ones(2, 1))[:, 0].eq(0).all()
