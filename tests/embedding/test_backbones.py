import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from src.core.errors import InputError
from src.embedding.backbones import load
from src.embedding.datasets.base import ImageSet, ImageSplits
from tests.embedding.support import CPU, colour, splits


class Mixed:
    """Images of any modes and sizes."""

    def __init__(self, *images):
        self.images = images

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        return self.images[index]


def mixed(*images):
    split = ImageSet(Mixed(*images), np.zeros(len(images), np.int64))
    return ImageSplits(split, split, split, class_names=["only"])


def test_pixels_are_the_image_in_rows_of_its_channels():
    images = np.arange(2 * 2 * 3 * 3, dtype=np.uint8).reshape(2, 2, 3, 3)  # n, h, w, colour
    backbone = load("pixels", splits(images), device=CPU)
    x = torch.stack([backbone.transform(Image.fromarray(image)) for image in images])
    expected = images.transpose(0, 3, 1, 2).reshape(2, -1).astype(np.float32) / 255
    assert backbone.dim == 18
    np.testing.assert_array_equal(backbone.model(x).numpy(), expected)


def test_pixels_of_digits_are_sixteenths():
    from src.embedding.datasets import digits

    images = digits.load()
    backbone = load("pixels", images, device=CPU)
    values = backbone.model(backbone.transform(images.train[0])[None]) * 16
    assert backbone.dim == 64
    assert torch.equal(values, values.round())
    assert 1 < values.max() <= 16


def test_pixels_resized():
    grey = np.full((2, 10, 20), 51, np.uint8)
    backbone = load("pixels", splits(grey), device=CPU, image_size=4)
    x = backbone.transform(Image.fromarray(grey[0]))
    assert x.shape == (1, 4, 4)
    torch.testing.assert_close(x, torch.full((1, 4, 4), 0.2))
    different = mixed(Image.new("L", (5, 5)), Image.new("L", (9, 3)))
    assert load("pixels", different, device=CPU, image_size=2).dim == 4


def test_pixels_of_different_sizes_are_refused():
    images = mixed(Image.new("L", (7, 5)), Image.new("L", (9, 3)))
    backbone = load("pixels", images, device=CPU)
    with pytest.raises(
        InputError, match=r"different sizes, 3 x 9 and 5 x 7 \(h x w\).*image_size"
    ):
        backbone.transform(images.train[1])


def test_pixels_of_grey_images_among_colour_ones_are_repeated():
    grey, red = Image.new("L", (2, 2), 51), Image.new("RGB", (2, 2), (255, 0, 0))
    backbone = load("pixels", mixed(grey, red), device=CPU)
    assert backbone.dim == 12
    assert torch.equal(backbone.transform(grey), torch.full((3, 2, 2), 0.2))


def test_pixels_have_no_weights(tmp_path):
    with pytest.raises(InputError, match="'pixels' has no weights"):
        load("pixels", splits(colour()), device=CPU, weights=tmp_path)


def test_a_transform_can_be_sent_to_a_worker(saved):
    weights = saved[0] / "test_vit.pth"
    for name, file in (("pixels", None), ("test_vit", weights)):
        backbone = load(name, splits(colour()), device=CPU, weights=file)
        image = Image.fromarray(colour()[0])
        again = pickle.loads(pickle.dumps(backbone.transform))
        assert torch.equal(again(image), backbone.transform(image))
