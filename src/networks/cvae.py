"""The conditional VAE (Di Salvo et al., BMVC 2024): modules and objective.

Shapes: x [N, D] features scaled to 0..1; y [N, C] one-hot; z [N, latent_dim]; labels [N] int64.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from src.core import threads
from src.core.threads import Team
from src.networks.backprop import Dense, Room, aten
from src.networks.sampling import Sampler


class Decoder(Sampler):
    """z and a class → features; with scaling and class weights, all that sampling needs.

    Buffers:
        minimum, extent: [D], training minimum and maximum - minimum of each feature; a constant
            feature has extent 0 and is decoded to its constant.
        noise_scale: [D], of the observation noise of each feature: the root mean squared residual
            of the training rows, each decoded from its posterior mean.
        class_weights: [C], rows of each class in training (any positive multiple will do).

    Attributes:
        variance: scale of the latent noise when sampling, z = variance · N(0, I).
        observation_noise: standard deviation of the noise on released rows, in units of
            `noise_scale`: that of the Gaussian whose mean is decoded. 0 releases the means, as
            published.
    """

    variance = 1.0
    observation_noise = 0.0
    minimum: Tensor
    extent: Tensor
    noise_scale: Tensor

    def __init__(self, dim: int, num_classes: int, hidden_dim: int, latent_dim: int) -> None:
        super().__init__()
        self.latent_dim, self.num_classes = latent_dim, num_classes
        self.layers = nn.Sequential(
            nn.Linear(latent_dim + num_classes, hidden_dim),
            nn.ReLU(),
            nn.Linear(hidden_dim, dim),
            nn.Sigmoid(),
        )
        self.register_buffer("minimum", torch.zeros(dim))
        self.register_buffer("extent", torch.ones(dim))
        self.register_buffer("noise_scale", torch.zeros(dim))
        self.register_buffer("class_weights", torch.ones(num_classes))

    def forward(self, z: Tensor, y: Tensor) -> Tensor:
        """Decode z [N, latent_dim], y [N, C] → features [N, D] in 0..1."""
        x: Tensor = self.layers(torch.cat((z, y), dim=1))
        return x

    def embed(self, z: Tensor, labels: Tensor) -> Tensor:
        """Decode z [N, latent_dim], labels [N] → embeddings [N, D] in their own units."""
        y = F.one_hot(labels, self.num_classes).to(z.dtype)
        return self(z, y) * self.extent + self.minimum

    @property
    def dim(self) -> int:
        """D."""
        return len(self.minimum)

    def sample(
        self, labels: Tensor, generator: torch.Generator, block_rows: int = 8192
    ) -> Iterator[Tensor]:
        """One embedding for each label [N], in blocks [block_rows, D].

        z is drawn at once: without observation noise, which is drawn block by block, what comes
        out does not depend on the size of a block.
        """
        z = torch.randn(len(labels), self.latent_dim, generator=generator, device=generator.device)
        for part, classes in zip(z.split(block_rows), labels.split(block_rows), strict=True):
            with torch.no_grad():
                rows = self.embed(self.variance * part, classes)
            yield self.add_noise(rows, generator)

    def add_noise(self, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Add observation noise to decoded rows [N, D], in place."""
        if self.observation_noise:
            noise = torch.randn(rows.shape, generator=generator, device=rows.device)
            rows.addcmul_(noise, self.noise_scale, value=self.observation_noise)
        return rows


class CVAE(nn.Module):
    """Encoder and decoder, both given the one-hot label.

    Encoder: Linear(D+C, hidden), ReLU, Linear(hidden, 2·latent); its halves are the mean and the
    logarithm of the standard deviation of q(z | x, y).
    """

    def __init__(self, dim: int, num_classes: int, hidden_dim: int, latent_dim: int) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(dim + num_classes, hidden_dim),
            nn.ReLU(),
            nn.Linear(hidden_dim, 2 * latent_dim),
        )
        self.decoder = Decoder(dim, num_classes, hidden_dim, latent_dim)

    def posterior(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Encode x [N, D], y [N, C] → mean and log std of q, each [N, latent_dim]."""
        mean, log_std = self.encoder(torch.cat((x, y), dim=1)).chunk(2, dim=1)
        return mean, log_std

    def scale(self, embeddings: Tensor) -> Tensor:
        """Embeddings [N, D] in their own units → 0..1 by the training minimum and maximum."""
        extent = self.decoder.extent
        return (embeddings - self.decoder.minimum) / torch.where(extent > 0, extent, 1.0)

    def residuals(self, embeddings: Tensor, y: Tensor) -> Tensor:
        """Embeddings [N, D] minus what their posterior means decode to, in their own units."""
        mean, _ = self.posterior(self.scale(embeddings), y)
        decoder = self.decoder
        return embeddings - (decoder(mean, y) * decoder.extent + decoder.minimum)

    def loss_rows(
        self, x: Tensor, y: Tensor, noise: Tensor, *, kl_weight: float, prior_variance: float
    ) -> Tensor:
        """The objective of each row [N]: squared error + kl_weight · KL; noise [N, latent_dim]."""
        mean, log_std = self.posterior(x, y)
        z = torch.addcmul(mean, log_std.exp(), noise)
        error = F.mse_loss(self.decoder(z, y), x, reduction="none").sum(1)
        return error + kl_weight * kl_to_prior(mean, log_std, prior_variance)


class Objective:
    """The sum of `CVAE.loss_rows` over a batch, and its gradients by hand."""

    def __init__(self, model: CVAE, *, kl_weight: float, prior_variance: float) -> None:
        self.model = model
        self.encoder, self.decoder = Dense(model.encoder), Dense(model.decoder)
        self.dim, self.latent = model.decoder.minimum.numel(), model.decoder.latent_dim
        self.kl_weight, self.prior_variance = kl_weight, prior_variance
        self.plans: dict[int, tuple[Tensor, Room, Room, list[slice]]] = {}  # by number of rows

    def loss(self, team: Team, x: Tensor, y: Tensor, noise: Tensor) -> Tensor:
        """The scalar for any number of rows: x [N, D], y [N, C], noise [N, latent_dim]."""
        losses = x.new_empty(len(x))
        weights = {"kl_weight": self.kl_weight, "prior_variance": self.prior_variance}

        def part(rows: slice) -> None:
            losses[rows] = self.model.loss_rows(x[rows], y[rows], noise[rows], **weights)

        flop = (self.encoder.flop + self.decoder.flop) * len(x) / 3  # no way back
        team.run([partial(part, rows) for rows in threads.parts(len(x), flop)])
        return losses.sum()

    def __call__(self, team: Team, xy: Tensor, noise: Tensor) -> None:
        """Set the gradients for rows and one-hot labels xy [N, D + C], noise [N, latent_dim]."""
        rows = len(xy)
        if rows not in self.plans:
            zy = xy.new_empty(rows, self.latent + xy.shape[1] - self.dim)
            cut = threads.parts(rows, (self.encoder.flop + self.decoder.flop) * rows)
            self.plans[rows] = zy, self.encoder.room(rows), self.decoder.room(rows), cut
        zy, encoded, decoded, cut = self.plans[rows]
        team.run(
            [
                partial(self._rows, xy[p], noise[p], zy[p], encoded.part(p), decoded.part(p))
                for p in cut
            ]
        )
        pieces = len(cut)
        team.run(
            [*self.decoder.sums(zy, decoded, pieces), *self.encoder.sums(xy, encoded, pieces)]
        )

    def _rows(self, xy: Tensor, noise: Tensor, zy: Tensor, encoded: Room, decoded: Room) -> None:
        """Forward and back through both networks."""
        x, y = xy.tensor_split((self.dim,), 1)
        mean, log_std = self.encoder.forward(xy, encoded).chunk(2, 1)
        std = log_std.exp()
        z, given = zy.tensor_split((self.latent,), 1)
        torch.addcmul(mean, std, noise, out=z)
        given.copy_(y)
        found = self.decoder.forward(zy, decoded).sigmoid_()
        aten.sigmoid_backward((found - x).mul_(2), found, grad_input=decoded.errors[-1])
        self.decoder.backward(decoded)
        by_z = torch.mm(decoded.errors[0], self.decoder.weights[0][0])[:, : self.latent]
        by_mean, by_log_std = encoded.errors[-1].chunk(2, 1)
        share = self.kl_weight / (2 * self.prior_variance)
        torch.add((2 * mean).mul_(share), by_z, out=by_mean)
        kl = (2 * log_std).exp_().mul_(share).mul_(2).sub_(self.kl_weight)
        torch.add(kl, (by_z * noise).mul_(std), out=by_log_std)
        self.encoder.backward(encoded)


def kl_to_prior(mean: Tensor, log_std: Tensor, prior_variance: float) -> Tensor:
    """KL(N(mean, std²) ‖ N(0, p·I)) of each row [N], with p = prior_variance.

    Σ ½ ((std² + mean²)/p − 1 − ln(std²/p)), the closed form between diagonal Gaussians (Kingma
    and Welling, ICLR 2014, appendix B, there with p = 1).
    At p = ½ this is Σ std² + mean² − ln std − ½ up to a constant: the released method's term.
    """
    terms = ((2 * log_std).exp() + mean.square()) / (2 * prior_variance) - log_std
    return terms.sum(1) + mean.shape[1] * (math.log(prior_variance) - 1) / 2
