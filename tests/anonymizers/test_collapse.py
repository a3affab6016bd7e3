"""A CVAE whose latents carry nothing is said to, when it is fitted and when it is found again."""

from dataclasses import replace

import torch

from src.anonymizers import cvae
from src.anonymizers.settings import FitSettings
from src.core.devices import Resources
from tests.support import call

CPU = torch.device("cpu")
COLLAPSED = ["--kl_weight", 10, "--num_epochs", 40, "--hidden_dim", 32, "--latent_dim", 4]


def test_a_collapsed_posterior_is_a_warning_in_one_line(roots, tmp_path):
    flags = [*roots, "--ckpt_root", tmp_path, "--anonymizer", "cvae", "--seed", 0, "--quiet"]
    for _ in range(2):  # fitted, found
        done = call("anonymize", *flags, *COLLAPSED)
        assert done.status == 0
        assert done.err.count("\n") == 1
        assert "latents carry nothing" in done.err
        assert "--kl_weight than 10 may help" in done.err


def test_the_published_settings_do_not_collapse(roots, tmp_path):
    done = call("anonymize", *roots, "--ckpt_root", tmp_path, "--anonymizer", "cvae", "--seed", 0)
    assert (done.status, "carry nothing" in done.err) == (0, False)
    assert "epochs, the best is" in done.err


def test_information_is_none_where_the_encoder_ignores_the_row(digits):
    few = replace(
        digits.train, embeddings=digits.train.embeddings[:64], labels=digits.train.labels[:64]
    )
    model = cvae.fit(
        few, digits.val, FitSettings(num_epochs=1, latent_dim=3), seed=0, resources=Resources(CPU)
    )
    last = model.encoder[-1]
    with torch.no_grad():
        last.weight.zero_()
        last.bias.copy_(torch.tensor([0, 0, 1.0, *[0.5 * torch.log(torch.tensor(0.5))] * 3]))
    found = cvae.latent_information(model, few, prior_variance=0.5)
    torch.testing.assert_close(found, torch.tensor([0.0, 0.0, 1.0]), atol=1e-6, rtol=0)
