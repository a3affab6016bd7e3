"""Values out of range, alone and together: one line, or a right result; never minutes of work."""

import time

import numpy as np
import pytest

from tests.anonymizers.dp.support import fit_at_the_command_line, google_epsilon, mechanisms

ROWS = np.random.default_rng(0).standard_normal((200, 8))

OUT_OF_RANGE = [
    ["--delta", "1e-16"],
    ["--delta", "1e-300"],
    ["--delta", "1"],
    ["--delta", "0.00499"],  # just below 1 / 200
    ["--delta", "0.00501"],
    ["--delta", "nan"],
    ["--epsilon", "1e300"],
    ["--epsilon", "1e-300"],
    ["--epsilon", "5e-324"],
    ["--epsilon", "1e300", "--delta", "1e-300", "--sampling_rate", "1e-300"],
    ["--epsilon", "0.002", "--epochs", "1000000", "--sampling_rate", "1"],
    ["--sampling_rate", "0.9999999999999999", "--epochs", "1", "--epsilon", "1e-3"],
    ["--sampling_rate", "1e-300"],
    ["--sampling_rate", "1.0000001"],
    ["--epochs", "1" + "0" * 400],
    ["--epochs", "1000000", "--sampling_rate", "0.5"],
    ["--count_share", "1e-300"],
    ["--count_share", "0.5", "--scaling_share", "0.5"],
    ["--count_share", "0.4999999999", "--scaling_share", "0.5"],
    ["--count_share", "0.9999", "--feature_min", "0", "--feature_max", "1"],
    ["--scaling_share", "nan"],
    ["--max_grad_norm", "1e300"],
    ["--max_grad_norm", "1e-300"],
    ["--learning_rate", "1e300"],
    ["--variance", "1e300"],
    ["--observation_std", "1e300"],
    ["--feature_min=-1e300", "--feature_max", "1e300"],
    ["--feature_min", "1", "--feature_max", "1.00000000001"],
]


@pytest.mark.parametrize("flags", OUT_OF_RANGE, ids=" ".join)
def test_values_out_of_range_are_refused_in_one_line(tmp_path, flags):
    started = time.monotonic()
    done, released = fit_at_the_command_line(tmp_path, ROWS, *flags)
    assert time.monotonic() - started < 20
    assert done.status == 2
    assert done.err.count("\n") == 1
    assert done.err.startswith("error: ")
    assert released is None
    assert not (tmp_path / "ckpts").exists()


@pytest.mark.parametrize(
    "flags",
    [
        ["--sampling_rate", "1"],
        ["--sampling_rate", "0.9999999999999999"],
        ["--delta", "0.001"],
        ["--epsilon", "100", "--delta", "1e-11"],
        ["--epsilon", "0.01"],
        ["--count_share", "0.0001", "--scaling_share", "0.0001"],
        [
            "--learning_rate",
            "1e-300",
            "--feature_min=-1e30",
            "--feature_max",
            "1e30",
            "--observation_std",
            "1e6",
        ],
    ],
    ids=" ".join,
)
def test_values_at_the_ends_of_their_ranges_give_a_release(tmp_path, flags):
    done, released = fit_at_the_command_line(tmp_path, ROWS, "--epochs", 2, *flags)
    assert done.status == 0, done.err
    assert np.isfinite(released.embeddings).all()
    facts = released.meta["facts"]
    assert 0 < facts["epsilon"] <= released.meta["settings"]["epsilon"]
    if facts["epsilon"] > 0.1 and facts["delta"] < 1e-9:
        assert google_epsilon(*mechanisms(facts), delta=facts["delta"]) <= facts["epsilon"]
