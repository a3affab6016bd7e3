"""Backbones: name → frozen model and the transform that prepares an image for it.

Any timm model by its name, its own evaluation transform included; and `pixels`, the image itself.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn
from torch.nn import functional as F

from src import progress
from src.datasets.base import ImageSplits, to_array, to_rgb
from src.datasets.downloads import fetch
from src.errors import DataError, InputError, MissingFileError, UnknownNameError
from src.provenance import fingerprint_arrays

_log = logging.getLogger(__name__)

PIXELS = "pixels"
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_HUB_TIMEOUT = 5.0  # seconds for the first answer


@dataclass(frozen=True)
class Backbone:
    """A frozen model on its device.

    Attributes:
        model: (b, c, h, w) float32 → (b, D).
        transform: image → (c, h, w) float32; can be pickled.
        dim: D.
        facts: what an embedding depends on, as JSON values (the weights' fingerprint, ...).
    """

    name: str
    model: nn.Module
    transform: Callable[[Image.Image], torch.Tensor]
    device: torch.device
    dim: int
    facts: dict[str, Any]


def load(
    name: str,
    images: ImageSplits,
    *,
    device: torch.device,
    image_size: int | None = None,
    weights: Path | None = None,
) -> Backbone:
    """The backbone of that name, ready to embed `images`.

    Args:
        name: a timm model, with or without its tag; `hf-hub:owner/repository` and
            `local-dir:folder` as timm reads them; or `pixels`.
        images: what it is for (`pixels` has as many channels as these images need).
        image_size: height and width in pixels, if not the model's own.
        weights: a checkpoint (safetensors, or torch's format without pickled objects) to read
            instead of the published one.

    Raises:
        InputError: unknown name, weights that are not there or do not fit, a size that the
            model does not take.
    """
    build = _pixels if name == PIXELS else _timm
    model, transform, facts = build(name, images, image_size, weights)
    model = model.eval().to(device)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # twice as fast
    example = transform(images.train[0])
    try:
        with torch.inference_mode():
            embedding = model(example[None].to(device))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise InputError(
            f"backbone '{name}' does not take images of size {_size(example)}: {_line(error)}"
        ) from error
    if embedding.ndim != 2:
        raise InputError(f"backbone '{name}' gives no vector but shape {tuple(embedding.shape)}")
    facts = {**facts, "input_size": list(example.shape)}
    return Backbone(name, model, transform, device, embedding.shape[1], facts)


def require_known(name: str) -> None:
    """Raise InputError if `load` knows no such backbone, without loading any."""
    if name == PIXELS:
        return
    import timm
    from timm.models import parse_model_name

    try:
        source, _ = parse_model_name(name)
    except ValueError as error:
        raise InputError(f"backbone '{name}': {_line(error)}") from error
    names = {PIXELS, *timm.list_models(), *timm.list_models(include_tags=True)}
    if source is None and name not in names:
        hint = "; all are in timm.list_models(include_tags=True)"
        raise UnknownNameError("backbone", name, names, hint)


# The image itself.

_Parts = tuple[nn.Module, Callable[[Image.Image], torch.Tensor], dict[str, Any]]


def _pixels(
    name: str, images: ImageSplits, image_size: int | None, weights: Path | None
) -> _Parts:
    if weights:
        raise InputError(f"--weights {weights}: backbone '{name}' has no weights")
    splits = (images.train, images.val, images.test)
    everything = itertools.chain(*(map(split.__getitem__, range(len(split))) for split in splits))
    bar = progress.bar(everything, desc="looking for colour", total=sum(map(len, splits)))
    colour = any(image.mode == "RGB" for image in bar)  # ends at the first colour image
    width, height = images.train[0].size
    size = (image_size, image_size) if image_size else (height, width)
    transform = PixelTransform(3 if colour else 1, size, resize=image_size is not None)
    return nn.Flatten(), transform, {}


@dataclass(frozen=True)
class PixelTransform:
    """Image → (channels, *size) float32 in 0..1; grey is repeated where others have colour."""

    channels: int
    size: tuple[int, int]  # height, width
    resize: bool

    def __call__(self, image: Image.Image) -> torch.Tensor:
        """Convert one image.

        Raises:
            InputError: it has another size, and is not to be resized.
        """
        values = torch.tensor(to_array(image))
        if self.resize:
            values = F.interpolate(values[None], self.size, mode="bilinear", antialias=True)[0]
        elif values.shape[1:] != self.size:
            raise InputError(
                f"images of different sizes, {_size(values)} and {_size(self.size)} (h x w), "
                f"cannot be '{PIXELS}' of one length; resize them with --image_size N"
            )
        return values.expand(self.channels, -1, -1)


# timm's models.


class Features(nn.Module):
    """A timm model's pooled features before its classifier."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(b, 3, h, w) → (b, D)."""
        features = self.model.forward_features(x)
        pooled: torch.Tensor = self.model.forward_head(features, pre_logits=True)
        return pooled


def _timm(name: str, images: ImageSplits, image_size: int | None, weights: Path | None) -> _Parts:
    import timm
    from timm.data.config import resolve_model_data_config
    from timm.data.transforms_factory import create_transform
    from torchvision.transforms import Compose

    require_known(name)
    if weights and not weights.is_file():
        raise MissingFileError(f"--weights {weights} does not exist")
    arguments = _arguments(name, image_size)
    overlay = _source(name, arguments["pretrained_cfg"], weights)
    file = overlay.get("file", name)
    try:
        with _loading() as results:
            model: Any = timm.create_model(
                **arguments, pretrained=True, pretrained_cfg_overlay=overlay
            )
    except Exception as error:  # a file's content can make anything fail
        size = f" at --image_size {image_size}" if image_size else ""
        pickled = "weights_only" in str(error)  # torch advises to load them all the same
        reason = "it holds pickled objects or no arrays at all" if pickled else _line(error)
        raise DataError(f"cannot load {file} into backbone '{name}'{size}: {reason}") from error
    for missing, unexpected in results:
        if missing:
            raise DataError(
                f"{file} does not fit backbone '{name}': it lacks {len(missing)} of its "
                f"{len(model.state_dict())} arrays, the first '{missing[0]}'"
            )
        if unexpected:
            _log.info("%s: %d arrays left unused, as '%s'", file, len(unexpected), unexpected[0])
    config = resolve_model_data_config(model, args={"img_size": image_size})
    transform = create_transform(**config, is_training=False)
    facts = {
        "weights": fingerprint_arrays(*(v.numpy() for v in model.state_dict().values())),
        "license": model.pretrained_cfg.get("license"),
        "transform": config,
    }
    return Features(model), Compose([to_rgb, transform]), facts


def _arguments(name: str, image_size: int | None) -> dict[str, Any]:
    """Arguments of timm.create_model, the configuration of the published weights among them."""
    from timm.models import resolve_model_input_args

    source, _, repository = name.partition(":")
    if source in ("hf-hub", "hf_hub"):
        _from_hub(repository, ("config.json",), "with its weights, and pass local-dir:FOLDER")
    try:
        arguments: dict[str, Any] = resolve_model_input_args(
            name, {"img_size": image_size}, num_classes=0
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(f"backbone '{name}' cannot be read: {_line(error)}") from error
    return arguments


def _source(name: str, published: dict[str, Any], weights: Path | None) -> dict[str, Any]:
    """What makes timm read a file that is here; it maps names and resizes positions as ever."""
    repository, url = published.get("hf_hub_id"), published.get("url")
    if weights is None and published.get("source") == "local-dir":
        return {}
    if weights is None and repository:
        file = published.get("hf_hub_filename")
        weights = _from_hub(repository, (file,) if file else _HUB_FILES, "and pass --weights FILE")
    if weights is None and url:
        weights = Path(torch.hub.get_dir()) / "checkpoints" / Path(url).name
        if not weights.exists():
            fetch(url, weights)
    if weights is None:
        raise InputError(
            f"timm has no pretrained weights for backbone '{name}'; give some with --weights FILE"
        )
    return {"file": str(weights), "source": None, "custom_load": False}


def _from_hub(repository: str, files: tuple[str, ...], by_hand: str) -> Path:
    """The first of `files` that the hub's repository has, from the local cache if it is there.

    The hub's client tries again for half a minute where there is no network; asking for the
    file's metadata first tells at once.

    Raises:
        MissingFileError: it cannot be downloaded; says what to do `by_hand`.
    """
    import huggingface_hub as hub
    from huggingface_hub.errors import EntryNotFoundError

    repository, _, revision = repository.partition("@")
    at = revision or None
    for file in files:
        cached = hub.try_to_load_from_cache(repository, file, revision=at)
        if isinstance(cached, str):
            return Path(cached)
    reason = ""
    for file in files:
        url = hub.hf_hub_url(repository, file, revision=at)
        try:
            hub.get_hf_file_metadata(url, timeout=_HUB_TIMEOUT)
            _log.info("downloading %s", url)
            return Path(hub.hf_hub_download(repository, file, revision=at))
        except EntryNotFoundError as error:
            reason = _line(error)
        except Exception as error:  # whatever the network, the proxy or the hub answers
            reason = _line(error)
            break
    url = hub.hf_hub_url(repository, files[0], revision=at)
    raise MissingFileError(f"cannot download {url} ({reason}); fetch it by other means {by_hand}")


@contextmanager
def _loading() -> Iterator[list[tuple[list[str], list[str]]]]:
    """Collect (missing, unexpected) names of what is loaded within the block.

    timm only logs them, in very long lines, and leaves random numbers in place of the missing.
    """
    results: list[tuple[list[str], list[str]]] = []
    original, timms_log = nn.Module.load_state_dict, logging.getLogger("timm")
    level = timms_log.level

    def load_state_dict(self: nn.Module, *args: Any, **kwargs: Any) -> Any:
        result = original(self, *args, **kwargs)
        results.append((result.missing_keys, result.unexpected_keys))
        return result

    try:
        nn.Module.load_state_dict = load_state_dict  # type: ignore[method-assign]
        timms_log.setLevel(logging.ERROR)
        yield results
    finally:
        nn.Module.load_state_dict = original  # type: ignore[method-assign]
        timms_log.setLevel(level)


def _line(error: Exception) -> str:
    """The telling part of an error in one line: torch lists all mismatches under a headline."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    rest = f" (and {len(lines) - 2} more)" if len(lines) > 2 else ""
    return lines[1] + rest if lines[0].endswith(":") and len(lines) > 1 else lines[0]


def _size(shape: Any) -> str:
    """Height x width."""
    return " x ".join(map(str, tuple(getattr(shape, "shape", shape))[-2:]))
