"""The ledger: what private releases of a dataset spend together, and a budget that holds."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.anonymizers.dp import analytic, ledger
from src.anonymizers.dp.ledger import Entry, Ledger, composed
from src.core.errors import DataError, InputError
from src.database import Database
from tests.support import call, files_below

PRIVATE = ["--anonymizer", "dpgaussian", "--epsilon", "1"]


def entry(number, epsilon=1.0, delta=1e-5, noise=None):
    return Entry(f"r{number}", "pixels", "row", epsilon, delta, noise, f"{number:x}")


@pytest.fixture
def anonymize(roots, tmp_path):
    """Anonymize the digits, with the keys of this test."""

    def run(*argv, ckpt="ckpts"):
        return call("anonymize", *roots, "--ckpt_root", tmp_path / ckpt, *argv)

    return run


def entries(database):
    return ledger.read(database.root / "digits" / ledger.NAME).releases


def test_releases_of_other_methods_add_up():
    assert composed([]) == (0, 0)
    assert composed([entry(0, 1.5), entry(1, 2.0, 1e-6)]) == (3.5, pytest.approx(1.1e-5))


def test_gaussian_mechanisms_are_composed_as_one():
    # two of noise σ are one of σ/√2; beside them another method adds its ε
    noise = analytic.noise_multiplier(1.0, 1e-5)
    both = [entry(0, noise=noise), entry(1, noise=noise)]
    expected = analytic.epsilon(noise / 2**0.5, 2e-5)
    assert 1.3 < expected < 1.5
    assert composed(both) == (pytest.approx(expected), 2e-5)
    assert composed([*both, entry(2, 3.0)])[0] == pytest.approx(expected + 3)


@given(st.lists(st.floats(0.05, 20), min_size=1, max_size=6))
def test_together_costs_no_more_than_the_sum_and_no_less_than_each(epsilons):
    made = [
        entry(i, epsilon, noise=analytic.noise_multiplier(epsilon, 1e-5))
        for i, epsilon in enumerate(epsilons)
    ]
    spent, delta = composed(made)
    assert spent <= sum(epsilons) * (1 + 1e-9)
    # at the larger δ of all together one alone may cost a little less than at its own
    assert spent >= max(analytic.epsilon(e.noise_multiplier, delta) for e in made) * (1 - 1e-9)


def test_a_release_above_the_budget_is_refused_and_one_made_again_costs_nothing():
    kept = Ledger((entry(0), entry(1)), budget=2.5)
    assert kept.spending(entry(1)) is kept
    with pytest.raises(InputError, match=r"r2 would bring .* from epsilon 2 to 3 .* of 2.5"):
        kept.spending(entry(2))
    assert len(Ledger(kept.releases).spending(entry(2)).releases) == 3


def test_every_private_release_is_entered_once(database, anonymize):
    for seed, known in ((0, 1), (1, 2), (0, 2)):
        done = anonymize(*PRIVATE, "--seed", seed)
        assert done.status == 0, done.err
        assert len(entries(database)) == known
    assert anonymize("--anonymizer", "kSAME", "--k", "5").status == 0
    first, second = entries(database)
    assert (first.release, first.epsilon, first.delta) == ("dpgaussian-eps1-s0", 1, 1e-5)
    assert first.identity != second.identity
    # another key is other noise: whoever has both releases has more
    assert anonymize(*PRIVATE, "--seed", 0, ckpt="elsewhere").status == 0
    assert len(entries(database)) == 3


def test_other_backbones_of_a_dataset_count_and_other_datasets_do_not(database, digits, anonymize):
    for name, backbone in (("digits", "other"), ("others", "pixels")):
        for split in ("train", "val", "test"):
            Database(database.root, name, backbone).write(split, getattr(digits, split))
    for split in ("train", "val", "test"):
        path = database.root / "digits" / "other" / f"{split}.npz"
        plain = np.load(path)
        np.savez(path, embeddings=plain["embeddings"], labels=plain["labels"])
    assert anonymize(*PRIVATE).status == 0
    assert anonymize(*PRIVATE, "--backbone", "other").status == 0
    assert anonymize(*PRIVATE, "--dataset", "others").status == 0
    assert [known.backbone for known in entries(database)] == ["pixels", "other"]


def test_a_budget_is_kept_and_refuses_before_anything_is_made(database, anonymize, monkeypatch):
    assert anonymize(*PRIVATE, "--seed", 0, "--budget", 1.2).status == 0
    before = files_below(database.root)
    monkeypatch.setattr("src.anonymizers.dp.dpgaussian.fit", lambda *_, **__: pytest.fail("made"))
    done = anonymize(*PRIVATE, "--seed", 1)
    assert done.status == 2
    assert done.err.startswith("error: dpgaussian-eps1-s1 would bring")
    assert len(done.err.splitlines()) == 1
    assert files_below(database.root) == before


def test_a_release_that_cannot_be_made_is_taken_back(database, anonymize, monkeypatch):
    def fails(*_, **__):
        raise InputError("no room")

    monkeypatch.setattr("src.anonymizers.dp.dpgaussian.fit", fails)
    assert anonymize(*PRIVATE).status == 2
    assert entries(database) == ()


def test_without_taking_entries_down_no_budget_would_hold(database, anonymize, monkeypatch):
    """The broken version: whatever is released, nothing is known to be spent."""
    monkeypatch.setattr(ledger, "write", lambda path, kept: None)
    for seed in range(2):
        assert anonymize(*PRIVATE, "--seed", seed, "--budget", 1.2).status == 0
    assert entries(database) == ()


@pytest.mark.parametrize(
    "content",
    ["[]", "{}", '{"format": 1, "budget": null, "releases": [{}]}', "not JSON"],
)
def test_a_damaged_ledger_is_an_error(database, anonymize, content):
    path = database.root / "digits" / ledger.NAME
    path.write_text(content)
    done = anonymize(*PRIVATE)
    assert done.status == 2
    assert str(path) in done.err
    with pytest.raises(DataError):
        ledger.read(path)
    assert path.read_text() == content


@pytest.mark.parametrize("value", ["0", "-1", "nan", "much"])
def test_a_budget_is_above_zero(anonymize, value):
    assert anonymize(*PRIVATE, "--budget", value).status == 2


def test_a_budget_has_no_effect_without_a_guarantee(anonymize):
    done = anonymize("--anonymizer", "kSAME", "--k", "5", "--budget", "1")
    assert "no effect" in done.err
    assert done.status == 2


def test_nothing_in_it_can_be_tried_against_rows(database, anonymize):
    """With the rows and all settings, but without the key, no identity can be computed again."""
    assert anonymize(*PRIVATE).status == 0
    assert anonymize(*PRIVATE, ckpt="elsewhere").status == 0
    first, second = entries(database)
    assert first.identity != second.identity
    kept = json.loads((database.root / "digits" / ledger.NAME).read_text())
    assert set(kept["releases"][0]) == {
        "release", "backbone", "unit", "epsilon", "delta", "noise_multiplier", "identity",
    }  # fmt: skip
