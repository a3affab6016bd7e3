"""Of many rows some stand for all: who they are, what that finds, and that it is said."""

import dataclasses
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from src.audit import attacks, copies, fidelity, sampling
from src.audit.sampling import EVERYTHING, Sample
from src.audit.settings import AuditSettings
from src.core import distances
from src.core.errors import InputError
from src.database import EmbeddingSet
from tests.audit.support import CPU, audited, blobs, rows, splits
from tests.support import call

AUDIT = "src.audit.__main__"
MOST = 1000
SOME = AuditSettings(shadows=0, bootstrap=20, most_rows=MOST)
ALL = AuditSettings(shadows=0, bootstrap=20)
DATA = splits(blobs(900, 2), train=2500)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=400), st.integers(1, 2000), st.integers())
def test_at_most_so_many_rows_are_drawn_and_persons_whole(counts, most, seed):
    data = rows(np.zeros(sum(counts)))
    data = dataclasses.replace(data, persons=np.repeat(np.arange(len(counts)), counts))
    chosen = Sample(most, abs(seed)).of(data, "members")
    assert chosen.sum() == len(data) if len(data) <= most else 0 < chosen.sum() <= most
    drawn = np.unique(data.persons[chosen])
    if len(data) > most and len(drawn) > sampling.FEWEST_PERSONS:
        assert chosen.sum() == np.isin(data.persons, drawn).sum()
    assert (chosen == Sample(most, abs(seed)).of(data, "members")).all()


def test_of_few_persons_with_many_rows_rows_are_drawn():
    data = dataclasses.replace(rows(np.zeros(5000)), persons=np.repeat(np.arange(5), 1000))
    chosen = Sample(MOST, 0).of(data, "non-members")
    assert chosen.sum() == MOST
    assert len(np.unique(data.persons[chosen])) == 5


def test_sides_and_seeds_draw_differently_and_evenly():
    data = rows(np.zeros(4000))
    found = [Sample(MOST, seed).of(data, name) for seed, name in ((0, "a"), (0, "b"), (1, "a"))]
    for number, first in enumerate(found):
        assert first.sum() == MOST
        assert 400 < first[:2000].sum() < 600
        for second in found[number + 1 :]:
            assert 150 < (first & second).sum() < 350
    assert sampling.some(data, EVERYTHING.of(data, "a")) is data


def test_it_is_said_of_whom_the_metrics_are():
    released = blobs(1260, 5)
    report = audited(DATA, "ksame", released=released, options=SOME, k=2)
    assert report.sizes == {
        "members": 1000, "non_members": 600, "references": 300,
        "released_rows": 1260, "distinct_released_rows": 1260,
        "all_members": 2500, "drawn_released_rows": 1000,
    }  # fmt: skip
    notes = "\n".join(report.notes)
    assert "1,000 of 2,500 members' rows, drawn at random, are attacked" in notes
    assert "1,000 of 1,260 distinct released rows, drawn at random" in notes
    whole = audited(DATA, "ksame", released=released, options=ALL, k=2)
    assert set(report.sizes) - set(whole.sizes) == {"all_members", "drawn_released_rows"}
    assert "drawn at random" not in "\n".join(whole.notes)


def test_non_members_and_references_are_drawn_too():
    report = audited(splits(blobs(4500, 2), train=300), options=SOME)
    assert (report.sizes["non_members"], report.sizes["references"]) == (1000, 1000)
    assert "1,000 of 3,000 rows of non-members, drawn at random, take part" in report.notes
    assert "1,000 of 1,500 rows of references, drawn at random, take part" in report.notes


def test_persons_are_drawn_with_all_their_rows():
    parts = {"train": 10_000, "val": 20_000, "test": 30_000}
    data = dataclasses.replace(DATA, **{
        name: dataclasses.replace(part, persons=start + np.arange(len(part)) // 3)
        for name, start in parts.items()
        for part in (getattr(DATA, name),)
    })  # fmt: skip
    report = audited(data, "ksame", options=dataclasses.replace(SOME, shadows=2), k=2)
    assert (report.sizes["members"], report.sizes["member_persons"]) == (1000, 334)
    assert (np.bincount(np.arange(2500) // 3)[-1]) == 1  # the last person's
    assert "all those of each person drawn" in "\n".join(report.notes)
    assert report.metrics["shadow_auc"].value.value is not None
    assert report.metrics["reidentification_rank1"].value.value is not None


@pytest.mark.parametrize("name", [pytest.param("identity", marks=pytest.mark.slow), "ksame"])
def test_metrics_of_some_are_near_those_of_all(name):
    settings = {"k": 2} if name == "ksame" else {}
    some, whole = (audited(DATA, name, options=o, **settings).metrics for o in (SOME, ALL))
    assert some["exact_copies"].value == whole["exact_copies"].value
    assert some["frechet_distance"].value == whole["frechet_distance"].value
    for key in ("nearest_auc", "calibrated_auc", "copying_share", "coverage", "near_copies",
                "close_copies", "linkability", "values_auc", "shape_auc"):  # fmt: skip
        assert some[key].value.value == pytest.approx(whole[key].value.value, abs=0.05), key
    density = [metrics["density"].value.value for metrics in (some, whole)]
    assert density[0] == pytest.approx(density[1], rel=0.1)


def test_the_sampled_shadow_attack_asks_the_same():
    options = dataclasses.replace(SOME, shadows=4)
    report = audited(DATA, "ksame", options=options, k=2)
    assert report.summary.leak is True
    assert report.metrics["shadow_auc"].value.low > 0.6
    assert audited(DATA, "gaussian", options=options).summary.leak is not True


@pytest.fixture
def few_copies():
    """4,000 harmless rows, and three training rows among them that the sample does not hold."""
    draws, numbers = blobs(4000, 7), [5, 600, 1700]
    x, labels = draws.embeddings.copy(), draws.labels.copy()
    outside = np.flatnonzero(~Sample(MOST, 0).of(draws, "released"))[[3, 500, 900]]
    x[outside], labels[outside] = DATA.train.embeddings[numbers], DATA.train.labels[numbers]
    return EmbeddingSet(x, labels), outside, numbers


def test_exact_copies_are_found_among_all_rows(few_copies):
    released, outside, numbers = few_copies
    report = audited(DATA, "gaussian", released=released, options=SOME)
    assert report.summary.leak is True
    assert list(report.proof.released) == list(outside)
    assert list(report.proof.real) == numbers
    assert report.metrics["exact_copies"].value.value == 3 / 4000
    assert report.proof.share.value == 3 / 4000
    assert "at least 3 of 4,000 released rows are copies" in report.summary.said[0]


def test_they_would_be_missed_in_the_sample_alone(few_copies, monkeypatch):
    monkeypatch.setattr(copies, "_exact", lambda release, real, drawn, sample: drawn)
    report = audited(DATA, "gaussian", released=few_copies[0], options=SOME)
    assert not len(report.proof.released)


def test_harmless_rows_are_called_no_copies():
    for seed in range(10):
        found = copies.search(
            blobs(3000, seed + 20, dim=4), blobs(3000, seed, dim=4), blobs(300, 90 + seed, dim=4),
            CPU, sample=Sample(MOST, seed),
        )  # fmt: skip
        assert (len(found.released), found.sampled, found.rows) == (0, 1000, 3000)


def products(monkeypatch, options):
    """The sizes of all products of two sets of rows in an audit without shadows."""
    monkeypatch.setattr(copies, "MOST_ROWS", MOST)
    sizes, real = [], (distances.nearest, fidelity._balls)

    def nearest(queries, references, k=1):
        sizes.append((len(queries), len(references)))
        return real[0](queries, references, k)

    def balls(centres, radii, points):
        sizes.append((len(centres), len(points)))
        return real[1](centres, radii, points)

    with monkeypatch.context() as patched:
        patched.setattr(distances, "nearest", nearest)
        patched.setattr(fidelity, "_balls", balls)
        audited(splits(blobs(600, 2), train=6000), "ksame", options=options, k=2)
    return sizes


@pytest.mark.slow
def test_no_product_grows_with_the_square_of_the_rows(monkeypatch):
    some = products(monkeypatch, SOME)
    assert max(min(size) for size in some) <= 2000  # the shapes are there twice, also mirrored
    whole = products(monkeypatch, ALL)
    assert max(min(size) for size in whole) >= 3000


def test_balls_of_some_rows_stand_for_all_by_hand(monkeypatch):
    monkeypatch.setattr(fidelity, "NEIGHBOURS", 2)
    truth = rows([0, 1, 3, 100, 101, 103, 7], [0, 0, 0, 1, 1, 1, 2])  # radii 3 2 3, 3 2 3, none
    centres = attacks.subset(truth, np.array([1, 2, 3, 6]))
    found = fidelity.manifold(rows([2.5, 3.5, 1], [0, 0, 1]), truth, CPU, centres)
    assert found.coverage.tolist() == [1, 1, 0]
    assert found.rows.tolist() == [0, 1, 2]
    # 2.5 lies in both balls, each for 3 / 2 rows: 2 · 1.5 / 2; 3.5 in that of 3 alone
    assert found.density.tolist() == [1.5, 0.75, 0]


def test_moments_are_of_evenly_spaced_rows():
    assert attacks.evenly(np.arange(10), 10).tolist() == list(range(10))
    assert attacks.evenly(np.arange(11), 5).tolist() == [0, 3, 6, 9]


def test_equal_rows_have_equal_digests():
    data = rows([0.0, -0.0, 1.0, 1.0], [0, 0, 1, 2])
    assert attacks.copies(data, labels=False).tolist() in ([0, 0, 1, 1], [1, 1, 0, 0])
    assert len(np.unique(attacks.copies(data, labels=True))) == 3
    assert attacks.occurs(rows([-0.0, 5.0]), data).tolist() == [True, False]
    assert attacks.distinct(blobs(20, 0)) is not None


@pytest.mark.parametrize("most", [999, 0, 1.5])
def test_too_few_rows_are_refused(most):
    with pytest.raises(InputError, match="--most_rows"):
        AuditSettings.parse({"most_rows": most}, of="audit")


def test_the_command_says_how_many_were_drawn(roots, tmp_path):
    done = call(
        AUDIT, *roots, "--anonymizer", "Identity", "--seed", 0, "--output_root", tmp_path,
        "--shadows", 0, "--bootstrap", 10, "--most_rows", 1000,
    )  # fmt: skip
    assert done.status == 0, done.err
    said = "1,000 of 1,293 members' rows, drawn at random, are attacked"
    assert said in done.out
    content = json.loads((tmp_path / "digits/pixels/digits_identity-s0_audit.json").read_text())
    assert content["sizes"]["all_members"] == 1293
    assert content["audit"]["most_rows"] == 1000
    done = call(AUDIT, *roots, "--anonymizer", "Identity", "--most_rows", 10)
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "--most_rows" in done.err
