"""Train a linear head on a release and evaluate it on test embeddings with Gaussian noise.

python probing_noise.py --dataset digits --backbone pixels --anonymizer kSAME --k 5 --sigma 1 2
"""

from __future__ import annotations

from collections.abc import Sequence

from src import cli


def main(argv: Sequence[str] | None = None) -> None:
    """Noisy test features, a result for each sigma."""
    parser = cli.probing_parser(__doc__, output_root="assets/logs_noise")
    cli.add_sigma_flag(parser)
    args = parser.parse(argv)
    cli.probe_release(args, sigmas=args.sigma)


if __name__ == "__main__":
    cli.run(main)
