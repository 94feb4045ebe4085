"""``tauten demo``: ways to set the temperature on real pairs, with a report."""

from __future__ import annotations

import argparse
from pathlib import Path

from tauten.cli.imports import quick_imports
from tauten.cli.processes import check_alone, launched


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``tauten demo``."""
    parser.add_argument(
        "--panel",
        choices=("schedules", "temperatures"),
        default="schedules",
        help="constant against MM-TS for two losses (default), or constant, MM-TS and learned τ",
    )
    parser.add_argument("--epochs", type=float, help="passes over the training pairs, per run")
    parser.add_argument("--seeds", type=int, default=1, help="seeds per variant (default 1)")
    parser.add_argument("--output", type=Path, default=Path("runs/demo"), help="folder written to")
    parser.set_defaults(command=_demo)


def _demo(options: argparse.Namespace) -> None:
    with quick_imports():
        from tauten.recipes import EPOCHS, run_demo

    with launched() as together:
        with together():
            check_alone("tauten demo")
        written = run_demo(
            options.output,
            EPOCHS if options.epochs is None else options.epochs,
            options.seeds,
            panel=options.panel,
        )
        print(f"report: {written}")
