"""Generators: what is secret in them is all of the key."""

import hashlib

import numpy as np
import pytest
import torch

from src.core import seeding


def first_draws(generator):
    return torch.rand(4, generator=generator), torch.randn(33, generator=generator)


def same(ours, theirs):
    return all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_the_same_key_and_seed_give_the_same_draws():
    ours, theirs = (first_draws(seeding.secret_generator("k", 0, "a")) for _ in range(2))
    assert same(ours, theirs)


@pytest.mark.parametrize("other", [("l", 0, "a"), ("k", 1, "a"), ("k", 0, "b")])
def test_another_key_seed_or_stream_gives_other_draws(other):
    ours = first_draws(seeding.secret_generator("k", 0, "a"))
    assert not same(ours, first_draws(seeding.secret_generator(*other)))


def test_all_of_the_state_comes_from_the_key():
    """Every draw is that of a Mersenne Twister whose 624 words are the expanded key."""
    words = np.frombuffer(hashlib.shake_256(b"k/0/a").digest(4 * 624), "<u4")
    twister = np.random.MT19937()
    twister.state = {"bit_generator": "MT19937", "state": {"key": words, "pos": 624}}
    generator = seeding.secret_generator("k", 0, "a")
    drawn = torch.empty(2000, dtype=torch.int32).random_(0, 2**24, generator=generator)
    expected = twister.random_raw(2000) % 2**24
    assert drawn.tolist() == expected.tolist()


def test_no_seed_leads_to_a_secret_generator():
    """`manual_seed` fixes each word by the one before it; here no word follows from another."""
    state = seeding.secret_generator("k", 0, "a").get_state()
    words = state[seeding.STATE].numpy().view(np.uint64)
    assert words.max() < 2**32  # words of 32 bits, as the generator has them
    seeded = torch.Generator().manual_seed(int(words[0])).get_state()
    assert (seeded[seeding.STATE].numpy().view(np.uint64)[1:] != words[1:]).all()
    outside = torch.ones(len(state), dtype=torch.bool)
    outside[seeding.STATE] = False
    fresh = torch.Generator().manual_seed(0).get_state()
    assert torch.equal(state[outside], fresh[outside])  # nothing drawn, no normal kept back
