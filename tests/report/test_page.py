"""The page: what it says, that it stands alone, and that anybody can read it."""

import itertools
import re

import pytest

from src.core.files import read_json, write_json
from src.database import SPLITS, Database, EmbeddingSet
from src.report import pictures
from tests.report.support import Logs, Page
from tests.support import call, files_below


@pytest.fixture
def logs(tmp_path):
    return Logs(tmp_path).fill()


def made(logs, *flags):
    """The page as the command makes it."""
    done = call(
        "src.report.__main__", logs.config, "--output_root", logs.root,
        "--database_root", logs.folder / "database", *flags,
    )  # fmt: skip
    assert done.status == 0, done.err
    assert str(logs.page) in done.out
    return Page(logs.page.read_text())


# What it says.


def test_the_answer_in_five_sentences(logs):
    answer = made(logs).answer()
    assert list(answer) == [
        "Release", "Utility", "Strongest attack", "Guaranteed", "Not guaranteed",
    ]  # fmt: skip
    assert answer["Release"].startswith("cvae: train_cvae-s0.npz. 2 releases qualify. It has the")
    # 98, 98.05, 98.1: mean 98.05, deviation 0.05, t 4.30265 → 98.05 ± 0.124; 98.05 / 99.5
    assert answer["Utility"] == (
        "AUC 98.05 % [97.93, 98.17], 98.5 % of the 99.50 % that the real rows give."
    )
    assert "95 % t-intervals over 3 seeds; of so few they are wide" in made(logs).text
    said = answer["Strongest attack"]
    assert "shadow: AUC: 0.530 [0.480, 0.580] in the strongest of 3 audits (seed 0)" in said
    assert "No leak was found, which is not a proof" in said
    assert "One run proves no ε above 0 (61 of 100 guesses right in the strongest of 3" in said
    assert answer["Guaranteed"].startswith("Nothing.")
    assert "Better attacks" in answer["Not guaranteed"]


def test_what_a_guarantee_says(logs):
    answer = made(logs, "--max_attack", "0.57").answer()
    assert answer["Release"].startswith("dpcvae (epsilon=8): train_dpcvae-eps8-s0.npz")
    said = answer["Guaranteed"]
    assert "(8, δ)-differential privacy to each row" in said
    assert "at most 100 % (plus δ), where 50 % is a coin. So large an ε rules out little." in said
    assert "To a person with n rows the promise is n times weaker." in answer["Not guaranteed"]


def test_a_small_epsilon_limits_guesses(tmp_path):
    """e / (1 + e) = 0.73106, rounded up."""
    runs = [{"anonymizer": "identity"}, {"anonymizer": "dpcvae", "epsilon": 1, "delta": 1e-6}]
    said = made(Logs(tmp_path, runs=runs).fill()).answer()["Guaranteed"]
    assert "at most 73.2 % (plus δ), where 50 % is a coin." in said
    assert "δ = 1e-06" in said
    assert "rules out little" not in said


def test_what_the_audit_cannot_judge_is_not_recommended_without_a_guarantee(tmp_path):
    unclear = (0.6, 0.4, 0.8, None)
    page = made(Logs(tmp_path).fill(cvae=unclear, dpcvae=unclear))
    answer = page.answer()
    assert answer["Release"].startswith("dpcvae (epsilon=8)")
    assert (
        "cannot tell whether that is a leak. Sentence one. And two." in answer["Strongest attack"]
    )
    assert "The audit could not confirm it" in answer["Not guaranteed"]
    assert "no: it has no guarantee, and no audit denies a leak" in page.text


def test_where_nothing_qualifies_it_says_why_and_what_would_help(tmp_path):
    leak = (0.9, 0.85, 0.95, True)
    page = made(Logs(tmp_path).fill(cvae=leak, dpcvae=(0.6, 0.4, 0.8, None)), "--max_epsilon", "1")
    answer = page.answer()
    assert list(answer) == ["Release", "Why", "What would help"]
    assert answer["Release"].startswith("No release qualifies")
    assert "ksame (k=5), cvae: an audit found a leak." in answer["Why"]
    assert "dpcvae (epsilon=8): ε = 8 does not count as a guarantee" in answer["Why"]
    for part in ("more rows that training has not seen", "with a guarantee", "a larger k"):
        assert part in answer["What would help"]
    strict = made(Logs(tmp_path).fill(), "--min_auc", "99.9").answer()
    assert "Without --min_auc these would qualify: cvae, dpcvae" in strict["What would help"]


def test_its_parts_are_in_order(logs):
    text = made(logs).source
    places = [
        text.index(part)
        for part in (
            "train_cvae-s0.npz", "The rule</h3>", "<figure", "All releases</h3>", "<details",
            "What was not tested</h3>", "Fingerprints</h3>", "Where these numbers come from</h2>",
        )
    ]  # fmt: skip
    assert places == sorted(places)
    page = Page(text)
    assert "torch 2.11.0" in page.text
    assert re.search(r"Newest result ?20\d\d-\d\d-\d\d \d\d:\d\d UTC", page.text)
    assert "python anonymize.py --dataset my_set --backbone pixels" in page.text
    assert "--anonymizer dpcvae --epsilon 8 --seed 0" in page.text


def test_what_was_not_tested_is_named(tmp_path):
    logs = Logs(tmp_path, audit={"shadows": 0}).fill()
    logs.path("cvae-s1_audit").unlink()
    logs.path("cvae-s2_logistic_clip10_sigma0").unlink()
    old = logs.path("ksame-5-s0_audit")
    content = read_json(old)
    del content["summary"]
    write_json(old, content)
    text = made(logs).text
    for part in (
        "Results are missing: cvae (seed 2).",
        "Audits are missing, at least of some seeds: cvae.",
        "which do not name a strongest attack: ksame (k=5).",
        "(shadows: 0)", "(one_run: true)", "a false-positive rate of 0.1 %",
        "Whether another image of a person leads to them",
        "no: results are missing (seed 2)",
    ):  # fmt: skip
        assert part in text
    plain = made(Logs(tmp_path, audit=False)).text
    assert "No release was attacked" in plain
    assert "Not in the picture" in plain
    empty = made(Logs(tmp_path, name="empty", datasets=["nothing"]))
    require_sound(empty)
    assert "There are no results" in empty.text
    assert "Run the sweep again" in empty.answer()["What would help"]


@pytest.mark.parametrize("damage", ["{", '{"metrics": 3}', "[]"])
def test_audits_that_cannot_be_read_are_missing(logs, damage):
    for name in ("cvae-s0", "dpcvae-eps8-s1"):
        logs.path(f"{name}_audit").write_text(damage)
        logs.path(f"{name}_onerun").write_text(damage)
    page = made(logs)
    assert "at least of some seeds: cvae, dpcvae (epsilon=8)." in page.text
    assert page.answer()["Release"].startswith("dpcvae")  # its guarantee needs no audit


@pytest.mark.parametrize(
    "change",
    [{"value": None}, {"value": "high"}, {"strongest": 3}, {"leak": "no"}, {"value": True}],
)
def test_a_summary_that_makes_no_sense_is_none(logs, change):
    for seed in (0, 1, 2):
        path = logs.path(f"cvae-s{seed}_audit")
        content = read_json(path)
        content["summary"] |= change
        write_json(path, content)
    page = made(logs)
    assert "which do not name a strongest attack: cvae." in page.text
    assert page.answer()["Release"].startswith("dpcvae")


def test_one_seed_gives_no_intervals(tmp_path):
    page = made(Logs(tmp_path, seeds=[0]).fill())
    assert "AUC 98.00 %, 98.5 % of" in page.answer()["Utility"]
    assert "One seed gives no interval." in page.text


def test_what_no_seed_changes_has_no_interval(tmp_path):
    page = made(Logs(tmp_path).fill(ksame=(0.5, 0.45, 0.55, False)))
    answer = page.answer()
    assert answer["Release"].startswith("ksame (k=5): train_ksame-5.npz")
    assert "All 3 seeds give the same" in page.text
    assert "the mean of rows of k = 5 rows" in answer["Guaranteed"]
    assert "That limits no attack" in answer["Guaranteed"]


def test_a_promise_to_rows_is_none_to_persons(logs):
    (anonymizer,) = (a for a in logs.sweep.anonymizers if a.name == "dpcvae")
    unclear = {"strongest": "shadow_auc", "value": 0.6, "leak": None}
    for seed in (0, 1, 2):
        logs.audit("my_set", "pixels", anonymizer, seed, summary=unclear, member_persons=20)
    page = made(logs, "--max_attack", "0.57")
    assert page.answer()["Release"].startswith("No release qualifies")
    assert "dpcvae (epsilon=8): it has no guarantee, and no audit" in page.text


def test_a_contradicted_promise_is_not_recommended(logs):
    (anonymizer,) = (a for a in logs.sweep.anonymizers if a.name == "dpcvae")
    logs.one_run("my_set", "pixels", anonymizer, 1, lower=8.5)
    page = made(logs)
    assert "no: an audit contradicts its promise" in page.text
    assert page.answer()["Release"].startswith("cvae")


def test_what_one_run_proves_is_a_leak_unless_a_guarantee_allows_it(logs):
    for anonymizer in logs.sweep.anonymizers:
        if anonymizer.name in ("cvae", "dpcvae"):
            logs.one_run("my_set", "pixels", anonymizer, 1, lower=0.2)
    page = made(logs)
    assert "no: it has no guarantee, and one run proves a leak" in page.text
    assert "✕ leak (by one run)" in page.text
    answer = page.answer()
    assert answer["Release"].startswith("dpcvae (epsilon=8): train_dpcvae-eps8-s0.npz. It alone")
    assert "ε is at least 0.20 with 95 % confidence" in answer["Strongest attack"]


def test_copies_are_proof_and_no_auc(logs):
    (anonymizer,) = (a for a in logs.sweep.anonymizers if a.name == "cvae")
    copies = {
        "strongest": "close_copies", "value": 0.01, "control": 0.0, "low": 0.004, "high": 0.02,
        "leak": True, "said": [],
    }  # fmt: skip
    logs.audit("my_set", "pixels", anonymizer, 2, summary=copies)
    page = made(logs)
    assert "3, cvae: utility 98.05, attack 1.000, leak found" in page.text
    assert "✕ leak" in page.text
    assert page.answer()["Release"].startswith("dpcvae")


def test_heads_on_fresh_draws_are_no_release(tmp_path):
    runs = [{"anonymizer": "identity"}, {"anonymizer": "cvae-online"}]
    page = made(Logs(tmp_path, runs=runs).fill())
    assert "cvae-online: no rows are released" in page.answer()["Why"]
    assert "probing_noise_cvae.py" in page.text


def test_a_section_per_dataset_backbone_and_head(tmp_path):
    logs = Logs(tmp_path, datasets=["a", "b"], backbones=["pixels", "hf-hub:x/y"]).fill()
    page = made(logs)
    names = [" ".join(e[2].split()) for e in page.all("h2")]
    assert names[:4] == ["a, pixels", "a, hf-hub:x/y", "b, pixels", "b, hf-hub:x/y"]
    (nav,) = page.all("nav")
    assert " ".join(nav[2].split()).count(": cvae") == 4
    require_sound(page)
    heads = Logs(tmp_path, head=[{}, {"head": "logistic"}]).fill()
    page = made(heads)
    assert [" ".join(e[2].split()) for e in page.all("h2")][:2] == [
        "my_set, pixels, head: adam", "my_set, pixels, head: logistic",
    ]  # fmt: skip
    require_sound(page)


def test_noisy_utility_is_shown(tmp_path):
    page = made(Logs(tmp_path, sigma=[0, 2]).fill())
    assert "with noise of σ = 2 on test features, 98.4 % of the 89.50 % that the real" in page.text
    assert [e[2] for e in page.all("th")][2:4] == ["AUC, σ = 0", "AUC, σ = 2"]


# That it stands alone.


def require_sound(page):
    """What holds for every page: it asks for nothing, and its structure is whole."""
    source = page.source
    assert len(source.encode()) < 3_000_000
    for word in ("<script", "@import", "url(", "http", "<link", "<iframe", "data:"):
        assert word not in source, word
    ids = [e[1]["id"] for e in page.elements if "id" in e[1]]
    assert len(ids) == len(set(ids))
    for tag, attributes, *_ in page.elements:
        assert "src" not in attributes
        assert not any(name.startswith("on") for name in attributes), tag
        for name in ("href", "xlink:href"):
            if name in attributes:
                assert attributes[name].startswith("#")
                assert attributes[name][1:] in ids
        for name in ("aria-labelledby",):
            assert set(attributes.get(name, "").split()) <= set(ids)
    levels = [int(tag[1]) for tag, *_ in page.all("h1", "h2", "h3", "h4", "h5", "h6")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    for tag in ("svg", "table", "figure"):
        assert source.count(f"<{tag}") == source.count(f"</{tag}>")
    for _, attributes, _, _ in page.all("svg"):
        assert attributes["role"] == "img"
        assert len(attributes["aria-labelledby"].split()) == 2
    assert source.count("<svg") == source.count("<desc") == len(page.all("title")) - 1
    assert source.count("<table") == source.count("<caption")
    assert all(e[2].strip() for e in page.all("caption", "title", "desc", "figcaption", "summary"))
    assert all(e[1].get("scope") in ("col", "row") for e in page.all("th"))
    for tag, attributes, *_ in page.elements:
        if attributes.get("tabindex") == "0":  # what scrolls by keyboard has a name
            assert attributes["role"] == "region", tag
            assert attributes.get("aria-label") or attributes.get("aria-labelledby")


def test_it_asks_for_nothing_and_its_structure_is_whole(logs):
    page = made(logs)
    require_sound(page)
    (html,) = page.all("html")
    assert html[1]["lang"] == "en"
    first = next(e for e in page.elements if e[0] == "a")
    assert (first[1]["class"], first[1]["href"]) == ("skip", "#answer")
    assert 'name="viewport"' in page.source


@pytest.mark.parametrize(
    "name", ["<script>alert(1)<", "\"'`&amp;", "שלום עולם", "x" * 200, "{{ 7 * 7 }}", "a$b_{c"]
)
def test_names_are_text(tmp_path, name):
    page = made(Logs(tmp_path, datasets=[name]).fill())
    require_sound(page)
    assert f"{name}, pixels" in page.text


def test_the_same_files_make_the_same_page(logs):
    first = made(logs).source
    before = files_below(logs.root)
    assert made(logs).source == first
    assert files_below(logs.root) == before
    assert str(logs.folder) not in first  # whose machine it was, the page does not say


def test_forty_releases(tmp_path):
    runs = [{"anonymizer": "ksame", "k": list(range(2, 42))}]
    page = made(Logs(tmp_path, runs=runs).fill())
    require_sound(page)
    heights = label_heights(page)
    assert len(heights) == 2
    for ordered in heights:
        assert len(ordered) == 40
        gaps = [b - a for a, b in itertools.pairwise(ordered)]
        assert min(gaps) >= 12  # pixels, the size of the letters


def label_heights(page):
    """Of each picture, where the labels in the margin are, from the top."""
    found = []
    for picture in page.source.split("<svg")[1:]:
        inside = picture.split("</svg>")[0]
        text = r'<text[^>]*? x="([\d.]+)" y="([\d.]+)"[^>]*>(\d+)(?:  |<)'
        labels = re.findall(text, inside)
        right = max(float(x) for x, _, _ in labels)
        found.append(sorted(float(y) for x, y, _ in labels if float(x) == right))
    return found


# That anybody can read it.


def luminance(colour):
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_contrast_is_enough_in_light_dark_and_print(logs):
    assert contrast("#000000", "#ffffff") == pytest.approx(21)
    schemes = re.findall(r":root \{(.*?)\}", made(logs).source, re.DOTALL)
    assert len(schemes) == 3
    for scheme in schemes:
        colours = {
            name: value if len(value) == 7 else "#" + "".join(c * 2 for c in value[1:])
            for name, value in re.findall(r"--(\w+): (#\w+)", scheme)
        }
        for paper in ("page", "soft"):
            for ink in ("text", "quiet", "accent", "warning", "good"):
                assert contrast(colours[ink], colours[paper]) >= 4.5, (scheme, ink, paper)


def test_pictures_take_the_colours_of_the_page(logs):
    page = made(logs)
    for picture in page.source.split("<svg")[1:]:
        inside = picture.split("</svg>")[0]
        assert not re.search(r"#[0-9a-fA-F]{6}\b", inside), "a colour of its own"
        assert "currentColor" in inside


# The picture.


def test_labels_are_spaced_and_stay_in_order():
    assert pictures.spaced([10, 11, 50], 5, 0, 100) == [10, 15, 50]
    assert pictures.spaced([98, 99, 100], 5, 0, 100) == [90, 95, 100]
    assert pictures.spaced([1, 2], 5, 3, 100) == [3, 8]
    assert pictures.spaced([5, 5, 5], 10, 0, 12) == [0, 10, 20]  # no room: upwards from the end
    assert pictures.spaced([], 5, 0, 1) == []


def test_points_differ_in_shape_and_guarantees_are_marked():
    looks = pictures.LOOKS.values()
    assert len({look["marker"] for look in looks}) == len(looks)


# Rows from the database.


def test_rows_are_shown_where_the_database_is_beside(tmp_path, digits):
    names = ["<b>zero</b>", "אחת", "x" * 200, *"3456789"]
    database = Database(tmp_path / "database", "my_set", "pixels")
    sets = {}
    for split in SPLITS:
        data = getattr(digits, split)
        sets[split] = EmbeddingSet(data.embeddings, data.labels, {"class_names": names})
        database.write(split, sets[split])
    logs = Logs(tmp_path, seeds=[0]).fill()
    for path in (logs.root / "my_set" / "pixels").iterdir():
        content = read_json(path)
        content["inputs"] |= {s: sets[s].fingerprint for s in content["inputs"].keys() & sets}
        write_json(path, content)
    half = EmbeddingSet(digits.train.embeddings[::2] + 0.01, digits.train.labels[::2])
    without = EmbeddingSet(half.embeddings[half.labels != 2], half.labels[half.labels != 2])
    database.write("train", half, "ksame-5")
    database.write("train", without, "cvae-s0")
    page = made(logs)
    require_sound(page)
    text = page.text
    assert text.count("holds about nine in ten real rows") == 2
    assert "Not shown, as the released rows are not in the database." in text  # of dpcvae
    assert "Real rows are not shown." in text
    assert "<bdi>&lt;b&gt;zero&lt;/b&gt;</bdi>" in page.source
    missing = re.search(
        r"<bdi>x{200}</bdi></th><td[^>]*>0.000</td><td[^>]*>(\d+)</td><td[^>]*>0<", page.source
    )
    assert int(missing[1]) == (digits.train.labels == 2).sum()


def test_without_a_database_the_page_says_so(logs):
    assert "Not shown, as the embeddings are not in the database." in made(logs).text


# Flags.


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--max_attack", "0.2"], "--max_attack 0.2 is below its minimum"),
        (["--max_epsilon", "0"], "--max_epsilon 0.0 must be greater than 0"),
        (["--min_auc", "many"], "argument --min_auc"),
    ],
)
@pytest.mark.parametrize("tool", ["src.report.__main__", "src.sweep.__main__"])
def test_bad_thresholds_are_one_line(logs, tool, flags, said):
    before = files_below(logs.folder)
    done = call(tool, logs.config, "--output_root", logs.root, *flags)
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert said in done.err
    assert files_below(logs.folder) == before
