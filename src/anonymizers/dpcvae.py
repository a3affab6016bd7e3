"""Conditional VAE with differential privacy: release draws of a decoder fitted with DP-SGD.

The stated (ε, δ) covers all that a release depends on in the training rows:

1. class counts: one Gaussian mechanism on the histogram of labels. Their sum stands for the number
   of rows wherever one is needed, so that not even that is taken as known;
2. the scaling of features: public bounds, or three Gaussian mechanisms (`_private_bounds`);
3. DP-SGD (Abadi et al., CCS 2016): Poisson samples, the gradient of each row clipped, a number of
   steps that is fixed beforehand, the accountant read after the last one.

Neighbouring data sets differ by one row that is there or not. Public are the settings, the number
of features, the set of classes (their names in `meta`; the largest label only where it has none,
or too few) and, only where delta is not given, the number of digits of n.
Validation rows are not used at all.
"""

from __future__ import annotations

import math
import os
import secrets
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from src import privacy, progress, seeding
from src.anonymizers import Release, Resources, cvae
from src.anonymizers.settings import DPCVAESettings
from src.database import EmbeddingSet
from src.errors import InputError, OutputError
from src.models.cvae import CVAE, Decoder
from src.privacy import Mechanism
from src.provenance import fingerprint

PIXELS = "pixels"  # the backbone whose features are between 0 and 1 by definition
CLASS_GAIN = 6.0  # on the decoder's initial class weights: noise then hides the class less
AVERAGE_DECAY = 0.98  # of the running mean of weights, which costs no privacy
SCALING_QUERIES = 3  # share the budget for scaling
REACH = 4.0  # mean absolute deviations on either side of the mean that scaling keeps
OCTAVES = range(-40, 41)  # powers of two among which the norm of a typical row is found


class Budget(NamedTuple):
    """The mechanisms of a fit; they depend on settings alone, never on rows."""

    counts: Mechanism
    scaling: Mechanism | None  # None where the bounds of features are public
    gradients: Mechanism

    @property
    def parts(self) -> dict[str, Mechanism]:
        """The mechanisms by name, in the order in which they are used."""
        named = {"class_counts": self.counts, "scaling": self.scaling, "gradients": self.gradients}
        return {name: mechanism for name, mechanism in named.items() if mechanism}


class Fit(NamedTuple):
    """A fitted, frozen decoder and what a reader of its release should know (JSON values)."""

    decoder: Decoder
    facts: dict[str, Any]


def release(
    train: EmbeddingSet,
    val: EmbeddingSet,
    settings: DPCVAESettings,
    *,
    seed: int,
    resources: Resources,
) -> Release:
    """As many draws of each class as its noisy count says, sorted by class."""
    fitted, facts = fit(train, settings, seed=seed, resources=resources)
    return Release(*cvae.draws(fitted, settings.variance, seed=seed), facts)


def decoder(
    train: EmbeddingSet,
    val: EmbeddingSet,
    settings: DPCVAESettings,
    *,
    seed: int,
    resources: Resources,
) -> Decoder:
    """The frozen decoder of the fitted model."""
    return fit(train, settings, seed=seed, resources=resources).decoder


def fit(train: EmbeddingSet, settings: DPCVAESettings, *, seed: int, resources: Resources) -> Fit:
    """Fit the model within the budget.

    Raises:
        InputError: delta is not below 1/n, or the budget is out of reach.
        MissingPackageError: opacus is not installed.
        OutputError: the secret key cannot be written or read.
    """
    delta = _delta(settings, len(train))
    bounds = public_bounds(train, settings)
    budget = plan(settings, delta, public=bounds is not None)
    secret = _secret(resources.ckpt_folder)
    generator = _generator(secret, train, settings, seed, resources.device)
    rows = torch.from_numpy(train.embeddings).to(resources.device)
    labels = torch.from_numpy(train.labels).to(resources.device)
    classes = len(train.class_names)  # not by the largest label: it is private
    y = F.one_hot(labels, classes).float()

    counts = noisy_sum(y, budget.counts.noise_multiplier, generator)
    counts = counts.round().clamp(min=1)  # no class is empty, whatever the noise
    if bounds is None:
        assert budget.scaling is not None
        multiplier = budget.scaling.noise_multiplier
        low, high = _private_bounds(rows, float(counts.sum()), multiplier, generator)
    else:
        low, high = (torch.full_like(rows[0], bound) for bound in bounds)
    with seeding.global_seed(seed, "cvae/init"):
        model = CVAE(rows.shape[1], y.shape[1], settings.hidden_dim, settings.latent_dim)
    model.to(resources.device)
    model.decoder.minimum.copy_(low)
    model.decoder.extent.copy_(high - low)
    model.decoder.class_weights.copy_(counts)
    model.decoder.observation_std = settings.observation_std
    x = model.scale(rows).clamp(0, 1)
    model, spent = _train(model, x, y, float(counts.sum()), settings, budget, generator)
    noise = _noise_source(bool(secret), generator.device)
    facts = _facts(settings, budget, spent, delta, bounds, noise)
    return Fit(model.decoder.eval().requires_grad_(False), facts)


def plan(settings: DPCVAESettings, delta: float, *, public: bool) -> Budget:
    """Noise for each part, such that all of them together are (ε, δ)-private.

    Gaussian mechanisms with noise σ_i compose like one with 1/σ² = Σ 1/σ_i² (Dong, Roth, Su,
    JRSS-B 2022, corollary 3.3). A share is one of 1/σ² of the whole budget; the gradients get
    all that is left, by exact accounting.

    Args:
        public: whether the bounds of features are, so that scaling costs nothing.
    """
    whole = privacy.noise_multiplier(settings.epsilon, delta)
    counts = Mechanism(whole / math.sqrt(settings.count_share))
    scaling = None
    if not public:
        each = settings.scaling_share / SCALING_QUERIES
        scaling = Mechanism(whole / math.sqrt(each), steps=SCALING_QUERIES)
    steps = max(1, round(settings.epochs / settings.sampling_rate))
    multiplier = privacy.noise_multiplier(
        settings.epsilon,
        delta,
        sampling_rate=settings.sampling_rate,
        steps=steps,
        beside=tuple(filter(None, (counts, scaling))),
    )
    return Budget(counts, scaling, Mechanism(multiplier, settings.sampling_rate, steps))


def noisy_sum(rows: Tensor, noise_multiplier: float, generator: torch.Generator) -> Tensor:
    """Σ rows + N(0, σ²) [k] of rows [n, k], each clipped to norm 1 first.

    One row more or less changes the sum by at most 1 in L2 norm: σ is the noise multiplier. That
    holds for any row: what is not finite counts as 0.
    """
    clipped = rows / rows.norm(dim=1, keepdim=True).clamp(min=1)  # 0 where the norm overflows
    total = clipped.nan_to_num(nan=0, posinf=0, neginf=0).sum(0)
    return total + noise_multiplier * torch.randn(
        total.shape, generator=generator, device=total.device
    )


def public_bounds(train: EmbeddingSet, settings: DPCVAESettings) -> tuple[float, float] | None:
    """Bounds of all features that are known without looking at rows, if there are any."""
    if settings.feature_min is not None and settings.feature_max is not None:
        return settings.feature_min, settings.feature_max
    return (0.0, 1.0) if train.meta.get("backbone") == PIXELS else None


def _private_bounds(
    rows: Tensor, count: float, noise_multiplier: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Lower and upper bounds of features [D] from three noisy sums over rows [n, D].

    First the typical norm R of a row, the end of the fullest octave; then, as sums of rows / R,
    the mean and the mean absolute deviation from it. (A variance would need far more noise: the
    norm of |x - mean| grows with √D, that of its squares with D.) A constant feature is like any
    other here: nothing is said about it beyond its two noisy numbers.
    """

    def ask(values: Tensor) -> Tensor:
        return noisy_sum(values, noise_multiplier, generator)

    octaves = rows.norm(dim=1).log2().ceil().clamp(OCTAVES[0], OCTAVES[-1]).long()
    histogram = ask(F.one_hot(octaves - OCTAVES[0], len(OCTAVES)).float())
    fullest = int(histogram.argmax())
    wider = histogram[fullest + 1 : fullest + 2] > histogram[fullest] / 2  # typical norms span two
    radius = 2.0 ** (OCTAVES[fullest] + int(wider.sum()))
    noise = radius * noise_multiplier / count  # standard deviation of each number below
    centre = _shrunk(ask(rows / radius) * radius / count, noise)
    deviation = _shrunk(ask((rows - centre).abs() / radius) * radius / count, noise)
    reach = REACH * deviation.clamp(min=0) + 2 * noise
    return centre - reach, centre + reach


def _shrunk(values: Tensor, noise: float) -> Tensor:
    """Noisy values [D] moved towards their mean by the share of their variance that is noise.

    (The positive-part estimator of Efron and Morris, JASA 1973.)
    """
    mean = values.mean()
    kept = (1 - noise**2 / values.var(correction=0).clamp(min=1e-30)).clamp(min=0)
    return mean + kept * (values - mean)


def _train(
    model: CVAE,
    x: Tensor,
    y: Tensor,
    count: float,
    settings: DPCVAESettings,
    budget: Budget,
    generator: torch.Generator,
) -> tuple[CVAE, Any]:
    """DP-SGD on x [n, D] in 0..1, y [n, C] → the mean of the last weights, the accountant.

    Args:
        count: noisy number of rows; sampling rate · count is the batch size that sums of
            gradients are divided by, whatever the size of a sample, which may be 0.

    Raises:
        InputError: training diverged.
    """
    _, rate, steps = budget.gradients
    with torch.no_grad():
        first = next(model.decoder.parameters())  # [hidden, latent + C]
        first[:, settings.latent_dim :] *= CLASS_GAIN
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(AVERAGE_DECAY))
    backward, optimizer = _private_steps(model, count, settings, budget.gradients, generator)
    spent = privacy.accountant((budget.counts, *filter(None, [budget.scaling])))
    optimizer.attach_step_hook(spent.get_optimizer_hook_fn(rate))
    for _ in progress.bar(range(steps), desc="DP-CVAE", unit="step"):
        drawn = torch.rand(len(x), generator=generator, device=x.device) < rate
        backward(_losses(model, x[drawn], y[drawn], settings, generator))
        optimizer.step()
        averaged.update_parameters(model)
    mean: CVAE = averaged.module  # type: ignore[assignment]
    if not all(bool(weights.isfinite().all()) for weights in mean.parameters()):
        raise InputError(
            f"DP-CVAE diverged; a smaller --learning_rate than {settings.learning_rate:g} may help"
        )
    return mean, spent


def _private_steps(
    model: CVAE,
    count: float,
    settings: DPCVAESettings,
    gradients: Mechanism,
    generator: torch.Generator,
) -> tuple[Callable[[Tensor], None], Any]:
    """A backward pass for losses of rows [m] that clips each row's gradient, and its optimizer.

    Ghost clipping (Li et al., ICLR 2022): one pass for the norm of each row's gradient, one for
    the clipped sum, so that no row's gradient is ever held.
    """
    ghost = privacy.opacus("utils.fast_gradient_clipping_utils")
    clipped = ghost.GradSampleModuleFastGradientClipping(
        model, loss_reduction="sum", max_grad_norm=settings.max_grad_norm
    )
    optimizer = ghost.DPOptimizerFastGradientClipping(
        torch.optim.Adam(model.parameters(), lr=settings.learning_rate),
        noise_multiplier=gradients.noise_multiplier,
        max_grad_norm=settings.max_grad_norm,
        expected_batch_size=gradients.sampling_rate * count,
        generator=generator,
    )

    def backward(losses: Tensor) -> None:
        ghost.DPTensorFastGradientClipping(clipped, optimizer, losses, "sum").backward()

    return backward, optimizer


def _losses(
    model: CVAE, x: Tensor, y: Tensor, settings: DPCVAESettings, generator: torch.Generator
) -> Tensor:
    """The objective of each row [m] with fresh latent noise."""
    noise = torch.randn(len(x), settings.latent_dim, generator=generator, device=x.device)
    kl_weight, prior_variance = settings.kl_weight, settings.prior_variance
    x.requires_grad_()  # unused, but torch warns where hooks on gradients meet inputs without
    return model.loss_rows(x, y, noise, kl_weight=kl_weight, prior_variance=prior_variance)


def _delta(settings: DPCVAESettings, rows: int) -> float:
    """The δ that was asked for, else the largest power of ten that is at most 1 / (10 n).

    Raises:
        InputError: it is not below 1/n, where releasing a random row would count as private.
    """
    if settings.delta is None:
        return 10.0 ** -(math.ceil(math.log10(rows)) + 1)
    if settings.delta >= 1 / rows:
        raise InputError(f"--delta {settings.delta:g} must be below 1/n = {1 / rows:.2g}")
    return settings.delta


def _secret(folder: Path | None) -> str:
    """Random digits that the noise depends on, made at the first fit and kept in `folder`.

    A seed is known or guessed, and noise that can be drawn again hides nothing. "" without a
    folder: the noise is then as public as the seed.

    Raises:
        OutputError: the key cannot be written or read.
    """
    if folder is None:
        return ""
    path = folder / "dpcvae.key"
    try:
        if not path.exists():
            _make_key(path)
        return path.read_text(encoding="ascii")
    except OSError as error:
        raise OutputError(f"cannot make or read {path}: {error.strerror or error}") from error


def _make_key(path: Path) -> None:
    """Write new digits to `path`, unless another process is first: then its key is kept."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(prefix=".dpcvae.", dir=path.parent)  # of mode 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write(secrets.token_hex(32))
            file.flush()
            os.fsync(handle)
        with suppress(FileExistsError):
            os.link(temporary, path)  # appears whole, and never replaces
    finally:
        Path(temporary).unlink()


def _generator(
    secret: str, train: EmbeddingSet, settings: DPCVAESettings, seed: int, device: torch.device
) -> torch.Generator:
    """The source of all noise and samples of a fit.

    Noise used twice could be subtracted: fits of different rows or settings share none.
    """
    stream = f"dpcvae/{fingerprint([secret, train.fingerprint, asdict(settings.for_fit())])}"
    if secret:
        return seeding.secret_generator(secret, seed, stream, device)
    return seeding.generator(seed, stream, device)


def _noise_source(secret: bool, device: torch.device) -> str:
    """What must be known to draw the noise again."""
    if not secret:
        return "the seed alone: keep it secret"
    return "seed and a secret key" + ("" if device.type == "cpu" else ", 64 bits of it")


def _facts(
    settings: DPCVAESettings,
    budget: Budget,
    spent: Any,
    delta: float,
    bounds: tuple[float, float] | None,
    noise: str,
) -> dict[str, Any]:
    """The guarantee and what it rests on. Nothing here depends on rows except delta's default."""
    error = privacy.tolerance(settings.epsilon)
    parts: dict[str, Any] = {
        name: {
            "noise_multiplier": part.noise_multiplier,
            "epsilon_alone": privacy.epsilon(privacy.accountant((part,)), delta, eps_error=error),
        }
        for name, part in budget.parts.items()
    }
    if bounds:
        parts["scaling"] = {"public_bounds": list(bounds)}
    return {
        "epsilon": privacy.epsilon(spent, delta, eps_error=error),
        "delta": delta,
        "neighbours": "one row added or removed",
        "noise_multiplier": budget.gradients.noise_multiplier,
        "sampling_rate": budget.gradients.sampling_rate,
        "steps": budget.gradients.steps,
        "max_grad_norm": settings.max_grad_norm,
        "accountant": f"{privacy.ACCOUNTANT} (opacus {version('opacus')})",
        "budget": parts,
        "noise": noise,
        "validation_rows": "not used",
    }
