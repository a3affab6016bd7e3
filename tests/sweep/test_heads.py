"""Sweeps with other heads than the published one, and with observation noise."""

import csv
import json

import pytest

from src.database import SPLITS, Database, EmbeddingSet
from src.networks import training
from tests.support import call, files_below

SWEEP = """\
name: heads
datasets: small
backbones: pixels
seeds: [0, 1]
sigma: [0, 1]
head: {head}
runs:
  - anonymizer: identity
  - {{anonymizer: kSAME, k: 5}}
  - {{anonymizer: cvae, num_epochs: 2, observation_noise: [0, 0.5], variance: [0.5, 1], clip: 10}}
  - {{anonymizer: cvae-online, num_epochs: 2, observation_noise: 0.5, variance: 0.5, clip: 10}}
report: {{figures: []}}
"""


@pytest.fixture
def small(tmp_path, digits):
    """A database of 200 digits."""
    database = Database(tmp_path / "database", "small", "pixels")
    for split in SPLITS:
        whole = getattr(digits, split)
        part = slice(200 if split == "train" else 100)
        database.write(split, EmbeddingSet(whole.embeddings[part], whole.labels[part], whole.meta))
    return database


def sweep(tmp_path, small, head, *, without="nothing"):
    """The sweep, but for the runs that have this word."""
    config = tmp_path / "heads.yaml"
    lines = SWEEP.format(head=head).splitlines()
    config.write_text("\n".join(line for line in lines if without not in line))
    return call(
        "src.sweep.__main__", config, "--device", "cpu", "--database_root", small.root,
        "--ckpt_root", tmp_path / "ckpts", "--output_root", tmp_path / "logs",
    )  # fmt: skip


def results(tmp_path):
    return {p.name: json.loads(p.read_text()) for p in tmp_path.glob("logs/small/pixels/*.json")}


def test_a_sweep_with_a_logistic_head_of_limited_features(tmp_path, small, monkeypatch):
    fits, original = [], training.fit

    def fit(*args, **kwargs):
        fits.append(kwargs["description"])
        return original(*args, **kwargs)

    monkeypatch.setattr(training, "fit", fit)
    done = sweep(tmp_path, small, "{head: logistic, clip: 10}")
    assert done.status == 0, done.err
    assert fits == ["CVAE"] * 2  # one for each seed: for all noises and variances, no linear head
    found = results(tmp_path)
    assert len(found) == 7 * 2 * 2
    for name in (
        "small_identity-s0_logistic_clip10_sigma0.json",
        "small_ksame-5-s1_logistic_clip10_sigma1.json",
        "small_cvae-obs0.5-num_epochs2-clip10-s0_logistic_clip10_sigma1.json",
        "small_cvae-var0.5-obs0.5-num_epochs2-clip10-s0_logistic_clip10_sigma0.json",
        "small_cvae-online-var0.5-obs0.5-num_epochs2-clip10-s1_logistic_clip10_sigma1.json",
    ):
        assert found[name]["head"]["head"] == "logistic"
        assert found[name]["head"]["clip"] == 10
        assert found[name]["strength"] > 0
        assert found[name]["extreme_test_rows"] >= 0
    with (tmp_path / "logs" / "reports" / "heads" / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == len(found)
    assert {(row["head_head"], row["head_clip"]) for row in rows} == {("logistic", "10.0")}

    before = files_below(tmp_path / "logs" / "small")
    assert sweep(tmp_path, small, "{head: logistic, clip: 10}").status == 0
    assert files_below(tmp_path / "logs" / "small") == before  # nothing was missing
    assert fits == ["CVAE"] * 2


def test_sweeps_of_two_heads_share_releases_and_keep_their_results(tmp_path, small):
    assert sweep(tmp_path, small, "{head: logistic}", without="cvae").status == 0
    logistic, releases = results(tmp_path), files_below(small.root)
    assert sweep(tmp_path, small, "{num_epochs: 1}", without="cvae").status == 0
    both = results(tmp_path)
    assert files_below(small.root) == releases
    assert len(both) == 2 * len(logistic)
    assert all(both[name] == content for name, content in logistic.items())
    assert both["small_identity-s0_sigma0.json"]["head"]["head"] == "adam"


@pytest.mark.parametrize(
    ("head", "message"),
    [
        ("{head: logit}", "unknown head 'logit'; did you mean 'logistic'"),
        ("{clip: 0}", "clip 0.0 must be greater than 0"),
        ("{clip: .nan}", "clip"),
        ("{clip: none}", "clip is 'none'; it must be a number"),
        ("{head: logistic, num_epochs: 9}", "num_epochs 9 has no effect with"),
        ("{heads: logistic}", "unknown setting of head 'heads'; did you mean 'head'"),
    ],
)
def test_what_is_no_head_is_one_line(tmp_path, small, head, message):
    before = files_below(tmp_path)
    done = sweep(tmp_path, small, head)
    assert done.status == 2
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert message in done.err
    assert {p: c for p, c in files_below(tmp_path).items() if p.suffix != ".yaml"} == before


@pytest.mark.parametrize(("value", "message"), [("-1", "is below its minimum"), (".nan", "nan")])
def test_bad_observation_noise_is_one_line(tmp_path, small, value, message):
    run = f"  - {{anonymizer: latent-ksame, k: 5, observation_noise: {value}}}\n"
    config = tmp_path / "heads.yaml"
    config.write_text(SWEEP.format(head="{}").replace("report:", f"{run}report:"))
    done = call("src.sweep.__main__", config, "--output_root", tmp_path / "logs")
    assert done.status == 2
    assert done.err.count("\n") == 1
    assert "observation_noise" in done.err
    assert message in done.err
