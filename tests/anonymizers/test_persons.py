"""Promises to persons: groups and centroids are of k different ones."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from src.anonymizers import ksame, methods
from src.anonymizers.latent import classifiers
from src.core.devices import Resources
from src.core.errors import InputError
from src.database import EmbeddingSet

CPU = Resources(torch.device("cpu"))
ON_THE_FLY = Resources(torch.device("cpu"), memory=1)


def rows_of(persons, seed=0, dim=3):
    """Rows of which those of one person lie close together, in two classes."""
    persons = np.asarray(persons)
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(persons.max() + 1, dim))
    rows = (centres[persons] + 0.01 * rng.normal(size=(len(persons), dim))).astype(np.float32)
    return EmbeddingSet(rows, persons % 2, persons=persons)


def slow_groups(rows, persons, k):
    """The definition of SPEC 2 and 9 as it is written, in float64."""
    rows, kept = rows.astype(np.float64), list(range(len(rows) // k * k))
    made = []
    while len({persons[i] for i in kept}) >= k:
        distances = np.linalg.norm(rows[kept, None] - rows[None, kept], axis=2)
        seed = kept[int(distances.sum(1).argmax())]
        group, whose = [seed], {persons[seed]}
        for i in sorted(kept, key=lambda i: np.linalg.norm(rows[i] - rows[seed])):
            if len(group) < k and persons[i] not in whose:
                group.append(i)
                whose.add(persons[i])
        made.append(sorted(group))
        kept = [i for i in kept if i not in group]
    return made


def kept(persons, groups, k):
    """Whether every group has k persons, and every person's rows are in different groups."""
    whose = [persons[group].tolist() for group in groups]
    of_k = all(len(set(group)) == k for group in whose)
    return of_k and all(group.count(p) <= 1 for group in whose for p in set(group))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 7), min_size=6, max_size=24), st.integers(2, 4), st.integers(0, 99))
def test_every_group_has_k_persons_and_is_the_one_of_the_definition(persons, k, seed):
    data = rows_of(persons, seed)
    if len(set(persons)) < k:
        with pytest.raises(InputError, match=f"--k {k} is larger than the .* persons? of"):
            ksame.groups(data, k, per_class=False, resources=CPU)
        return
    made = ksame.groups(data, k, per_class=False, resources=CPU)
    assert kept(data.persons, made, k)
    assert made.tolist() == slow_groups(data.embeddings, persons, k)
    np.testing.assert_array_equal(
        made, ksame.groups(data, k, per_class=False, resources=ON_THE_FLY)
    )


@settings(max_examples=20, deadline=None)
@given(st.integers(6, 40), st.integers(2, 5), st.integers(0, 99))
def test_one_row_per_person_gives_the_groups_of_rows(rows, k, seed):
    data = rows_of(np.random.default_rng(seed).permutation(rows), seed)
    by_person = ksame.groups(data, k, per_class=False, resources=CPU)
    by_row = ksame.groups(data.by("row"), k, per_class=False, resources=CPU)
    np.testing.assert_array_equal(by_person, by_row)
    method = methods.KSame(k=k)
    ours, theirs = (
        method.anonymize(part, data, seed=0, resources=CPU) for part in (data, data.by("row"))
    )
    assert ours.fingerprint == theirs.fingerprint
    assert ours.meta["facts"] == theirs.meta["facts"]


def test_grouping_by_row_puts_one_person_into_a_group():
    """The broken version: five equal rows of one person are a group of five, which is them."""
    data = rows_of(np.repeat(np.arange(8), 5))
    groups = ksame.groups(data.by("row"), 5, per_class=False, resources=CPU)
    assert min(len(set(data.persons[group])) for group in groups) == 1
    groups = ksame.groups(data, 5, per_class=False, resources=CPU)
    assert min(len(set(data.persons[group])) for group in groups) == 5


def test_the_promise_is_checked_by_tests_that_fail_without_it(monkeypatch):
    """The broken version: persons are given, and groups are made by row."""
    data = rows_of(np.repeat(np.arange(8), 5))
    assert kept(data.persons, ksame.groups(data, 5, per_class=False, resources=CPU), 5)
    monkeypatch.setattr(ksame, "_shared", lambda persons: False)
    assert not kept(data.persons, ksame.groups(data, 5, per_class=False, resources=CPU), 5)


def test_what_forms_no_group_is_dropped_and_counted_by_class():
    data = rows_of([0, 0, 0, 0, 0, 0, 1, 3])  # persons 1 and 3 are of class 1
    released = methods.KSame(k=2).anonymize(data, data, seed=0, resources=CPU)
    groups = len(slow_groups(data.embeddings, data.persons, 2))
    assert released.meta["facts"] == {
        "groups": groups,
        "dropped_rows": 8 - 2 * groups,
        "dropped_by_class": {"0": 8 - 2 * groups},
    }
    assert released.meta["unit"] == "person"
    assert released.persons is None


@pytest.mark.parametrize(
    ("persons", "unit", "meant"),
    [(True, None, "person"), (True, "row", "row"), (False, None, "row"), (False, "row", "row")],
)
def test_the_unit_is_the_person_where_known(persons, unit, meant):
    data = rows_of(np.repeat(np.arange(10), 2))
    data = data if persons else data.by("row")
    method = methods.KSame(k=2, unit=unit)
    assert method.anonymize(data, data, seed=0, resources=CPU).meta["unit"] == meant
    assert method.release_id(0) == ("ksame-2-unitrow" if unit else "ksame-2")


def test_a_release_to_rows_is_not_the_one_to_persons_that_is_wanted_now():
    """What a sweep compares: made before persons were known, a release is made again."""
    data = rows_of(np.repeat(np.arange(10), 2))
    method = methods.KSame(k=2)
    before = method.anonymize(data.by("row"), data, seed=0, resources=CPU)
    wanted = method.origin(data, data, seed=0)
    assert not wanted.items() <= before.meta.items()
    assert wanted.items() <= method.anonymize(data, data, seed=0, resources=CPU).meta.items()


def test_persons_that_are_asked_for_must_be_known():
    data = rows_of(np.arange(10)).by("row")
    with pytest.raises(InputError, match="--unit person: the embeddings do not say whose"):
        methods.KSame(k=2, unit="person").anonymize(data, data, seed=0, resources=CPU)


def test_an_unknown_unit_is_named():
    with pytest.raises(InputError, match="unknown unit 'patient'"):
        methods.KSame(k=2, unit="patient")


def test_an_identity_of_plan_is_a_person():
    data = rows_of(np.repeat(np.arange(12), 3), dim=8)
    model = classifiers.fit_identity(data, jitter=0.1, seed=0, resources=CPU)
    assert model.outputs == 12
    assert classifiers.identity_accuracy(model, data, jitter=0.1, seed=0) > 0.9
    alone = classifiers.fit_identity(data.by("row"), jitter=0.1, seed=0, resources=CPU)
    assert alone.outputs == 36


@pytest.mark.parametrize("broken", [False, True], ids=["whole", "broken"])
@pytest.mark.parametrize("name", ["latent-ksame", "latent-linear", "plan"])
def test_latent_centroids_are_of_k_persons(name, broken, monkeypatch):
    """The broken version makes the groups by row."""
    data = rows_of(np.repeat(np.arange(24), 3), dim=6)
    seen = []
    if broken:
        monkeypatch.setattr(ksame, "_shared", lambda persons: False)
    original = ksame.group

    def noted(rows, persons=None, **settings):
        groups = original(rows, persons, **settings)
        seen.extend(len(set(persons[group])) for group in groups)
        return groups

    monkeypatch.setattr(ksame, "group", noted)
    values = {"k": 3, "num_epochs": 2} | ({"path_steps": 2} if name == "plan" else {})
    released = methods.parse(name, values).anonymize(data, data, seed=0, resources=CPU)
    assert (set(seen) == {3}) == (not broken)
    assert released.meta["unit"] == "person"
