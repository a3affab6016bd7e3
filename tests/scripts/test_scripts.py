"""The scripts as a user runs them: the three steps, and everything that can be wrong."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from src.core import devices
from src.database import SPLITS, Database, EmbeddingSet, read
from tests.support import ROOT, call, files_below, shell

EPOCHS = ["--num_epochs", "3"]


def anonymize(roots, tmp_path, *flags):
    return call("anonymize", *roots, "--ckpt_root", tmp_path / "ckpts", *flags)


def probing(roots, tmp_path, *flags, script="probing"):
    return call(script, *roots, "--output_root", tmp_path / "logs", *flags)


def result(tmp_path, name):
    return json.loads((tmp_path / "logs" / "digits" / "pixels" / name).read_text())


def test_the_three_steps_on_digits(tmp_path):
    """`create_db.py` from nothing, then every anonymizer and script."""
    roots = [
        "--dataset", "digits", "--backbone", "pixels", "--device", "cpu",
        "--database_root", tmp_path / "database",
    ]  # fmt: skip
    assert call("create_db", *roots).status == 0
    assert anonymize(roots, tmp_path, "--anonymizer", "kSAME", "--k", 5).status == 0
    assert anonymize(roots, tmp_path, "--anonymizer", "cvae", "--seed", 0, *EPOCHS).status == 0
    for flags, name in (
        ([], "digits_identity-s0.json"),
        (["--anonymizer", "ksame", "--k", 5], "digits_ksame-5-s0.json"),
        (["--release", "cvae-num_epochs3-s0"], "digits_cvae-num_epochs3-s0.json"),
    ):
        done = probing(roots, tmp_path, "--seed", 0, *flags)
        assert done.status == 0, done.err
        assert name in done.out
        assert 50 < result(tmp_path, name)["auc"] <= 100
    noisy = probing(roots, tmp_path, "--seed", 0, "--sigma", 0, 0.5, script="probing_noise")
    assert noisy.out.count("\n") == 2
    clean, same, worse = (
        result(tmp_path, f"digits_identity-s0{suffix}.json")["auc"]
        for suffix in ("", "_sigma0", "_sigma0.5")
    )
    assert clean == same > worse


def test_the_online_head(roots, tmp_path):
    done = probing(
        roots, tmp_path, "--seed", 0, "--ckpt_root", tmp_path / "ckpts", "--sigma", 0, 1,
        "--variance", 0.5, *EPOCHS, script="probing_noise_cvae",
    )  # fmt: skip
    assert done.status == 0, done.err
    content = result(tmp_path, "digits_cvae-online-var0.5-s0_sigma1.json")
    assert content["settings"]["variance"] == 0.5
    assert content["inputs"]["release"] is None
    assert content["average_mindistance"] > 1
    assert (tmp_path / "ckpts" / "digits" / "pixels" / "cvae-s0.safetensors").exists()
    assert (tmp_path / "ckpts" / "digits" / "pixels" / "cvae-s0.json").exists()


def test_a_result_has_all_that_running_it_again_needs(roots, tmp_path, digits):
    assert probing(roots, tmp_path, "--seed", 3, *EPOCHS).status == 0
    content = result(tmp_path, "digits_identity-s3.json")
    assert content["head"] == {
        "head": "adam", "clip": None,
        "learning_rate": 0.001, "num_epochs": 3, "batch_size": 128, "patience": 5,
    }  # fmt: skip
    assert content["inputs"]["test"] == digits.test.fingerprint
    assert content["inputs"]["release"] == digits.train.fingerprint
    assert content["seed"] == 3
    assert content["device"] == "cpu"
    assert {"torch", "numpy", "scikit-learn", "python"} <= content["versions"].keys()
    assert content["seconds"] > 0


def test_the_same_command_gives_the_same_bytes(roots, tmp_path, database):
    flags = ["--anonymizer", "cvae", "--seed", 1, *EPOCHS]
    path = database.path("train", "cvae-num_epochs3-s1")
    assert anonymize(roots, tmp_path, *flags).status == 0
    first = path.read_bytes()
    assert shell("anonymize.py", *roots, "--ckpt_root", tmp_path / "fresh", *flags).status == 0
    assert path.read_bytes() == first


def test_anonymizing_writes_beside_train_and_changes_nothing_else(roots, tmp_path, database):
    before = files_below(database.root)
    assert anonymize(roots, tmp_path, "--anonymizer", "ksame", "--k", 2).status == 0
    after = files_below(database.root)
    assert after.keys() - before.keys() == {database.path("train", "ksame-2")}
    assert all(after[path] == content for path, content in before.items())
    settings = read(database.path("train", "ksame-2")).meta["settings"]
    assert settings.items() >= {"k": 2, "per_class": False}.items()


def test_how_much_memory_is_free_changes_nothing(roots, tmp_path, database, monkeypatch):
    written = []
    for free in (0, 2 << 30):
        monkeypatch.setattr(devices, "free_memory", lambda device, free=free: free)
        assert anonymize(roots, tmp_path, "--anonymizer", "ksame", "--k", 3).status == 0
        written.append(database.path("train", "ksame-3").read_bytes())
    assert written[0] == written[1]


def test_the_identity_is_not_written_again(roots, tmp_path, database):
    before = files_below(database.root)
    done = anonymize(roots, tmp_path, "--anonymizer", "identity")
    assert done.status == 0
    path = database.path("train")
    assert done.out == f"{path} already holds the real embeddings; nothing to write\n"
    assert files_below(database.root) == before


def test_a_release_that_is_a_link_is_written_to_its_target(roots, tmp_path, database):
    target = tmp_path / "disk" / "release.npz"
    target.parent.mkdir()
    target.write_bytes(b"old")
    database.path("train", "ksame-2").symlink_to(target)
    assert anonymize(roots, tmp_path, "--anonymizer", "ksame", "--k", 2).status == 0
    assert database.path("train", "ksame-2").is_symlink()
    assert read(target).meta["anonymizer"] == "ksame"


def test_a_config_file_stands_for_flags(roots, tmp_path):
    config = tmp_path / "probe.yaml"
    config.write_text("seed: 5\nnum_epochs: 2\n")
    assert probing(roots, tmp_path, "--config", config, "--num_epochs", 1).status == 0
    assert result(tmp_path, "digits_identity-s5.json")["head"]["num_epochs"] == 1


# Heads.


def test_other_heads_have_results_of_their_own(roots, tmp_path):
    heads = {
        "": EPOCHS,
        "_clip10": ["--clip", 10, *EPOCHS],
        "_logistic": ["--head", "logistic"],
        "_logistic_clip2.5": ["--clip", 2.5, "--head", "logistic"],
    }
    for suffix, flags in heads.items():
        for script, more, noise in (
            ("probing", [], ""),
            ("probing_noise", ["--sigma", 1, 2], "_sigma1"),
        ):
            done = probing(roots, tmp_path, "--seed", 0, *flags, *more, script=script)
            assert done.status == 0, done.err
            name = f"digits_identity-s0{suffix}{noise}.json"
            assert name in done.out
            content = result(tmp_path, name)
            assert content["head"]["head"] == ("logistic" if "logistic" in suffix else "adam")
            assert (content["strength"] is None) == ("logistic" not in suffix)
            assert content["extreme_test_rows"] == 0
    names = {path.name for path in (tmp_path / "logs" / "digits" / "pixels").iterdir()}
    assert names == {
        f"digits_identity-s0{suffix}{noise}.json"
        for suffix in heads
        for noise in ("", "_sigma1", "_sigma2")
    }
    assert result(tmp_path, "digits_identity-s0_logistic.json")["auc"] > 99


def test_a_logistic_head_does_not_depend_on_the_seed(roots, tmp_path):
    found = []
    for seed in (0, 1):
        flags = ["--seed", seed, "--head", "logistic", "--clip", 10]
        assert probing(roots, tmp_path, *flags).status == 0
        found.append(result(tmp_path, f"digits_identity-s{seed}_logistic_clip10.json"))
    for name in ("auc", "accuracy", "balanced_accuracy", "strength", "epochs"):
        assert found[0][name] == found[1][name]


def test_an_online_logistic_head(roots, tmp_path):
    flags = [
        "--seed", 0, "--ckpt_root", tmp_path / "ckpts", "--sigma", 0, 1, "--head", "logistic",
        "--clip", 10, "--fit_num_epochs", 60, "--fit_batch_size", 128, "--fit_clip", 10,
        "--variance", 0.5,
    ]  # fmt: skip
    done = probing(roots, tmp_path, *flags, script="probing_noise_cvae")
    assert done.status == 0, done.err
    fit = "var0.5-batch_size128-num_epochs60-clip10"
    content = result(tmp_path, f"digits_cvae-online-{fit}-s0_logistic_clip10_sigma1.json")
    assert content["auc"] > 80
    assert content["head"]["clip"] == content["settings"]["clip"] == 10
    assert content["strength"] in [10.0**power for power in range(-5, 2)]


def test_fit_clip_names_the_release_and_clip_limits_the_head(roots, tmp_path, database):
    made = ["--anonymizer", "cvae", "--seed", 0]
    assert anonymize(roots, tmp_path, *made, *EPOCHS, "--clip", 10).status == 0
    released = read(database.path("train", "cvae-num_epochs3-clip10-s0"))
    assert released.meta["settings"]["clip"] == 10
    fit = ["--fit_num_epochs", 3, "--fit_clip", 10]
    for flags, name in (
        ([], "digits_cvae-num_epochs3-clip10-s0.json"),
        (["--clip", 5], "digits_cvae-num_epochs3-clip10-s0_clip5.json"),
    ):
        done = probing(roots, tmp_path, *made, *fit, *flags, *EPOCHS)
        assert done.status == 0, done.err
        assert result(tmp_path, name)["settings"]["clip"] == 10
    missing = probing(roots, tmp_path, *made, "--fit_num_epochs", 3, "--clip", 10)
    assert_one_line(missing, "train_cvae-num_epochs3-s0.npz does not exist")


def test_test_rows_far_from_the_release_are_said_once_and_counted(
    roots, tmp_path, database, digits
):
    rows = digits.train.embeddings.copy()
    rows[:, 20] = 0.5 + 1e-4 * (np.arange(len(rows)) % 2)  # it hardly varies, as test rows do
    database.write("train", EmbeddingSet(rows, digits.train.labels), "flat")
    far = int((np.abs(digits.test.embeddings[:, 20] - 0.50005) > 100 * 5e-5).sum())
    assert 0 < far < len(digits.test)
    flags = ["--release", "flat", "--seed", 0, "--sigma", 0, 1, 2]
    for more, suffix, warnings in (
        (EPOCHS, "", 1),
        (["--head", "logistic"], "_logistic", 1),
        ([*EPOCHS, "--clip", 10], "_clip10", 0),
    ):
        done = probing(roots, tmp_path, *flags, *more, script="probing_noise")
        assert done.status == 0, done.err
        assert done.err.count(f"{far} of 360 test rows are beyond 100") == warnings
        for sigma in (0, 1, 2):
            content = result(tmp_path, f"digits_flat-s0{suffix}_sigma{sigma}.json")
            assert content["extreme_test_rows"] == far


# Observation noise.


def test_observation_noise_through_all_steps(roots, tmp_path, database):
    noise = ["--variance", 0.5, "--observation_noise", 0.5, "--seed", 0]
    fit = ["--fit_num_epochs", 3]
    name = "cvae-var0.5-obs0.5-num_epochs3-s0"
    assert anonymize(roots, tmp_path, "--anonymizer", "cvae", *noise, *EPOCHS).status == 0
    released = read(database.path("train", name))
    assert released.meta["settings"]["observation_noise"] == 0.5
    (checkpoint,) = (tmp_path / "ckpts").rglob("*.safetensors")
    assert checkpoint.name == "cvae-num_epochs3-s0.safetensors"
    before = checkpoint.read_bytes()
    plain = anonymize(roots, tmp_path, "--anonymizer", "cvae", "--seed", 0, *EPOCHS)
    assert plain.status == 0
    assert "reusing" in plain.err
    means = read(database.path("train", "cvae-num_epochs3-s0")).embeddings
    assert means.var(0).mean() < released.embeddings.var(0).mean()

    done = probing(roots, tmp_path, "--anonymizer", "cvae", *noise, *fit, *EPOCHS)
    assert done.status == 0, done.err
    assert result(tmp_path, f"digits_{name}.json")["inputs"]["release"] == released.fingerprint
    online = ["--ckpt_root", tmp_path / "ckpts", "--sigma", 1, *noise, *fit, *EPOCHS]
    done = probing(roots, tmp_path, *online, script="probing_noise_cvae")
    assert done.status == 0, done.err
    content = result(tmp_path, "digits_cvae-online-var0.5-obs0.5-num_epochs3-s0_sigma1.json")
    assert content["settings"]["observation_noise"] == 0.5
    assert checkpoint.read_bytes() == before
    assert len(list((tmp_path / "ckpts").rglob("*.safetensors"))) == 1


def test_observation_noise_of_a_latent_method(roots, tmp_path, database):
    flags = ["--anonymizer", "latent-ksame", "--k", 5, "--seed", 0, *EPOCHS]
    assert anonymize(roots, tmp_path, *flags).status == 0
    assert anonymize(roots, tmp_path, *flags, "--observation_noise", 1).status == 0
    plain, noisy = (
        read(database.path("train", f"latent-ksame-5-{noise}num_epochs3-s0")).embeddings
        for noise in ("", "obs1-")
    )
    assert plain.shape == noisy.shape
    assert plain.var(0).mean() < noisy.var(0).mean()


def test_a_bundle_s_decoder_has_the_observation_noise_of_its_release(roots, tmp_path, database):
    noise = ["--variance", 0.5, "--observation_noise", 0.5, "--seed", 0, *EPOCHS]
    place = [*roots, "--ckpt_root", tmp_path / "ckpts"]
    folder, drawn = tmp_path / "bundle", tmp_path / "drawn.npz"
    assert call("anonymize", *place, "--anonymizer", "cvae", *noise).status == 0
    module = "src.bundle.__main__"
    done = call(module, "create", *place, "--anonymizer", "cvae", *noise, "--output", folder)
    assert done.status == 0, done.err
    counts = np.bincount(read(database.path("train")).labels)
    sample = ["sample", folder, "--output", drawn, "--seed", 3, "--class_counts", *counts]
    assert call(module, *sample).status == 0
    fresh = read(drawn)
    released = read(database.path("train", "cvae-var0.5-obs0.5-num_epochs3-s0"))
    assert fresh.fingerprint != released.fingerprint
    # where the decoder is all but constant, what varies is the noise
    ratio = fresh.embeddings.var(0) / np.maximum(released.embeddings.var(0), 1e-12)
    assert np.abs(np.median(ratio) - 1) < 0.1
    flags = ["--decoder", folder, "--seed", 0, "--sigma", 0, *EPOCHS]
    done = probing(roots, tmp_path, *flags, script="probing_noise_cvae")
    assert done.status == 0, done.err
    (path,) = (tmp_path / "logs" / "digits" / "pixels").iterdir()
    content = json.loads(path.read_text())
    assert content["settings"]["observation_noise"] == 0.5
    assert content["settings"]["variance"] == 0.5


# One's own data.


@pytest.mark.parametrize("colour", [False, True])
def test_a_folder_of_png_files_goes_through_all_steps(tmp_path, colour):
    rng = np.random.default_rng(0)
    for split, images in (("train", 30), ("test", 8)):
        for c, name in enumerate(("cat", "dog")):
            folder = tmp_path / "data" / "pets" / split / name
            folder.mkdir(parents=True)
            for i in range(images):
                pixels = rng.integers(0, 120, (6, 6, 3) if colour else (6, 6)) + 120 * c
                Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{i}.png")
    flags = [
        "--dataset", "pets", "--backbone", "pixels", "--database_root", tmp_path / "db",
        "--device", "cpu",
    ]  # fmt: skip
    done = call("create_db", *flags, "--dataset_root", tmp_path / "data")
    assert done.status == 0, done.err
    train = read(tmp_path / "db" / "pets" / "pixels" / "train.npz")
    assert train.embeddings.shape == (54, 108 if colour else 36)
    assert train.class_names == ["cat", "dog"]
    assert anonymize(flags, tmp_path, "--anonymizer", "ksame", "--k", 3).status == 0
    done = probing(flags, tmp_path, "--anonymizer", "ksame", "--k", 3, "--seed", 0)
    assert done.status == 0, done.err
    name = tmp_path / "logs" / "pets" / "pixels" / "pets_ksame-3-s0.json"
    assert json.loads(name.read_text())["auc"] == 100


def test_files_made_elsewhere_go_through_all_steps(tmp_path, digits):
    folder = tmp_path / "db" / "mine" / "theirs"
    folder.mkdir(parents=True)
    for split in SPLITS:
        part = getattr(digits, split)
        np.savez(folder / f"{split}.npz", embeddings=part.embeddings, labels=part.labels[:, None])
    blurred = digits.train.embeddings + 0.1
    np.savez(folder / "train_blurred.npz", embeddings=blurred, labels=digits.train.labels)
    flags = [
        "--dataset", "mine", "--backbone", "theirs", "--database_root", tmp_path / "db",
        "--device", "cpu",
    ]  # fmt: skip
    assert anonymize(flags, tmp_path, "--anonymizer", "ksame", "--k", 2).status == 0
    for release in (["--anonymizer", "ksame", "--k", 2], ["--release", "blurred"]):
        done = probing(flags, tmp_path, "--seed", 0, *release, *EPOCHS)
        assert done.status == 0, done.err
    names = sorted(path.name for path in (tmp_path / "logs" / "mine" / "theirs").iterdir())
    assert names == ["mine_blurred-s0.json", "mine_ksame-2-s0.json"]


def test_releases_whose_names_differ_by_the_seed_have_results_of_their_own(
    roots, tmp_path, database, digits
):
    for name, shift in (("mine", 0.1), ("mine-s0", 0.2)):
        moved = EmbeddingSet(digits.train.embeddings + shift, digits.train.labels)
        database.write("train", moved, name)
        done = probing(roots, tmp_path, "--release", name, "--seed", 0, *EPOCHS)
        assert done.status == 0, done.err
    one = result(tmp_path, "digits_mine-s0.json")
    other = result(tmp_path, "digits_mine-s0-s0.json")
    assert (one["id"], other["id"]) == ("mine", "mine-s0")
    assert one["inputs"]["release"] != other["inputs"]["release"]


def test_a_folder_that_belongs_to_another_backbone_is_refused(tmp_path, digits):
    """`a/b` and `a:b` have one folder; whose it is, its files say."""
    flags = ["--dataset", "digits", "--device", "cpu", "--database_root", tmp_path / "db"]
    theirs = Database(tmp_path / "db", "digits", "a/b")
    for split in SPLITS:
        part = getattr(digits, split)
        data = EmbeddingSet(part.embeddings, part.labels, {**part.meta, "backbone": "a/b"})
        theirs.write(split, data)
    ksame = ["--anonymizer", "ksame", "--k", 2]
    assert anonymize([*flags, "--backbone", "a/b"], tmp_path, *ksame).status == 0
    before = files_below(tmp_path)
    ours = [*flags, "--backbone", "a:b"]
    for done in (
        call("create_db", *ours),
        anonymize(ours, tmp_path, *ksame),
        probing(ours, tmp_path, *ksame),
    ):
        assert_one_line(done, "train.npz holds embeddings by backbone 'a/b', not 'a:b'")
    assert files_below(tmp_path) == before


# Bad input: one line, exit status 2, nothing written.

FLAGS = [
    ("probing", ["--anonymizer", "ksme"], "unknown anonymizer 'ksme'; did you mean 'ksame'"),
    ("probing", ["--anonymizer", "cvae-online"], "unknown anonymizer 'cvae-online'"),
    ("probing", ["--anonymizer", "ksame"], "ksame needs --k"),
    ("probing", ["--k", "5"], "unknown setting of identity 'k' (valid: none)"),
    ("probing", ["--anonymizer", "ksame", "--k", "5"], "train_ksame-5.npz does not exist"),
    ("probing", ["--release", "../train"], "'../train' is not a name"),
    ("probing", ["--release", "mine", "--k", "5"], "--k 5 has no effect"),
    ("probing", ["--release", "mine", "--anonymizer", "cvae"], "--anonymizer: not allowed with"),
    ("probing", ["--backbone", "resnet50"], "create_db.py --dataset digits --backbone resnet50"),
    ("probing", ["--dataset", "digitz"], "digitz/pixels/train.npz does not exist"),
    ("probing", ["--dataset", "../digits"], "'../digits' is not a name"),
    ("probing", ["--device", "gpu"], "'gpu' is none of auto, cpu"),
    ("probing", ["--device", "cuda:99"], "device 'cuda:99' is missing"),
    ("probing", ["--device", "mps"], "device 'mps' is missing"),
    ("probing", ["--learning_rate", "0"], "--learning_rate 0.0 must be greater than 0"),
    ("probing", ["--batch_size", "0"], "--batch_size 0 is below its minimum, 1"),
    ("probing", ["--num_epochs", "1.5"], "'1.5' is not a whole number"),
    ("probing", ["--seed", "-1"], "--seed: -1 is below 0"),
    ("probing", ["--sigma", "1"], "unknown argument '--sigma'"),
    ("probing", ["--head", "logit"], "unknown head 'logit'; did you mean 'logistic'"),
    ("probing", ["--head", "svm"], "unknown head 'svm' (valid: adam, logistic)"),
    ("probing", ["--clip", "0"], "--clip 0.0 must be greater than 0"),
    ("probing", ["--clip", "-10"], "--clip -10.0 must be greater than 0"),
    ("probing", ["--clip", "nan"], "--clip: nan is not finite"),
    ("probing", ["--clip", "ten"], "--clip: 'ten' is not a number"),
    (
        "probing",
        ["--head", "logistic", "-l", "0.1"],
        "--learning_rate 0.1 has no effect with --head logistic",
    ),
    (
        "probing_noise",
        ["--head", "logistic", "--patience", "9", "--sigma", "1"],
        "--patience 9 has no effect with --head logistic",
    ),
    (
        "probing_noise_cvae",
        ["--head", "logistic", "-e", "3", "--sigma", "1"],
        "--num_epochs 3 has no effect with --head logistic",
    ),
    ("probing", ["--fit_clip", "10"], "unknown setting of identity 'clip' (valid: none)"),
    (
        "probing",
        ["--anonymizer", "ksame", "--k", "5", "--observation_noise", "1"],
        "unknown setting of ksame 'observation_noise' (valid: block_rows, k, per_class",
    ),
    (
        "probing_noise_cvae",
        ["--sigma", "1", "--observation_noise", "-1"],
        "--observation_noise -1.0 is below its minimum, 0",
    ),
    (
        "probing_noise_cvae",
        [
            "--sigma",
            "1",
            "--anonymizer",
            "dpcvae-online",
            "--epsilon",
            "8",
            "--observation_noise",
            "1",
        ],
        "unknown setting of dpcvae-online 'observation_noise'",
    ),
    ("probing_noise", ["--sigma", "-1"], "--sigma: -1 is below 0"),
    ("probing_noise", ["--sigma", "nan"], "--sigma: nan is not finite"),
    ("probing_noise", [], "--sigma"),
    ("probing_noise_cvae", ["--sigma", "1", "--variance", "-1"], "--variance -1.0 is below"),
    ("probing_noise_cvae", ["--sigma", "1", "--anonymizer", "ksame"], "valid: cvae-online"),
    (
        "probing_noise_cvae",
        ["--sigma", "1", "--decoder", "mine", "--anonymizer", "cvae-online"],
        "--anonymizer: not allowed with argument --decoder",
    ),
    ("anonymize", [], "--anonymizer"),
    ("anonymize", ["--anonymizer", "ksame", "--k", "1"], "--k 1 is below its minimum, 2"),
    ("anonymize", ["--anonymizer", "ksame", "--k", "1294"], "larger than the 1293 rows"),
    (
        "anonymize",
        ["--anonymizer", "ksame", "--k", "200", "--per_class"],
        "larger than the 125 rows of class 8",
    ),
    ("anonymize", ["--anonymizer", "cvae", "--k", "5"], "unknown setting of cvae 'k' (valid: "),
    (
        "anonymize",
        ["--anonymizer", "kSAME", "--k", "5", "--observation_noise", "1"],
        "unknown setting of ksame 'observation_noise' (valid: block_rows, k, per_class",
    ),
    (
        "anonymize",
        ["--anonymizer", "cvae", "--observation_noise", "-0.5"],
        "--observation_noise -0.5 is below its minimum, 0",
    ),
    (
        "anonymize",
        ["--anonymizer", "cvae", "--observation_noise", "nan"],
        "--observation_noise: nan is not finite",
    ),
    (
        "anonymize",
        ["--anonymizer", "latent-ksame", "--k", "5", "--observation_noise", "-1"],
        "--observation_noise -1.0 is below its minimum, 0",
    ),
    ("anonymize", ["--anonymizer", "cvae", "--clip", "0"], "--clip 0.0 must be greater than 0"),
    ("anonymize", ["--anonymizer", "cvae", "--head", "logistic"], "'--head'"),
    ("anonymize", ["--anonymizer", "cvae", "--kl_weight", "-1"], "--kl_weight -1.0 is below"),
    ("anonymize", ["--anonymizer", "cvae", "--hidden_dim", "0"], "--hidden_dim 0 is below"),
    ("create_db", ["--dataset", "digitz"], "unknown dataset 'digitz'; did you mean 'digits'"),
    ("create_db", ["--backbone", "resnet5O"], "resnet50"),
    ("create_db", ["--num_wokers", "2"], "did you mean '--num_workers'"),
]


def assert_one_line(done, message):
    assert done.status == 2
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1, done.err
    assert message in done.err
    assert done.out == ""


@pytest.mark.parametrize(("script", "flags", "message"), FLAGS)
def test_bad_flags(tmp_path, roots, monkeypatch, script, flags, message):
    monkeypatch.chdir(tmp_path)
    before = files_below(tmp_path)
    assert_one_line(call(script, *roots, *flags), message)
    assert files_below(tmp_path) == before


X, Y = np.zeros((4, 64), np.float32), np.array([0, 1, 2, 3])
BAD_FILES = {
    "missing": (None, "val.npz does not exist"),
    "no array": ({"embeddings": X}, "no array 'labels'"),
    "dimensions": ({"embeddings": X[:, :3], "labels": Y}, "3 dimensions but"),
    "empty": ({"embeddings": X[:0], "labels": Y[:0]}, "empty"),
    "NaN": ({"embeddings": X + np.nan, "labels": Y}, "embeddings[0, 0] is nan"),
    "infinity": ({"embeddings": X - np.inf, "labels": Y}, "embeddings[0, 0] is -inf"),
    "pickle": ({"embeddings": X, "labels": np.array([{}] * 4)}, "pickled"),
    "negative": ({"embeddings": X, "labels": Y - 1}, "label -1 is negative"),
    "fractional": ({"embeddings": X, "labels": Y / 2}, "0.5 is not a whole number"),
    "multi-label": ({"embeddings": X, "labels": np.eye(4)}, "multi-label"),
    "unknown label": ({"embeddings": X, "labels": Y + 10}, "label 10 does not occur"),
}


@pytest.mark.parametrize("case", BAD_FILES)
@pytest.mark.parametrize("script", ["anonymize", "probing"])
def test_bad_files(tmp_path, roots, database, script, case):
    arrays, message = BAD_FILES[case]
    path = database.path("val")
    path.unlink()
    if arrays is not None:
        np.savez(path, **arrays)
    before = files_below(tmp_path)
    flags = {"anonymize": ["--anonymizer", "ksame", "--k", 2], "probing": ["--seed", 0]}[script]
    root = {"anonymize": "--ckpt_root", "probing": "--output_root"}[script]
    assert_one_line(call(script, *roots, root, tmp_path / "new", *flags), message)
    assert files_below(tmp_path) == before


def test_truncated_file(roots, database):
    path = database.path("test")
    path.write_bytes(path.read_bytes()[:-200])
    assert_one_line(call("probing", *roots), "truncated or damaged")


def test_a_release_of_other_embeddings_is_refused(roots, tmp_path, database, digits):
    assert anonymize(roots, tmp_path, "--anonymizer", "ksame", "--k", 2).status == 0
    database.write("train", EmbeddingSet(digits.train.embeddings * 2, digits.train.labels))
    done = probing(roots, tmp_path, "--anonymizer", "ksame", "--k", 2)
    assert_one_line(done, "run anonymize.py again")


@pytest.mark.parametrize("script", ["anonymize", "probing", "probing_noise_cvae"])
def test_a_folder_that_cannot_be_written(tmp_path, roots, script):
    (tmp_path / "file").write_text("in the way")
    before = files_below(tmp_path)
    flags = {
        "anonymize": ["--anonymizer", "cvae", "--ckpt_root", tmp_path / "file"],
        "probing": ["--output_root", tmp_path / "file" / "deeper"],
        "probing_noise_cvae": ["--sigma", 1, "--ckpt_root", tmp_path / "file"],
    }[script]
    assert_one_line(call(script, *roots, *flags), "is not a folder")
    assert files_below(tmp_path) == before


def test_a_full_disk(roots, tmp_path):
    """A device without space stands for it: every write to it fails with ENOSPC."""
    program = (
        "import sys; sys.path.insert(0, sys.argv.pop(1))\n"
        "import src.core.files, errno, os\n"
        "def full(*_): raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))\n"
        "src.core.files.os.fsync = full\n"
        "import probing; from src import cli; cli.run(probing.main)\n"
    )
    logs = tmp_path / "logs"
    command = [sys.executable, "-c", program, ROOT, *roots, "--output_root", logs, *EPOCHS]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.endswith("No space left on device\n")
    assert done.stderr.startswith("error: cannot write ")
    assert files_below(logs) == {}


def test_memory_that_runs_out_is_one_line(tmp_path, roots, database):
    before = files_below(tmp_path)
    flags = ["--anonymizer", "cvae", "--hidden_dim", 10**12, "--ckpt_root", tmp_path / "ckpts"]
    done = shell("anonymize.py", *roots, *flags)
    assert_one_line(done, "bytes could not be allocated; what helps: fewer rows or more memory")
    assert done.err.startswith("error: out of memory: ")
    assert files_below(tmp_path) == before


def test_a_list_for_a_single_flag_of_a_config_file(tmp_path, roots):
    config = tmp_path / "c.yaml"
    config.write_text("seed: [1, 2]")
    done = probing(roots, tmp_path, "--config", config)
    assert_one_line(done, "c.yaml: seed takes one value, not [1, 2]")


def test_bad_input_in_a_process_of_its_own(tmp_path, roots):
    begun = time.perf_counter()
    done = shell("probing.py", *roots, "--anonymizer", "ksme", cwd=tmp_path)
    assert time.perf_counter() - begun < 30
    assert_one_line(done, "unknown anonymizer 'ksme'")
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)]
)
def test_interrupted_at_work(tmp_path, roots, database, number, status):
    """Ctrl-C, a batch system's stop and kill -9 in the middle of a fit: the old files stay."""
    before = files_below(database.root)
    flags = ["--anonymizer", "cvae", "--patience", 10**6, "--num_epochs", 10**6]
    command = [sys.executable, ROOT / "anonymize.py", *roots, "--ckpt_root", tmp_path, *flags]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    environment.pop("TQDM_DISABLE")
    with subprocess.Popen(
        list(map(str, command)), stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        deadline = time.monotonic() + 60
        while "torch" not in _maps(process.pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(2)
        assert process.poll() is None
        process.send_signal(number)
        assert process.stderr is not None
        errors = process.stderr.read()
    assert process.returncode == status
    assert "Traceback" not in errors
    assert files_below(database.root) == before
    assert not list(tmp_path.rglob("*.safetensors"))


def _maps(pid):
    with open(f"/proc/{pid}/maps") as file:  # noqa: PTH123
        return file.read()
