"""The methods: their names, ids, settings, and what is the same for all of them."""

import dataclasses

import numpy as np
import pytest
import torch

from src.anonymizers import methods
from src.anonymizers.base import Sampled
from src.anonymizers.methods import ALL, ONLINE, RELEASING
from src.core.devices import Resources
from src.core.errors import InputError, UnknownNameError
from src.database import EmbeddingSet

CPU = Resources(torch.device("cpu"))
NEEDED = {"k": 5, "epsilon": 1.0}  # for the settings that have no default


def made(method):
    needed = [f.name for f in dataclasses.fields(method) if f.default is dataclasses.MISSING]
    return method(**{name: NEEDED[name] for name in needed})


@pytest.mark.parametrize("name", ["kSAME", "ksame", "KSAME"])
def test_names_in_any_case(name):
    assert methods.parse(name, {"k": 5}) == methods.KSame(k=5)


def test_unknown_names_list_the_valid_ones():
    with pytest.raises(UnknownNameError, match="'ksme'; did you mean 'ksame'.*cvae, .*identity"):
        methods.parse("ksme", {})
    with pytest.raises(UnknownNameError, match="valid: cvae-online, dpcvae-online"):
        methods.parse("cvae", {}, ONLINE)
    with pytest.raises(UnknownNameError, match="unknown anonymizer 'cvae-online'"):
        methods.parse("cvae-online", {})
    assert methods.parse("cvae-online", {}, ALL) == methods.CVAEOnline()


@pytest.mark.parametrize(
    ("name", "values", "seed", "release_id"),
    [
        ("identity", {}, 3, "identity"),
        ("gaussian", {}, 3, "gaussian-s3"),
        ("ksame", {"k": 5}, 3, "ksame-5"),
        ("ksame", {"k": 5, "per_class": True}, 3, "ksame-5-perclass"),
        ("cvae", {}, 0, "cvae-s0"),
        ("cvae", {"variance": 0.5}, 0, "cvae-var0.5-s0"),
        ("cvae", {"kl_weight": 1.0}, 0, "cvae-kl_weight1-s0"),
        (
            "cvae",
            {"patience": 3, "num_epochs": 2, "batch_size": 9, "learning_rate": 1, "variance": 0.5,
             "hidden_dim": 7, "latent_dim": 8, "kl_weight": 0, "prior_variance": 1},
            0,
            "cvae-hidden_dim7-latent_dim8-kl_weight0-prior_variance1-learning_rate1-var0.5-"
            "batch_size9-num_epochs2-patience3-s0",
        ),
        ("cvae-online", {"variance": 2.0}, 1, "cvae-online-var2-s1"),
        ("dpcvae", {"epsilon": 1, "delta": 1e-5}, 1, "dpcvae-eps1-delta1e-05-s1"),
        ("dpcvae-online", {"epsilon": 1, "variance": 0.5}, 1, "dpcvae-online-var0.5-eps1-s1"),
        ("plan", {"k": 5, "path_points": 7, "path_steps": 3}, 1, "plan-5-T7-steps3-s1"),
    ],
)  # fmt: skip
def test_ids_name_every_setting_that_is_not_the_default(name, values, seed, release_id):
    assert methods.parse(name, values, ALL).release_id(seed) == release_id


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("ksame", {}, "ksame needs --k: rows per group"),
        ("ksame", {"k": 1}, "--k 1 is below its minimum, 2"),
        ("cvae", {"variance": -1.0}, "--variance -1.0 is below its minimum, 0"),
        ("cvae", {"variance": float("nan")}, "--variance nan"),
        ("cvae", {"variance": float("inf")}, "--variance inf"),
        ("cvae", {"prior_variance": 0.0}, "must be greater than 0"),
        ("cvae", {"k": 5}, "unknown setting of cvae 'k'"),
        ("identity", {"k": 5}, r"unknown setting of identity 'k' \(valid: none\)"),
        ("CVAE", {"varience": 5}, "unknown setting of cvae 'varience'; did you mean 'variance'"),
    ],
)
def test_settings_that_cannot_be(name, values, message):
    with pytest.raises(InputError, match=message):
        methods.parse(name, values)


@pytest.mark.parametrize("method", ALL.values(), ids=lambda method: method.name)
def test_every_method_can_be_made_and_says_what_it_is(method):
    anonymizer = made(method)
    assert anonymizer.name == method.name == method.name.lower()
    assert anonymizer.release_id(7).startswith(method.name)
    assert anonymizer.release_id(7).endswith("-s7") == method.seeded
    assert method.__doc__
    assert anonymizer == method.parse(anonymizer.given, of=method.name)
    assert anonymizer.private == ("dp" in method.name)


def test_online_methods_are_sampled_and_have_the_settings_of_the_released_ones():
    assert {*RELEASING, *ONLINE} == set(ALL)
    for name, method in ONLINE.items():
        assert issubclass(method, Sampled)
        released = RELEASING[name.removesuffix("-online")]
        assert dataclasses.fields(method) == dataclasses.fields(released)
        assert made(method).fit_id(0) == made(released).fit_id(0)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (methods.CVAE(), methods.CVAE(variance=0.5), True),
        (methods.CVAE(), methods.CVAEOnline(variance=2), True),
        (methods.CVAE(), methods.CVAE(kl_weight=2), False),
        (methods.DPCVAE(epsilon=1), methods.DPCVAEOnline(epsilon=1, observation_std=0), True),
        (methods.DPCVAE(epsilon=1), methods.DPCVAE(epsilon=2), False),
        (methods.KSame(k=2), methods.KSame(k=3), False),
    ],
)
def test_one_fit_serves_what_differs_in_sampling_only(one, other, same):
    assert (one.fit_id(0) == other.fit_id(0)) == same
    assert one.fit_id(0) != one.fit_id(1) or not one.seeded


@pytest.mark.parametrize(
    ("anonymizer", "label"),
    [
        (methods.Identity(), "identity"),
        (methods.KSame(k=5), "ksame (k=5)"),
        (methods.KSame(k=5, per_class=True), "ksame (k=5, per_class=1)"),
        (methods.CVAE(variance=0.5), "cvae (variance=0.5)"),
    ],
)
def test_labels_name_what_is_given(anonymizer, label):
    assert anonymizer.label == label


def test_the_identity_is_the_training_set(digits):
    released = methods.Identity().anonymize(digits.train, digits.val, seed=0, resources=CPU)
    assert np.array_equal(released.embeddings, digits.train.embeddings)
    assert released.meta["source"]["train"] == digits.train.fingerprint
    assert released.meta["class_names"] == digits.train.class_names


def test_plan_s_default_weight_is_the_one_that_beats_straight_lines():
    """On held-out data; the paper's 0.1 is for sums over chunks of points."""
    plan = methods.Plan(k=5)
    assert plan.privacy_weight == 1
    assert plan.release_id(0) == "plan-5-s0"
    assert methods.Plan(k=5, privacy_weight=0.1).release_id(0) == "plan-5-priv0.1-s0"
    assert methods.Plan(k=5, privacy_weight=1).release_id(0) == "plan-5-s0"


def test_a_private_head_is_standardised_by_released_rows(digits):
    online = methods.CVAEOnline(num_epochs=1)
    decoder = online.decoder(digits.train, digits.val, seed=0, resources=CPU)
    assert online.reference(digits.train, decoder, seed=0) is digits.train
    private = methods.DPCVAEOnline(epsilon=1).reference(digits.train, decoder, seed=0)
    assert isinstance(private, EmbeddingSet)
    assert private.fingerprint != digits.train.fingerprint
