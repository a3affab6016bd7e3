import numpy as np
import pytest
import torch

from src import anonymizers
from src.anonymizers import ANONYMIZERS, Resources
from src.errors import InputError, UnknownNameError

CPU = torch.device("cpu")


@pytest.mark.parametrize("name", ["kSAME", "ksame", "KSAME"])
def test_names_in_any_case(name):
    assert anonymizers.get(name).name == "ksame"


def test_unknown_names_list_the_valid_ones():
    with pytest.raises(UnknownNameError, match="'ksme'; did you mean 'ksame'.*cvae, .*identity"):
        anonymizers.get("ksme", online=False)
    with pytest.raises(UnknownNameError, match="cvae-online"):
        anonymizers.get("cvae", online=True)


@pytest.mark.parametrize(
    ("name", "values", "seed", "release_id"),
    [
        ("identity", {}, 3, "identity"),
        ("ksame", {"k": 5}, 3, "ksame-5"),
        ("ksame", {"k": 5, "per_class": True}, 3, "ksame-5-perclass"),
        ("cvae", {}, 0, "cvae-s0"),
        ("cvae", {"variance": 0.5}, 0, "cvae-var0.5-s0"),
        ("cvae", {"kl_weight": 1.0}, 0, "cvae-kl_weight1-s0"),
        ("cvae-online", {"variance": 2.0}, 1, "cvae-online-var2-s1"),
    ],
)
def test_ids_name_every_setting_that_is_not_the_default(name, values, seed, release_id):
    entry = anonymizers.get(name)
    assert entry.release_id(entry.parse(values), seed) == release_id


@pytest.mark.parametrize(
    ("name", "values", "message"),
    [
        ("ksame", {}, "ksame needs --k"),
        ("ksame", {"k": 1}, "--k 1 is below its minimum, 2"),
        ("cvae", {"variance": -1.0}, "--variance -1.0 is below its minimum, 0"),
        ("cvae", {"variance": float("nan")}, "--variance nan"),
        ("cvae", {"variance": float("inf")}, "--variance inf"),
        ("cvae", {"prior_variance": 0.0}, "must be greater than 0"),
        ("cvae", {"k": 5}, "unknown setting of cvae 'k'"),
    ],
)
def test_settings_that_cannot_be(name, values, message):
    with pytest.raises(InputError, match=message):
        anonymizers.get(name).parse(values)


@pytest.mark.parametrize("entry", ANONYMIZERS.values(), ids=lambda entry: entry.name)
def test_every_entry_has_its_implementation(entry):
    assert callable(entry.implementation.decoder if entry.online else entry.implementation.release)


def test_the_identity_is_the_training_set(digits):
    entry = anonymizers.get("identity")
    released = anonymizers.anonymize(
        entry, entry.parse({}), digits.train, digits.val, seed=0, resources=Resources(CPU)
    )
    assert np.array_equal(released.embeddings, digits.train.embeddings)
    assert released.meta["source"]["train"] == digits.train.fingerprint
    assert released.meta["class_names"] == digits.train.class_names
