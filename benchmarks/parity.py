"""Agreement with the released implementation: utility and distance on the digits, over seeds.

python -m benchmarks.parity
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from src import cli, progress
from src.files import read_json

if TYPE_CHECKING:
    import torch

    from src.database import Splits

REFERENCE = Path(__file__).with_name("parity.json")
SEEDS = range(5)


class Comparison(NamedTuple):
    """A mean over seeds beside the released implementation's."""

    key: str  # anonymizer|sigma
    quantity: str  # "auc" in percent, or "average_mindistance"
    ours: float
    reference: float
    tolerance: float

    @property
    def ok(self) -> bool:
        """Whether the two agree."""
        return abs(self.ours - self.reference) <= self.tolerance

    def __str__(self) -> str:
        return (
            f"{self.key:12} {self.quantity:20} {self.ours:9.4f} {self.reference:9.4f} "
            f"{self.ours - self.reference:+9.4f} {self.tolerance:9.3f}  "
            f"{'ok' if self.ok else 'MISSED'}"
        )


def compare(
    splits: Splits,
    keys: Iterable[str],
    seeds: Sequence[int],
    device: torch.device,
    *,
    done: Callable[[], object] = lambda: None,
) -> list[Comparison]:
    """Compare our means over `seeds` with the reference's, for each key and quantity.

    Args:
        splits: the digits without their constant pixels.
        keys: `anonymizer|sigma`, as in the reference file.
        done: called after each fitted head.
    """
    reference = read_json(REFERENCE)
    sigmas: dict[str, list[str]] = {}
    for key in keys:
        name, _, sigma = key.partition("|")
        sigmas.setdefault(name, []).append(sigma)
    comparisons = []
    for name, levels in sigmas.items():
        runs = []
        for seed in seeds:
            runs.append(_run(splits, name, [float(s) for s in levels], seed, device))
            done()
        for i, sigma in enumerate(levels):
            key = f"{name}|{sigma}"
            for quantity, there in reference[key].items():
                ours = sum(run[i][quantity] for run in runs) / len(runs)
                comparisons.append(
                    Comparison(key, quantity, ours, there["mean"], there["tolerance"])
                )
    return comparisons


def _run(
    splits: Splits, name: str, sigmas: Sequence[float], seed: int, device: torch.device
) -> list[dict[str, Any]]:
    """Both quantities at each sigma, for a head on the release `identity`, `ksame-5`, ..."""
    from src import anonymizers, probe

    method, _, k = name.partition("-")
    anonymizer = anonymizers.get(method)
    released = anonymizers.anonymize(
        anonymizer,
        anonymizer.parse({"k": int(k)} if k else {}),
        splits.train,
        splits.val,
        seed=seed,
        resources=anonymizers.Resources(device),
    )
    fitted = probe.probe_release(splits, released, probe.HeadSettings(), seed=seed, device=device)
    return [
        {
            "auc": probe.evaluate(fitted, splits.test, sigma, seed=seed).auc,
            "average_mindistance": fitted.average_mindistance,
        }
        for sigma in sigmas
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the comparison; 1 where something disagrees."""
    parser = cli.Parser(__doc__)
    cli.add_device_flag(parser)
    args = parser.parse(argv)

    from benchmarks.data import digits, varying
    from src import devices

    keys = [key for key in read_json(REFERENCE) if key != "about"]
    fits = len({key.partition("|")[0] for key in keys}) * len(SEEDS)
    with progress.bar(total=fits, desc="parity", unit="head") as bar:
        comparisons = compare(
            varying(digits()), keys, SEEDS, devices.resolve(args.device), done=bar.update
        )
    titles = f"{'ours':>9} {'released':>9} {'difference':>9} {'tolerance':>8}"
    print(f"{'release|sigma':12} {'quantity, mean of seeds 0-4':19}{titles}")
    print(*comparisons, sep="\n")
    missed = sum(not comparison.ok for comparison in comparisons)
    print(f"{len(comparisons) - missed} of {len(comparisons)} agree")
    return int(missed > 0)


if __name__ == "__main__":
    cli.run(main)
