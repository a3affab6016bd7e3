"""Decoders in files: read back as they were, or refused."""

import pytest
import torch
from safetensors.torch import save_file

from src.bundle import decoders
from src.core.errors import DataError
from src.networks.cvae import Decoder


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("minimum"), "minimum"),
        (lambda t: t.update(secret=torch.ones(3)), "secret"),
        (lambda t: t.update(extent=torch.ones(3)), "does not hold a decoder"),
        (lambda t: t["extent"].fill_(float("nan")), "not finite"),
        (lambda t: t["class_weights"].fill_(0), "not a distribution"),
        (lambda t: t.update(class_weights=torch.ones(3)), "3 classes leave none of its 3 inputs"),
        (lambda t: t.update(class_weights=torch.ones(0)), "does not hold a decoder"),
    ],
)
def test_decoders_that_are_none(tmp_path, change, message):
    path = tmp_path / "decoder.safetensors"
    tensors = Decoder(4, 2, 3, 1).state_dict()
    change(tensors)
    save_file(tensors, path, metadata={"observation_noise": "0.1"})
    with pytest.raises(DataError, match=message):
        decoders.read(path)
    path.write_bytes(b"x" * 100)
    with pytest.raises(DataError, match="does not hold a decoder"):
        decoders.read(path)


def test_decoders_come_back_as_they_were(tmp_path):
    decoder = Decoder(4, 2, 3, 1)
    decoder.observation_noise = 0.125
    (tmp_path / "decoder.safetensors").write_bytes(decoders.serialized(decoder))
    again = decoders.read(tmp_path / "decoder.safetensors")
    assert again.observation_noise == 0.125
    for name, tensor in decoder.state_dict().items():
        assert torch.equal(again.state_dict()[name], tensor)
