"""Agreement with the released implementation: utility and distance on the digits, over seeds.

python -m benchmarks.parity
python -m benchmarks.parity --backbone tf_efficientnet_lite0   (after create_db.py)
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from src import cli
from src.core import progress
from src.core.files import read_json

if TYPE_CHECKING:
    import torch

    from src.database import Splits

REFERENCES = {
    "pixels": Path(__file__).with_name("parity.json"),
    "tf_efficientnet_lite0": Path(__file__).with_name("parity_lite0.json"),
}
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
    backbone: str = "pixels",
    done: Callable[[], object] = lambda: None,
) -> list[Comparison]:
    """Compare our means over `seeds` with the reference's, for each key and quantity.

    Args:
        splits: the digits by that backbone, without features that are constant in train.
        keys: `anonymizer|sigma`, as in the reference file.
        done: called after each fitted head.
    """
    reference = read_json(REFERENCES[backbone])
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
) -> list[dict[str, float]]:
    """Both quantities at each sigma, for a head on the release `identity`, `ksame-5`, ..."""
    from src.anonymizers import methods
    from src.core.devices import Resources
    from src.probing import head, metrics
    from src.probing.settings import HeadSettings

    method, _, k = name.partition("-")
    anonymizer = methods.parse(method, {"k": int(k)} if k else {})
    resources = Resources(device)
    released = anonymizer.anonymize(splits.train, splits.val, seed=seed, resources=resources)
    fitted = head.fit(released, splits, HeadSettings(), seed=seed, device=device)
    distance = metrics.average_mindistance(released, splits.train, device).mean
    return [
        {
            "auc": head.evaluate(fitted, splits.test, sigma, seed=seed).auc,
            "average_mindistance": distance,
        }
        for sigma in sigmas
    ]


def main(argv: Sequence[str] | None = None) -> int:
    """Print the comparison; 1 where something disagrees."""
    parser = cli.Parser(__doc__)
    parser.add_argument(
        "--backbone",
        choices=REFERENCES,
        default="pixels",
        help="pixels are made here, other embeddings read (default: %(default)s)",
    )
    cli.add_folder_flag(parser, "--database_root", "assets/database", "embeddings")
    cli.add_device_flag(parser)
    args = parser.parse(argv)

    from benchmarks.data import digits, varying
    from src.core import devices
    from src.database import Database

    pixels = args.backbone == "pixels"
    database = Database(args.database_root, "digits", args.backbone)
    splits = varying(digits() if pixels else database.read())
    keys = [key for key in read_json(REFERENCES[args.backbone]) if key != "about"]
    fits = len({key.partition("|")[0] for key in keys}) * len(SEEDS)
    with progress.bar(total=fits, desc="parity", unit="head") as bar:
        device = devices.resolve(args.device)
        comparisons = compare(splits, keys, SEEDS, device, backbone=args.backbone, done=bar.update)
    titles = f"{'ours':>9} {'released':>9} {'difference':>9} {'tolerance':>8}"
    print(f"{'release|sigma':12} {'quantity, mean of seeds 0-4':19}{titles}")
    print(*comparisons, sep="\n")
    missed = sum(not comparison.ok for comparison in comparisons)
    print(f"{len(comparisons) - missed} of {len(comparisons)} agree")
    return int(missed > 0)


if __name__ == "__main__":
    cli.run(main)
