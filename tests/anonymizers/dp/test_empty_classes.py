"""Classes that have a name and no training row."""

import json

from src.anonymizers import methods
from src.anonymizers.latent import classifiers
from src.database import EmbeddingSet
from tests.anonymizers.dp.support import CPU
from tests.support import call


def test_a_class_with_a_name_and_no_row(roots, database, digits, tmp_path):
    """The fit has spent its ε: what it gave must be of use."""
    for split in ("train", "val", "test"):
        data = getattr(digits, split)
        rows = (data.labels != 9) & (data.labels != 4) if split == "train" else data.labels != 9
        database.write(split, EmbeddingSet(data.embeddings[rows], data.labels[rows], data.meta))
    folders = ["--ckpt_root", tmp_path / "ckpts"]
    logs = ["--output_root", tmp_path / "logs"]
    fit = ["--anonymizer", "dpcvae", "--epsilon", 2, "--epochs", 2, "--seed", 0]
    online = ["--anonymizer", "dpcvae-online", *fit[2:]]
    few = ["--shadows", 2, "--bootstrap", 20]
    bundle = tmp_path / "bundle"
    says = ["--license", "CC0", "--description", "digits"]
    for script, *flags in (
        ["anonymize", *folders, *fit],
        ["probing", *logs, *fit, "-e", 1],
        ["probing", *logs, *fit, "--head", "logistic"],
        ["probing_noise", *logs, *fit, "-e", 1, "--sigma", 0],
        ["probing_noise_cvae", *folders, *logs, *online, "-e", 1, "--sigma", 0],
        ["src.audit.__main__", *logs, *fit, *few],
    ):
        done = call(script, *roots, *flags)
        assert done.status == 0, (script, done.err)
    names = ", ".join(digits.train.class_names[label] for label in (4, 9))
    assert f"nobody is a member there: class {names}" in done.out
    done = call("src.bundle.__main__", "create", *roots, *folders, *fit, *says, "--output", bundle)
    assert done.status == 0, done.err
    sheet = json.loads((bundle / "datasheet.json").read_text())
    assert [row["rows"] > 0 for row in sheet["classes"]] == [True] * 10
    done = call("src.bundle.__main__", "verify", bundle)
    assert done.status == 0, done.err


def test_other_methods_with_a_class_that_has_validation_rows_alone(digits):
    kept = digits.train.labels != 9
    train = EmbeddingSet(
        digits.train.embeddings[kept], digits.train.labels[kept], digits.train.meta
    )
    method = methods.parse("cvae", {"num_epochs": 1})
    assert 9 not in method.release(train, digits.val, seed=0, resources=CPU).labels
    task = classifiers.fit_task(train, digits.val, seed=0, resources=CPU)
    assert 0.5 < classifiers.task_accuracy(task, digits.val) < 1


def test_validation_rows_of_other_classes_alone(roots, database, digits):
    val, nines = digits.val, digits.val.labels == 9
    database.write("val", EmbeddingSet(val.embeddings[nines], val.labels[nines], val.meta))
    train, kept = digits.train, digits.train.labels != 9
    database.write("train", EmbeddingSet(train.embeddings[kept], train.labels[kept], train.meta))
    done = call("anonymize", *roots, "--anonymizer", "dpcvae", "--epsilon", 2)
    assert (done.status, done.err.count("\n")) == (2, 1)
    assert "val.npz has no row of a class" in done.err
