"""The rule that recommends a release: cases by hand, and what it never does."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.core.errors import InputError
from src.report import recommendation
from src.report.recommendation import Candidate, Promise, Thresholds, choose, objections, rule
from src.report.spread import below

DEFAULTS = Thresholds()
CLEAN = Candidate(name="clean", aucs=(98.0, 98.1, 98.2), leak=False, attack=0.55)
LEAKY = Candidate(name="leaky", aucs=(99.7, 99.8, 99.9), leak=True, attack=0.9)
PRIVATE = Candidate(
    name="private",
    aucs=(95.0, 95.2, 95.4),
    promise=Promise(1, 1e-5, "row"),
    leak=False,
    attack=0.52,
)


def change(candidate, **changes):
    return dataclasses.replace(candidate, **changes)


def chosen(*candidates, **thresholds):
    found = choose(candidates, Thresholds(**thresholds)).chosen
    return found.name if found else None


# Cases by hand.


def test_the_most_useful_of_those_that_qualify():
    assert chosen(LEAKY, CLEAN, PRIVATE) == "clean"
    choice = choose([LEAKY, CLEAN, PRIVATE], DEFAULTS)
    assert [c.name for c in choice.eligible] == ["clean", "private"]
    assert [c.name for c in choice.tied] == ["clean"]


def test_ties_go_to_the_stronger_promise():
    near = change(PRIVATE, aucs=(97.0, 98.0, 99.2))  # not significantly below CLEAN
    nearer = change(near, name="weaker", promise=Promise(8, 1e-5, "row"), aucs=(97.5, 98.1, 99.2))
    assert chosen(CLEAN, nearer, near) == "private"
    assert chosen(CLEAN, nearer) == "weaker"
    groups = change(CLEAN, name="groups", groups=5, aucs=(97.9, 98.0, 98.1))
    assert chosen(CLEAN, groups, change(groups, name="larger", groups=10)) == "larger"
    assert chosen(CLEAN, groups, near) == "private"


@pytest.mark.parametrize(
    ("candidate", "why"),
    [
        (LEAKY, "an audit found a leak"),
        (change(PRIVATE, leak=True), "an audit found a leak"),
        (change(PRIVATE, contradicted=True), "contradicts its promise"),
        (change(CLEAN, leak=None), "no guarantee, and no audit denies a leak"),
        (
            change(PRIVATE, leak=None, promise=Promise(11, None, "row")),
            "ε = 11 does not count as a guarantee (--max_epsilon 10)",
        ),
        (change(CLEAN, proven=0.1), "it has no guarantee, and one run proves a leak"),
        (change(CLEAN, obstacle="these are the real rows"), "these are the real rows"),
    ],
)
def test_what_does_not_qualify(candidate, why):
    assert chosen(candidate) is None
    assert why in " ".join(objections(candidate, DEFAULTS))


def test_a_guarantee_needs_no_audit():
    assert chosen(change(PRIVATE, leak=None, attack=None)) == "private"


def test_a_guarantee_allows_what_it_says():
    assert chosen(change(PRIVATE, proven=0.9)) == "private"
    assert chosen(change(PRIVATE, proven=0.9), max_epsilon=0.5) is None


def test_thresholds_by_hand():
    assert chosen(CLEAN, PRIVATE, max_attack=0.53) == "private"
    assert chosen(CLEAN, PRIVATE, max_attack=0.55) == "clean"
    assert chosen(CLEAN, PRIVATE, min_auc=98.1) == "clean"
    assert chosen(CLEAN, PRIVATE, min_auc=98.2) is None
    unmeasured = change(PRIVATE, leak=None, attack=None)
    assert chosen(unmeasured, max_attack=0.9) is None
    assert chosen(unmeasured, max_epsilon=1) == "private"
    assert chosen(unmeasured, max_epsilon=0.5) is None
    assert chosen(PRIVATE, max_epsilon=0.5) == "private"  # without a leak it needs no guarantee


def test_one_seed_makes_no_ties():
    one = change(PRIVATE, aucs=(97.99,))
    assert chosen(change(CLEAN, aucs=(98.0,)), one) == "clean"


def test_the_rule_names_its_thresholds():
    assert "ε ≤ 10 (--max_epsilon)" in rule(DEFAULTS)[0]
    assert "--max_attack" not in " ".join(rule(DEFAULTS))
    strict = " ".join(rule(Thresholds(max_attack=0.6, max_epsilon=2, min_auc=90)))
    for part in ("ε ≤ 2 (", "within 0.6 (--max_attack)", "at least 90 % (--min_auc)"):
        assert part in strict


@pytest.mark.parametrize(
    "given", [{"max_attack": 0.4}, {"max_attack": 1.1}, {"max_epsilon": 0}, {"min_auc": 101}]
)
def test_thresholds_out_of_range(given):
    with pytest.raises(InputError, match=f"--{next(iter(given))}"):
        Thresholds(**given)


# What holds for all candidates.

promises = st.builds(Promise, st.floats(0.1, 30), st.none(), st.sampled_from(["person", "row"]))
candidates = st.builds(
    Candidate,
    name=st.text("abc", min_size=1, max_size=3),
    obstacle=st.sampled_from(["", "", "", "it has no results"]),
    aucs=st.lists(st.integers(800, 1000).map(lambda n: n / 10), min_size=3, max_size=3).map(tuple),
    promise=st.none() | promises,
    contradicted=st.sampled_from([False, False, True]),
    groups=st.sampled_from([0, 5, 10]),
    leak=st.sampled_from([True, False, None]),
    proven=st.sampled_from([0, 0, 0.1]),
    attack=st.none() | st.floats(0.5, 1),
)
several = st.lists(candidates, max_size=6)
limits = st.builds(
    Thresholds,
    max_attack=st.none() | st.floats(0.5, 1),
    max_epsilon=st.floats(0.1, 30),
    min_auc=st.none() | st.floats(80, 100),
)


def check(found, thresholds):
    """All that a recommendation promises."""
    choice = recommendation.choose(found, thresholds)
    if choice.chosen is None:
        assert all(objections(c, thresholds) for c in found)
        return
    best = choice.chosen
    assert best in found
    assert best.leak is not True
    assert not best.obstacle
    assert not best.contradicted
    private = best.promise is not None and best.promise.epsilon <= thresholds.max_epsilon
    assert private or (best.leak is False and not best.proven)
    assert best.auc >= (thresholds.min_auc or 0)
    assert thresholds.max_attack is None or best.attack <= thresholds.max_attack
    for other in choice.eligible:
        assert not below(best.aucs, choice.best.aucs)
        if not below(other.aucs, choice.best.aucs):
            assert best.epsilon(thresholds) <= other.epsilon(thresholds)


@given(several, limits)
def test_it_never_recommends_what_it_must_not(found, thresholds):
    check(found, thresholds)


@pytest.mark.parametrize("forgotten", ["leak", "contradicted", "obstacle", "proven"])
def test_a_rule_that_forgets_something_is_caught(forgotten, monkeypatch):
    blind = {"leak": False, "contradicted": False, "obstacle": "", "proven": 0.0}[forgotten]
    original = recommendation.objections

    def careless(candidate, thresholds):
        return original(dataclasses.replace(candidate, **{forgotten: blind}), thresholds)

    monkeypatch.setattr(recommendation, "objections", careless)
    bad = {"leak": LEAKY, "contradicted": change(CLEAN, contradicted=True)}
    bad["proven"] = change(CLEAN, proven=0.1)
    with pytest.raises(AssertionError):
        check([bad.get(forgotten, change(CLEAN, obstacle="these are the real rows"))], DEFAULTS)


@given(several, limits, limits)
def test_looser_thresholds_keep_all_that_qualifies(found, one, other):
    def looser(name, pick):
        a, b = getattr(one, name), getattr(other, name)
        return None if None in (a, b) else pick(a, b)

    loose = Thresholds(
        max_attack=looser("max_attack", max),
        max_epsilon=max(one.max_epsilon, other.max_epsilon),
        min_auc=looser("min_auc", min),
    )
    before, after = choose(found, one), choose(found, loose)
    assert {*before.eligible} <= {*after.eligible}
    if before.best:
        assert after.best.auc >= before.best.auc


@given(several, limits)
def test_a_release_that_does_not_qualify_changes_nothing(found, thresholds):
    assert choose([*found, LEAKY], thresholds) == choose(found, thresholds)
    assert math.isinf(LEAKY.epsilon(thresholds))
