"""What errors say: valid names, and what ran out of memory."""

import numpy as np
import pytest
import torch

from src.core.errors import InputError, UnknownNameError, out_of_memory


def raised(work):
    with pytest.raises((MemoryError, RuntimeError)) as error:
        work()
    return error.value


def test_an_unknown_name_lists_the_valid_ones_and_suggests_the_nearest():
    text = str(UnknownNameError("colour", "bleu", ["red", "Blue"], " in c.yaml"))
    assert text == "unknown colour 'bleu'; did you mean 'Blue'? (valid: Blue, red) in c.yaml"
    assert str(UnknownNameError("colour", "x", [])) == "unknown colour 'x' (valid: none)"


def test_of_many_valid_names_only_the_closest_are_listed():
    names = [f"model{i:03}" for i in range(200)]
    text = str(UnknownNameError("model", "MODEL007x", names))
    assert "did you mean 'model007'? (one of 200; the closest: model007, " in text
    assert len(text) < 200
    assert "(one of 200; the closest: none is close)" in str(UnknownNameError("m", "?", names))


def test_numpy_and_torch_out_of_memory_say_how_much_was_asked_for():
    ours = out_of_memory(raised(lambda: np.empty((10**7, 10**8))))
    assert ours == (
        "out of memory: 7.11 PiB for an array with shape (10000000, 100000000) and data type "
        "float64 could not be allocated; what helps: fewer rows or more memory"
    )
    ours = out_of_memory(raised(lambda: torch.empty(10**15)))
    assert ours == (
        "out of memory: 4000000000000000 bytes could not be allocated; "
        "what helps: fewer rows or more memory"
    )


def test_a_device_out_of_memory_says_how_much_was_asked_for():
    text = (
        "CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 14.58 GiB "
        "of which 2.31 GiB is free. Including non-PyTorch memory, this process has 12.26 GiB"
    )
    helps = "what helps: a smaller batch or --device cpu"
    line = f"out of memory: 20.00 GiB could not be allocated; {helps}"
    assert out_of_memory(torch.OutOfMemoryError(text)) == line
    assert out_of_memory(RuntimeError("CUDA error: out of memory\nCUDA kernel errors ...")) == (
        f"out of memory; {helps}"
    )


def test_python_s_own_does_not_say_how_much():
    ours = out_of_memory(raised(lambda: bytearray(10**17)))
    assert ours == "out of memory; what helps: fewer rows or more memory"


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes do not fit"), ValueError("out of memory"), InputError("memory")]
)
def test_other_errors_are_not_of_memory(error):
    assert out_of_memory(error) is None
