"""Guarantees to persons: neighbours differ in all rows of one, and everything counts persons."""

import numpy as np
import pytest
import torch

from src.anonymizers import methods
from src.anonymizers.dp import budgets, dpcvae, keys, sums
from src.core.errors import InputError
from src.database import EmbeddingSet
from tests.anonymizers.dp.support import CPU, google_epsilon, mechanisms
from tests.support import call

VALUES = {
    "dpgaussian": {"epsilon": 2.0},
    "dpcvae": {"epsilon": 2.0, "epochs": 1, "sampling_rate": 1.0, "hidden_dim": 8},
}


def people(persons, dim=6, seed=0, **meta):
    persons = np.asarray(persons)
    rng = np.random.default_rng(seed)
    rows = rng.normal(size=(len(persons), dim)).astype(np.float32)
    return EmbeddingSet(rows, persons % 2, meta, persons)


def release(name, data, *, seed=0, **values):
    method = methods.parse(name, {**VALUES[name], **values})
    return method.anonymize(data, data, seed=seed, resources=CPU)


@pytest.mark.parametrize("name", VALUES)
def test_the_unit_is_the_person_where_known(name):
    data = people(np.repeat(np.arange(40), 5))
    released = release(name, data)
    facts = released.meta["facts"]
    assert released.meta["unit"] == "person"
    assert facts["neighbours"] == "one person, with all rows of theirs, added or removed"
    assert "number of digits of the number of persons" in facts["public"]
    assert facts["delta"] == 1e-3  # of 40 persons, not 200 rows
    assert len(released) < 100  # as many rows as persons, up to noise
    by_row = release(name, data, unit="row")
    assert by_row.meta["unit"] == "row"
    assert by_row.meta["facts"]["neighbours"] == "one row added or removed"
    assert by_row.meta["facts"]["delta"] == 1e-4
    assert 100 < len(by_row) < 300
    assert released.persons is by_row.persons is None


def test_what_the_counts_are_of():
    data = people(np.repeat(np.arange(40), 5))
    assert release("dpgaussian", data).meta["facts"]["counts_are_of"] == "persons"
    assert release("dpgaussian", data, unit="row").meta["facts"]["counts_are_of"] == "rows"


@pytest.mark.parametrize("name", VALUES)
def test_one_row_each_gives_the_bytes_of_rows(name):
    data = people(np.random.default_rng(0).permutation(60))
    by_person, by_row, without = (
        release(name, data, seed=3),
        release(name, data, seed=3, unit="row"),
        release(name, data.by("row"), seed=3),
    )
    if name == "dpcvae":
        assert by_person.fingerprint == by_row.fingerprint
    assert by_person.fingerprint == without.fingerprint
    assert by_person.meta["facts"]["neighbours"] != without.meta["facts"]["neighbours"]


@pytest.mark.parametrize("name", VALUES)
def test_the_unit_person_needs_persons(name):
    with pytest.raises(InputError, match="--unit person: the embeddings do not say whose"):
        release(name, people([0, 1, 2]).by("row"), unit="person")


@pytest.mark.parametrize("name", VALUES)
def test_delta_is_below_one_over_the_number_of_persons(name):
    data = people(np.repeat(np.arange(40), 5))
    with pytest.raises(InputError, match=r"at most 0.01 for a number of persons of 2 digits"):
        release(name, data, delta=0.02)
    assert release(name, data, delta=0.01).meta["facts"]["delta"] == 0.01
    with pytest.raises(InputError, match=r"at most 0.001 for a number of rows of 3 digits"):
        release(name, data, delta=0.01, unit="row")


def test_persons_are_part_of_what_noise_depends_on_whatever_they_are_called():
    data = people(np.repeat(np.arange(20), 3))
    other = people(np.repeat(np.arange(20), 3))
    renamed = EmbeddingSet(other.embeddings, other.labels, other.meta, 100 - other.persons)
    swapped = EmbeddingSet(other.embeddings, other.labels, other.meta, np.roll(other.persons, 1))
    assert keys.identity(data) == keys.identity(renamed)
    assert keys.identity(data) != keys.identity(swapped)
    assert "persons" not in keys.identity(data.by("row"))
    for name in VALUES:
        assert release(name, data).fingerprint == release(name, renamed).fingerprint
        assert release(name, data).fingerprint != release(name, swapped).fingerprint


def test_by_person_is_as_private_by_another_accountant():
    facts = release("dpcvae", people(np.repeat(np.arange(40), 5)), epochs=2).meta["facts"]
    other = google_epsilon(*mechanisms(facts), delta=facts["delta"])
    assert 0 <= facts["epsilon"] - other < 0.02


# DP-SGD: of each drawn person one row.


def data_of(persons):
    data = people(persons)
    x = torch.arange(float(len(persons)))[:, None]
    return dpcvae.Data(x, x, dpcvae.Persons.of(data.persons, torch.device("cpu")))


def test_a_sample_has_one_row_of_each_drawn_person():
    persons = np.array([4, 0, 4, 4, 2, 0, 9, 4])
    data, generator = data_of(persons), torch.Generator().manual_seed(0)
    seen = np.zeros(len(persons))
    sizes = []
    for _ in range(4000):
        rows = data.drawn(0.5, generator)[0][:, 0].long().numpy()
        assert len(np.unique(persons[rows])) == len(rows)
        seen[rows] += 1
        sizes.append(len(rows))
    assert np.mean(sizes) == pytest.approx(4 * 0.5, rel=0.05)
    want = 0.5 / np.array([(persons == p).sum() for p in persons])
    np.testing.assert_allclose(seen / 4000, want, atol=0.03)
    assert len(data.drawn(1.0, generator)[0]) == 4


def test_persons_of_one_row_draw_as_rows_do():
    one, two = data_of(np.arange(9)), data_of(np.arange(9))._replace(persons=None)
    assert one.persons is None
    for data in (one, two):
        generator = torch.Generator().manual_seed(5)
        drawn = torch.rand(9, generator=generator, dtype=torch.float64) < 0.4
        generator = torch.Generator().manual_seed(5)
        assert torch.equal(data.drawn(0.4, generator)[0], data.x[drawn])


def test_a_person_of_fifty_rows_moves_a_sum_of_gradients_by_at_most_one(monkeypatch):
    """And with rows drawn one by one, as for a promise to rows, it does not hold."""
    persons = np.r_[np.arange(20), np.full(50, 20)]
    data = people(persons)
    settings = methods.DPCVAE(epsilon=1.0, max_grad_norm=1e-3, hidden_dim=8, latent_dim=2)
    totals = []
    monkeypatch.setattr(
        dpcvae.sums, "add_noise", lambda total, *_: totals.append(total.clone()) or total
    )

    def gradients(by):
        rows = data if by == "person" else data.by("row")
        x = torch.from_numpy(rows.embeddings).sigmoid()
        y = torch.nn.functional.one_hot(torch.from_numpy(rows.labels), 2).float()
        whose = dpcvae.Persons.of(rows.persons, torch.device("cpu"))
        found = []
        for some in (slice(0, 20), slice(0, 70)):
            kept = rows if some.stop == 70 else None
            part = dpcvae.Data(x[some], y[some], whose if kept is not None else None)
            torch.manual_seed(0)
            model = dpcvae.CVAE(6, 2, 8, 2)
            model.decoder.class_weights.copy_(y.sum(0))
            totals.clear()
            budget = budgets.Budget(budgets.Mechanism(9.0), None, budgets.Mechanism(1.0, 1.0, 1))
            with monkeypatch.context() as patch:
                patch.setattr(torch, "randn", lambda *shape, **_: torch.zeros(*shape))
                dpcvae._train(model, part, settings, budget, torch.Generator())
            found.append(torch.cat([total.flatten() for total in totals]))
        return float((found[1] - found[0]).norm())

    assert 0.9 < gradients("person") <= 1 + 1e-5
    assert gradients("row") > 10


# The other sums of dpcvae.


def test_a_person_of_fifty_rows_moves_counts_and_bounds_by_at_most_one():
    rows = torch.randn(70, 4, generator=torch.Generator().manual_seed(0))
    weights = torch.cat([torch.ones(20), torch.full((50,), 1 / 50)])

    def moved(w):
        less, more = (
            sums.noisy_sum(rows[:n], 0.0, torch.Generator(), None if w is None else w[:n])
            for n in (20, 70)
        )
        return float((more - less).norm())

    rows[20:] = torch.tensor([3.0, 4, 0, 0])
    assert moved(weights) == pytest.approx(1)
    assert moved(None) == pytest.approx(50)


def test_private_bounds_weigh_persons():
    """Of 300 persons at 0 and one with 3,000 rows at 100 the mean is near 0."""
    rows = torch.cat([torch.randn(300, 2), torch.full((3000, 2), 100.0)])
    weights = torch.cat([torch.ones(300), torch.full((3000,), 1 / 3000)])
    generator = torch.Generator().manual_seed(0)
    low, high = sums.private_bounds(rows, 301.0, 0.01, generator, weights)
    assert (low > -20).all()
    assert (high < 20).all()
    assert (low < 0).all()
    assert (high > 0).all()


# At the command line.


@pytest.mark.parametrize("name", VALUES)
def test_the_scripts_say_the_unit(name, tmp_path):
    from src.database import Database, read

    database = Database(tmp_path / "db", "people", "up")
    for split, first in (("train", 0), ("val", 100), ("test", 200)):
        database.write(split, people(first + np.repeat(np.arange(30), 3), seed=first))
    flags = ["--dataset", "people", "--backbone", "up", "--database_root", database.root,
             "--ckpt_root", tmp_path / "c", "--device", "cpu", "--anonymizer", name,
             "--epsilon", 2, "--seed", 0]  # fmt: skip
    short = {
        "dpcvae": ("-epochs1-sampling_rate1", "--epochs", 1, "--sampling_rate", 1),
        "dpgaussian": ("",),
    }[name]
    for more, tag in (((), ""), (("--unit", "row"), "-unitrow")):
        release_id = f"{name}-eps2{tag}{short[0]}-s0"
        done = call("anonymize", *flags, *more, *short[1:])
        assert done.status == 0, done.err
        unit = "row" if more else "person"
        assert f'"neighbours": "one {unit}' in done.out
        assert read(database.path("train", release_id)).meta["unit"] == unit
