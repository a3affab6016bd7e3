"""A sweep says what its private releases spend, and keeps to the dataset's budget."""

import pytest
import yaml

from src.anonymizers.dp import ledger
from tests.support import call


@pytest.fixture
def sweep(tmp_path, database):
    content = {
        "name": "spending",
        "datasets": ["digits"],
        "backbones": ["pixels"],
        "seeds": [0, 1, 2],
        "head": {"num_epochs": 1},
        "runs": [{"anonymizer": "dpgaussian", "epsilon": 1}, {"anonymizer": "identity"}],
    }
    path = tmp_path / "spending.yaml"
    path.write_text(yaml.safe_dump(content))

    def run(*argv):
        roots = ["--database_root", database.root, "--output_root", tmp_path / "logs"]
        return call(
            "src.sweep.__main__",
            *(path, *roots, "--ckpt_root", tmp_path / "ckpts", "--jobs", "1", "--device", "cpu"),
            *argv,
        )

    return run


def test_every_seed_spends_and_the_plan_says_the_sum(sweep, database):
    planned = sweep("--dry_run")
    said = "digits: 3 private releases to make, each of which spends: their epsilon adds up to 3"
    assert said in planned.out
    assert not (database.root / "digits" / ledger.NAME).exists()
    done = sweep()
    assert done.status == 0, done.err
    kept = ledger.read(database.root / "digits" / ledger.NAME)
    assert [entry.release for entry in kept.releases] == [
        f"dpgaussian-eps1-s{s}" for s in range(3)
    ]
    assert "private releases" not in sweep("--dry_run").out


def test_what_exceeds_the_budget_fails_alone(sweep, database):
    path = database.root / "digits" / ledger.NAME
    ledger.write(path, ledger.Ledger(budget=1.2))
    done = sweep()
    assert done.status == 1
    assert done.err.count("above the budget of 1.2") == 2
    assert len(ledger.read(path).releases) == 1
