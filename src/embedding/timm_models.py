"""timm's models by name, with published weights or a local checkpoint."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import nn

from src.core.errors import DataError, InputError, MissingFileError, UnknownNameError
from src.core.provenance import fingerprint_arrays
from src.embedding import layouts
from src.embedding.datasets.decoding import to_rgb
from src.embedding.downloads import fetch
from src.embedding.nearest import nearest
from src.embedding.weights import in_order, packaged

_log = logging.getLogger(__name__)
_HUB_FILES = ("model.safetensors", "pytorch_model.bin")
_HUB_TIMEOUT = 5.0  # seconds for the first answer


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


def require_known(name: str, others: Collection[str] = ()) -> None:
    """Raise InputError if `load` does not know this model, without loading it.

    Args:
        others: further valid names, to be suggested.
    """
    import timm
    from timm.models import parse_model_name

    names = {*others, *timm.list_models(), *timm.list_models(include_tags=True)}
    try:
        source, _ = parse_model_name(name)
    except ValueError:  # a path, or a source that timm does not have
        source = None
    if source is None and name not in names:
        close = nearest(name, names)
        hint = "; all are in timm.list_models(include_tags=True)"
        if "/" in name or ":" in name:
            hint = "; other sources: hf-hub:OWNER/NAME, local-dir:FOLDER"
            hint += f" (hf-hub:{name})" * (":" not in name)
        if close and close[0] not in others:
            hint += f"; offline: {close[0]} with --weights FILE"
        raise UnknownNameError("backbone", name, names, hint, close)


def load(
    name: str, image_size: int | None, weights: Path | None
) -> tuple[nn.Module, Callable[[Image.Image], torch.Tensor], dict[str, Any]]:
    """Load a known model: its pooled features, its transform, and its facts (JSON values).

    Raises:
        InputError: weights are missing or do not fit.
    """
    from timm.data.config import resolve_model_data_config
    from timm.data.transforms_factory import create_transform
    from torchvision.transforms import Compose

    if weights and not weights.exists():
        raise MissingFileError(f"--weights {weights} does not exist")
    arguments = _arguments(name, image_size)
    given = weights or packaged(name)
    overlay = _source(name, arguments["pretrained_cfg"], given)
    if given:
        model = _from_file(name, arguments, overlay, given)
    else:
        model = _published(name, arguments, overlay)
    config = resolve_model_data_config(model, args={"img_size": image_size})
    transform = create_transform(**config, is_training=False)
    facts = {
        "weights": fingerprint_arrays(*(v.numpy() for v in model.state_dict().values())),
        "license": model.pretrained_cfg.get("license"),
        **({"own_weights": True} if weights else {}),  # so that the licence may be another
        "transform": config,
    }
    return Features(model), Compose([to_rgb, transform]), facts


def _published(name: str, arguments: dict[str, Any], overlay: dict[str, Any]) -> Any:
    """The model with the weights that its authors published for it."""
    if "file" in overlay:
        layouts.require_weights(Path(overlay["file"]))
    model, unused = _by_name(name, arguments, overlay)
    if unused:
        file = overlay.get("file", name)
        _log.info("%s: %d arrays left unused, the first '%s'", file, len(unused), unused[0])
    return model


def _from_file(name: str, arguments: dict[str, Any], overlay: dict[str, Any], file: Path) -> Any:
    """The model with a file's arrays, under the names that it or another program gives them.

    Raises:
        DataError: the file cannot be read, or its arrays do not fit.
    """
    arrays = layouts.read(file)
    try:
        model, unused = _by_name(name, arguments, {**overlay, "state_dict": dict(arrays)})
        note = ""
    except DataError:
        ours, head = _own_arrays(arguments)
        body = [key for key in ours if key not in head]
        if set(body) <= arrays.keys():
            raise
        found, how = layouts.renamed(arrays, body), ""
        if found is None:
            found, how = (_ordered(file, name, arrays, ours, head), []), " in order"
        model, unused = _by_name(name, arguments, {**overlay, "state_dict": dict(found[0])})
        unused += found[1]
        note = (
            f"{layouts.described(arrays)}; all {len(found[0])} arrays agree{how} and are used so"
        )
    del model.pretrained_cfg["state_dict"]  # timm's copy
    unused = [key for key in unused if not layouts.is_head(key)]
    if unused:
        raise DataError(
            f"{file} does not fit backbone '{name}': {len(unused)} of its arrays would be left "
            f"unused, the first '{unused[0]}'"
        )
    if note:
        _log.info("%s: the names are not those of '%s' but %s", file, name, note)
    return model


def _ordered(
    file: Path,
    name: str,
    arrays: dict[str, torch.Tensor],
    ours: dict[str, torch.Tensor],
    head: list[str],
) -> dict[str, torch.Tensor]:
    try:
        return in_order(arrays, ours, head)
    except DataError as error:
        unordered = " (.safetensors files keep no order)" * (file.suffix == ".safetensors")
        misfit = layouts.misfit(str(file), name, arrays, [key for key in ours if key not in head])
        raise DataError(f"{misfit}; nor does it fit in order: {error}{unordered}") from error


def _by_name(
    name: str, arguments: dict[str, Any], overlay: dict[str, Any]
) -> tuple[Any, list[str]]:
    """The model as timm loads it, and the names of arrays left unused except a classifier's."""
    import timm

    file, size = overlay.get("file", name), arguments.get("img_size")
    try:
        with _loading() as results:
            model: Any = timm.create_model(
                **arguments, pretrained=True, pretrained_cfg_overlay=overlay
            )
    except Exception as error:  # a file's content can make anything fail
        at = f" at --image_size {size[0]}" if size else ""
        pickled = "weights_only" in str(error)  # torch advises to load them all the same
        reason = "it holds pickled objects or no arrays at all" if pickled else telling_line(error)
        raise DataError(f"cannot load {file} into backbone '{name}'{at}: {reason}") from error
    missing = [key for keys, _ in results for key in keys]
    unused = [key for _, keys in results for key in keys]
    if missing:
        raise DataError(
            f"{file} does not fit backbone '{name}': it lacks {len(missing)} of its "
            f"{len(model.state_dict())} arrays, the first '{missing[0]}'"
        )
    head = _own_arrays(arguments)[1] if unused else []
    return model, [key for key in unused if key not in head]


def _own_arrays(arguments: dict[str, Any]) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The model's arrays with its classifier's, at its own size, and the classifier's names."""
    import timm

    own = {key: arguments[key] for key in arguments.keys() - {"img_size", "num_classes"}}
    whole = timm.create_model(**own, pretrained=False).state_dict()
    body = timm.create_model(**own, num_classes=0, pretrained=False).state_dict()
    return whole, [key for key in whole if key not in body]


def _arguments(name: str, image_size: int | None) -> dict[str, Any]:
    """The arguments of timm.create_model, the published weights' configuration among them."""
    import timm
    from timm.models import resolve_model_input_args

    source, _, repository = name.partition(":")
    if source in ("hf-hub", "hf_hub"):
        plain = nearest(repository, timm.list_models())
        offline = f", or --backbone {plain[0]} --weights FILE" if plain else ""
        by_hand = f"with its weights, and pass local-dir:FOLDER{offline}"
        _from_hub(repository, ("config.json",), by_hand)
    try:
        arguments: dict[str, Any] = resolve_model_input_args(
            name, {"img_size": image_size}, num_classes=0
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(f"backbone '{name}' cannot be read: {telling_line(error)}") from error
    return arguments


def _source(name: str, published: dict[str, Any], weights: Path | None) -> dict[str, Any]:
    """What makes timm read a local file; it still maps names and resizes position embeddings."""
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
            f"timm has no pretrained weights for backbone '{name}'; pass some with --weights FILE"
        )
    return {"file": str(weights), "source": None, "custom_load": False}


def _from_hub(repository: str, files: tuple[str, ...], by_hand: str) -> Path:
    """The first of `files` that the hub's repository has, from the local cache if possible.

    Without a network the hub's client retries for half a minute; asking for the file's metadata
    first tells at once.

    Raises:
        MissingFileError: it cannot be downloaded; the message says what to do `by_hand`.
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
            reason = telling_line(error)
        except Exception as error:  # whatever the network, the proxy or the hub answers
            reason = telling_line(error)
            break
    url = hub.hf_hub_url(repository, files[0], revision=at)
    raise MissingFileError(f"cannot download {url} ({reason}); fetch it by other means {by_hand}")


@contextmanager
def _loading() -> Iterator[list[tuple[list[str], list[str]]]]:
    """Collect (missing, unexpected) names of what is loaded within the block.

    timm only logs them, in very long lines, and leaves random numbers in place of missing ones.
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


def telling_line(error: Exception) -> str:
    """The line of an error that tells most: torch lists all mismatches below a headline."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if not lines:
        return type(error).__name__
    rest = f" (and {len(lines) - 2} more)" if len(lines) > 2 else ""
    return lines[1] + rest if lines[0].endswith(":") and len(lines) > 1 else lines[0]
