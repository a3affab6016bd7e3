"""Names of backbones as other libraries write them."""

import pytest

from src.core.errors import MissingFileError, UnknownNameError
from src.embedding.backbones import load
from tests.embedding.support import CPU, colour, splits
from tests.embedding.test_timm_models import closed_hub

closed_hub = closed_hub


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("DINOv2", "vit_base_patch14_dinov2"),
        ("dinov2_vits14", "vit_small_patch14_dinov2"),
        ("dinov2_vitl14_reg", "vit_large_patch14_reg4_dinov2"),
        ("dino_vits16", "vit_small_patch16_224.dino"),
        ("facebook/dinov2-base", "vit_base_patch14_dinov2"),
        ("google/vit-base-patch16-224", "vit_base_patch16_224"),
        ("timm/vit_small_patch14_dinov2.lvd142m", "vit_small_patch14_dinov2.lvd142m"),
        ("resnet-50", "resnet50"),
        ("ResNet50", "resnet50"),
    ],
)
def test_the_nearest_name_is_told_with_what_it_needs_offline(name, expected):
    with pytest.raises(UnknownNameError) as error:
        load(name, splits(colour()), device=CPU)
    message = str(error.value)
    assert message.startswith(f"unknown backbone '{name}'; did you mean '{expected}'?")
    assert message.endswith(f"; offline: {expected} with --weights FILE")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("repository", "expected"),
    [
        ("timm/vit_small_patch14_dinov2.lvd142m", "vit_small_patch14_dinov2"),
        ("facebook/dinov2-small", "vit_small_patch14_dinov2"),
    ],
)
def test_a_hub_that_cannot_be_reached(closed_hub, repository, expected):
    with pytest.raises(MissingFileError, match=rf", or --backbone {expected} --weights FILE$"):
        load(f"hf-hub:{repository}", splits(colour()), device=CPU)
