"""``tauten report``: one page that compares finished runs."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``tauten report``."""
    parser.add_argument("runs", nargs="+", type=Path, help="run folders")
    parser.add_argument("--output", type=Path, default=Path("runs/report"), help="folder or .html")
    parser.set_defaults(command=_report)


def _report(options: argparse.Namespace) -> None:
    from tauten import report

    print(f"report: {report.write(options.runs, options.output)}")
