"""Train a linear head on a release and evaluate it on the real test embeddings.

python probing.py --dataset digits --backbone pixels --seed 0
python probing.py --dataset digits --backbone pixels --anonymizer kSAME --k 5 --seed 0
"""

from __future__ import annotations

from collections.abc import Sequence

from src import cli


def main(argv: Sequence[str] | None = None) -> None:
    """Clean test features, one result."""
    parser = cli.probing_parser(__doc__, output_root="assets/logs")
    cli.probe_release(parser.parse(argv), sigmas=[None])


if __name__ == "__main__":
    cli.run(main)
