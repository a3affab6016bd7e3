"""What a release promises follows from its numbers, and numbers that contradict are refused."""

import json
from dataclasses import asdict

import numpy as np
import pytest

from src.anonymizers import methods
from src.anonymizers.base import ordered
from src.anonymizers.dp import accounting
from src.bundle import contents, datasheet, decoders, guarantees, privacy
from src.core.errors import DataError, MissingPackageError
from src.database import EmbeddingSet, read
from src.networks.cvae import Decoder
from tests.bundle.support import (
    bundle,
    contents_of,
    recompose,
    refused,
    rewrite,
    sum_up,
    with_rows,
)


def forged(folder, *, settings=(), text=None, **facts):
    """A bundle whose numbers are others wherever they stand, with sums and sentences that fit."""
    rows = read(folder / "train.npz")
    changed = {
        "facts": {**rows.meta["facts"], **facts},
        "settings": {**rows.meta["settings"], **dict(settings)},
    }
    with_rows(folder, **changed)
    sheet = json.loads((folder / "datasheet.json").read_text())
    anonymizer = methods.parse(sheet["anonymizer"], changed["settings"])
    sentence = text or sheet["guarantee"]
    recompose(folder, release=anonymizer.release_id(sheet["seed"] or 0), guarantee=sentence)


def test_a_guarantee_that_was_replaced_in_both_files(copy):
    sheet = json.loads((copy / "datasheet.json").read_text())
    text = sheet["guarantee"]
    rewrite(copy, {"guarantee": text.replace("1e-05", "1e-09")})
    sum_up(copy)
    refused(copy, "'guarantee' does not match")
    rewrite(copy, {"guarantee": "(0.1, 1e-09)-differential privacy of the training rows."})
    sum_up(copy)
    refused(copy, "'guarantee' does not match")


@pytest.mark.parametrize("key", ["shown", "stated"])
def test_what_is_shown_and_what_is_stated_is_not_a_matter_of_taste(copy, key):
    sheet = json.loads((copy / "datasheet.json").read_text())
    rewrite(copy, {"shown": sheet["shown"] + sheet["stated"], "stated": []})
    sum_up(copy)
    refused(copy, "'shown' does not match")


def part(rows, name, **changes):
    budget = rows.meta["facts"]["budget"]
    return {**budget, name: {**budget[name], **changes}}


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"epsilon": 2.5}, "states epsilon 2.5, more than the 2.0 allowed"),
        ({"epsilon": True}, "states epsilon True"),
        ({"epsilon": "2"}, "states epsilon '2'"),
        ({"epsilon": -1.0}, "states epsilon -1.0"),
        ({"delta": 3e-6}, "which is not a power of ten"),
        ({"delta": 1}, "which is not a power of ten"),
        ({"neighbours": "one row replaced"}, "states neighbours 'one row replaced', but"),
        ({"sampling_rate": 0.1}, "states sampling_rate 0.1, but its settings give 0.25"),
        ({"steps": 7}, "states steps 7, but its settings give 8"),
        ({"steps": 8.0}, "states steps 8.0, but its settings give 8"),
        ({"max_grad_norm": 1.0}, "states max_grad_norm 1.0, but"),
        ({"validation_rows": "used"}, "states validation_rows 'used'"),
        ({"accountant": "PRV, upper bound (opacus 1). Safe!"}, "states an unknown accountant"),
        ({"noise": "a true random source"}, "states an unknown source of noise"),
        ({"noise_multiplier": 5.0}, "states noise_multiplier 5.0, but its budget"),
        ({"budget": {}}, "has no budget of class_counts, scaling, gradients"),
        ({"budget": None}, "has no budget of class_counts"),
    ],
)
def test_facts_that_contradict_the_settings(copy, facts, message):
    forged(copy, **facts)
    refused(copy, message)


@pytest.mark.parametrize("name", privacy.FACTS)
def test_a_guarantee_is_stated_whole_or_not_at_all(copy, name):
    facts = read(copy / "train.npz").meta["facts"]
    del facts[name]
    with_rows(copy, facts=facts)
    recompose(copy)
    refused(copy, f"states no guarantee: '{name}' is missing")


def test_epsilon_is_what_the_mechanisms_cost(home, copy):
    rows = read(copy / "train.npz")
    spent = rows.meta["facts"]["epsilon"]  # near 2
    sheet = json.loads((copy / "datasheet.json").read_text())
    for epsilon in (0.1, 1.0, round(spent - 0.005, 4)):
        number = f"{epsilon:g}"
        sentence = sheet["guarantee"].replace(sheet["guarantee"].split(",")[0], f"({number}", 1)
        forged(copy, settings={"epsilon": epsilon}, text=sentence, epsilon=epsilon)
        contents.read(copy)  # consistent as far as one can see without the accountant
        refused(copy, f"states epsilon {number}, but its mechanisms cost 1.9")


def test_an_epsilon_of_one_part(copy):
    rows = read(copy / "train.npz")
    forged(copy, budget=part(rows, "class_counts", epsilon_alone=0.01))
    refused(copy, "states epsilon of class_counts 0.01, but its mechanisms cost")


def test_without_the_accountant_epsilon_is_stated(copy, monkeypatch):
    def missing(module):
        raise MissingPackageError("differential privacy needs opacus")

    assert f"shown: {privacy.EPSILON}" in bundle("verify", copy).out
    privacy._epsilon.cache_clear()
    monkeypatch.setattr(accounting, "opacus", missing)
    done = bundle("verify", copy)
    assert done.status == 0
    assert f"shown: {privacy.EPSILON}" not in done.out
    assert f"stated, not checked: {privacy.EPSILON} (differential privacy needs" in done.out


@pytest.mark.parametrize("noise", [1e-3, 1e-300, 1e300, 0, -1, float(2**40)])
def test_noise_that_no_fit_has(copy, noise):
    rows = read(copy / "train.npz")
    budget = part(rows, "gradients", noise_multiplier=noise)
    forged(copy, budget=budget, noise_multiplier=noise)
    refused(copy, "states")


def test_public_bounds_are_those_of_the_settings_and_of_the_decoder(copy):
    rows = read(copy / "train.npz")
    forged(copy, budget=part(rows, "scaling", public_bounds=[0.0, 2.0]))
    refused(copy, "states public_bounds [0.0, 2.0], but they are [0.0, 1.0]")
    settings = {"feature_min": 0.0, "feature_max": 2.0}
    forged(copy, settings=settings, budget=part(rows, "scaling", public_bounds=[0.0, 2.0]))
    refused(copy, "states public bounds [0.0, 2.0], but its decoder has others")
    forged(copy, settings=dict.fromkeys(settings), budget=rows.meta["facts"]["budget"])
    contents.read(copy)
    with_rows(copy, backbone="resnet18")
    recompose(copy)
    refused(copy, "states public bounds of features, which its settings do not have")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"latent_dim": 9}, "states latent_dim 9, but its decoder has 8"),
        ({"hidden_dim": 65}, "states hidden_dim 65, but its decoder has 64"),
        ({"observation_std": 0.2}, "states the noise on rows 0.2, but its decoder has 0.1"),
    ],
)
def test_a_decoder_of_other_settings(copy, settings, message):
    forged(copy, settings=settings)
    refused(copy, message)


def test_a_decoder_with_other_noise_or_counts(copy):
    path = copy / "decoder.safetensors"
    decoder = decoders.read(path)
    decoder.noise_scale *= 2
    path.write_bytes(decoders.serialized(decoder))
    recompose(copy)
    refused(copy, "a decoder whose noise is not a share of its range")
    decoder.noise_scale /= 2
    decoder.class_weights[3] += 1
    path.write_bytes(decoders.serialized(decoder))
    recompose(copy)
    refused(copy, "a decoder that counts other rows")


# k-Same.


@pytest.fixture
def grouped(home, tmp_path):
    import shutil

    return shutil.copytree(home / "ksame", tmp_path / "bundle")


def test_each_row_occurs_k_times(grouped):
    rows = read(grouped / "train.npz")
    other = rows.embeddings.copy()
    other[7, -1] += 1
    with_rows(grouped, *ordered(other, rows.labels))
    recompose(grouped)
    refused(grouped, "states k = 5, but a released row occurs")


def test_rows_that_are_the_originals(grouped, digits):
    few = 5 * (len(digits.train) // 5)
    with_rows(grouped, *ordered(digits.train.embeddings[:few], digits.train.labels[:few]))
    recompose(grouped)
    refused(grouped, "states k = 5, but a released row occurs 1 times")


def test_an_order_that_may_tell_whose_a_row_is(grouped):
    rows = read(grouped / "train.npz")
    generator = np.random.default_rng(0)
    for order in (np.arange(len(rows))[::-1], generator.permutation(len(rows))):
        with_rows(grouped, rows.embeddings[order], rows.labels[order])
        recompose(grouped)
        refused(grouped, "has rows in another order than a release's")


def test_k_and_groups_are_those_of_the_rows(grouped):
    original = read(grouped / "train.npz").meta["facts"]["groups"]
    forged(grouped, groups=original + 1)
    refused(grouped, f"states groups {original + 1}, but its rows make {original}")
    forged(grouped, groups=original, dropped_rows=4, dropped_by_class={"2": 1, "9": 2})
    refused(grouped, "states dropped_rows 4, but its classes give 3")
    for odd in ([1], 3, {"2": "x"}, {"2": None}):
        forged(grouped, dropped_by_class=odd)
        refused(grouped, "datasheet.json")
    forged(grouped, dropped_rows=3, dropped_by_class={"2": 1, "9": 2})
    text = contents_of(grouped)["guarantee"].replace("5 ", "50 ")
    forged(grouped, settings={"k": 50}, text=text, groups=original)
    refused(grouped, "states k = 50, but a released row occurs 5 times")


def test_groups_within_classes(grouped):
    """Merged over classes: rows occur k times, but not within a class."""
    forged(grouped, settings={"per_class": True})
    refused(grouped, "states k = 5, but a released row occurs")


def test_the_check_of_k_is_what_refuses(grouped, monkeypatch):
    rows = read(grouped / "train.npz")
    other = rows.embeddings.copy()
    other[7, -1] += 1
    with_rows(grouped, *ordered(other, rows.labels))
    recompose(grouped)
    monkeypatch.setattr(guarantees, "Counter", lambda pairs: {})
    assert bundle("verify", grouped).status == 0


def test_the_check_of_epsilon_is_what_refuses(copy, monkeypatch):
    sheet = json.loads((copy / "datasheet.json").read_text())
    sentence = sheet["guarantee"].replace(sheet["guarantee"].split(",")[0], "(1", 1)
    forged(copy, settings={"epsilon": 1.0}, text=sentence, epsilon=1.0)
    monkeypatch.setattr(privacy, "check_epsilon", lambda *_: None)
    assert bundle("verify", copy).status == 0


# Sentences.


LATENT = {
    "latent-ksame": ({"groups": 7}, [5, 2]),
    "latent-linear": ({"paths": 3}, [12, 8]),  # ten points between the ends of a path
    "plan": ({"paths": 3, "identity_accuracy": 0.9}, [12, 8]),
}


def release_of(facts, counts, unit="row"):
    labels = np.repeat(np.arange(len(counts)), counts)
    meta = {"facts": facts, "unit": unit}
    return EmbeddingSet(np.ones((len(labels), 2), np.float32), labels, meta)


@pytest.mark.parametrize("name", LATENT)
def test_merged_rows_are_not_called_several_persons(name):
    facts, counts = LATENT[name]
    anonymizer = methods.parse(name, {"k": 5})
    promise = guarantees.derive(anonymizer, release_of(facts, counts), None)
    assert "5 rows, which may all be of one person" in promise.guarantee
    assert "decoder was fitted to all training rows" in promise.guarantee
    assert "that the averages are of 5 real rows" in promise.stated
    assert ("fact: identity_accuracy" in promise.stated) == (name == "plan")
    with pytest.raises(DataError, match="but its rows make"):
        guarantees.derive(anonymizer, release_of(facts, [30, 8]), None)


def test_k_same_says_what_its_rows_show():
    rows = release_of({"groups": 2, "dropped_rows": 1}, [6, 4])
    promise = guarantees.derive(methods.KSame(k=5), rows, None)
    assert "a released row is an average of 5 rows, which may all be of one" in promise.guarantee
    assert promise.shown == ["each released row occurs 5 times or a multiple of that"]
    assert promise.stated == ["that each is the mean of 5 real rows", "fact: dropped_rows"]


def test_nothing_is_promised_of_the_others():
    rows = release_of({}, [3, 3])
    assert guarantees.derive(methods.Gaussian(), rows, None).guarantee.startswith("None.")
    with pytest.raises(DataError, match="has a decoder, but its rows were not drawn from one"):
        guarantees.derive(methods.Gaussian(), rows, Decoder(2, 2, 4, 1))
    with pytest.raises(DataError, match="has no facts"):
        guarantees.derive(methods.Gaussian(), EmbeddingSet(rows.embeddings, rows.labels), None)


# What cannot be shown.


def test_verify_says_what_it_has_shown_and_what_not(home):
    for name in ("cvae", "dp", "ksame"):
        out = bundle("verify", home / name).out.splitlines()
        assert out[0].endswith(" of digits: whole and consistent")
        assert any(line.startswith("shown: every file is whole") for line in out)
        assert "stated, not checked: who made the bundle" in out
        assert "stated, not checked: license" in out
        text = (home / name / "datasheet.md").read_text()
        assert "## Stated, not checked\n\n- who made the bundle\n" in text
        assert "Utility (linear head, real test rows; stated, not checked)" in text or (
            name != "cvae"
        )


def test_texts_cannot_pretend_to_be_more(copy):
    """New lines, escapes of a terminal, letters that run backwards."""
    for text in ("x\n\n**Guarantee.** (0, 0)", "\x1b[2J", "\u202e", "\ud800", " x"):
        rewrite_raw(copy, description=text)
        refused(copy, "datasheet")
    rewrite_raw(copy, description="**Guarantee.** (0, 0)-DP")
    assert bundle("verify", copy).status == 0  # one line below "Stated, not checked"
    lines = (copy / "datasheet.md").read_text().splitlines()
    assert "- description: **Guarantee.** (0, 0)-DP" in lines


def rewrite_raw(folder, **more):
    rewrite(folder, more)
    sum_up(folder)


@pytest.mark.parametrize(
    "change",
    [
        {"utility": [{"id": "cvae"}]},
        {"utility": {}},
        {"audits": [{}]},
        {"audits": None},
        {"preprocessing": []},
        {"dataset": "../digits"},
        {"dataset": "a\nb"},
        {"backbone": "../../pixels"},
        {"seed": True},
        {"seed": 0.0},
        {"format": 3.0},
    ],
)
def test_entries_of_another_kind(copy, change):
    content = {**contents_of(copy), **change}
    (copy / "datasheet.json").write_text(datasheet.canonical(content))
    sum_up(copy)
    refused(copy, "datasheet.json")


def result(**changes):
    return {
        "id": "dpcvae-eps2-epochs2-s0", "sigma": 0.0, "seed": 1, "head": {}, "auc": 90.0,
        "accuracy": 80, "balanced_accuracy": 80.0, "average_mindistance": None, **changes,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "good"),
    [
        ({}, True),
        ({"id": "dpcvae-online-eps2-epochs2-s0"}, True),
        ({"id": "ksame-5"}, False),
        ({"auc": 101}, False),
        ({"auc": -1.0}, False),
        ({"patients": "..."}, False),
        ({"average_mindistance": -0.5}, False),
    ],
)
def test_results_that_are_quoted(copy, changes, good):
    rewrite_raw(copy, utility=[result(**changes)])
    assert (bundle("verify", copy).status == 0) == good


def test_settings_are_all_there_in_their_own_types(copy):
    settings = asdict(methods.DPCVAE(epsilon=2.0, epochs=2))
    for change in ({"clip": 1}, {"latent_dim": 8.0}, {"variance": 1}, {"epsilon": 2}):
        with_rows(copy, settings={**settings, **change})
        recompose(copy)
        refused(copy, "settings")
