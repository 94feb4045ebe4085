"""``tauten cluster``: k-means over caption embeddings."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``tauten cluster``."""
    parser.add_argument("captions", type=Path, help=".jsonl, .json, .csv, .txt or .parquet")
    parser.add_argument("-k", type=int, required=True, help="number of clusters, 2 or more")
    parser.add_argument("--output", type=Path, required=True, help=".parquet; a .png goes beside")
    parser.add_argument("--column", default="caption", help="column with the text")
    parser.add_argument("--model", default="minilm", help="minilm (offline), or a model's name")
    parser.add_argument("--seed", type=int, default=0, help="of k-means (default 0)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    parser.set_defaults(command=_cluster)


def _cluster(options: argparse.Namespace) -> None:
    from tauten.structure import cluster_file

    clusters = cluster_file(
        options.captions,
        options.k,
        options.output,
        seed=options.seed,
        model=options.model,
        column=options.column,
        overwrite=options.overwrite,
    )
    counts = clusters.counts
    print(
        f"{len(clusters.assignment)} captions in {len(counts)} clusters of "
        f"{int(counts.min())} to {int(counts.max())}: {options.output}"
    )
