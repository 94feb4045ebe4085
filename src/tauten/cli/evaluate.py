"""``tauten evaluate``: retrieval metrics of a run, of another model, or of two files."""

from __future__ import annotations

import argparse
from pathlib import Path

from tauten.cli.imports import quick_imports
from tauten.cli.inference import add_plugin, device


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``tauten evaluate``."""
    add = parser.add_argument
    add("checkpoint", type=Path, nargs="?", help="run, checkpoint, or any model of 'tauten embed'")
    add("--data", type=Path, help="other pairs; default: the run's own data")
    add("--split", choices=("train", "val", "test"), help="default: test of the run's own data")
    add("--image", help="column of --data or --table; default: as of the run's data, or image")
    add("--caption", help="column of --data or --table; default: as of the run's data, or caption")
    add("--label", help="class column of --data or --table, for head, mid and tail")
    add("--negatives", help="column of --data with texts that are wrong for their sample")
    add(
        "--protocol",
        choices=("all", "1k", "5k", "1k-of-5k"),
        default="all",
        help="of --data: all captions, or as published for Flickr30K (1k) and MSCOCO",
    )
    add("--x", type=Path, help="instead of a run: .npy of pictures' embeddings, (N, d)")
    add("--y", type=Path, help="and of their captions', (M, d)")
    add("--table", type=Path, help="of --x and --y: what the rows are; default: pairs, row by row")
    add("--count", help="column of --table: training samples of the class; default: its pictures")
    add("--groups", choices=("counts", "thirds"), default="counts", help="not of a run (counts)")
    add("--head", type=int, default=100, help="not of a run: least count of head (100)")
    add("--tail", type=int, default=20, help="not of a run: least count that is not tail (20)")
    add("--bootstrap", type=int, default=1000, help="replicates (default 1000)")
    add("--output", type=Path, help="json file for all metrics")
    add("--report", type=Path, help="not of a run: folder for embeddings and a report page")
    add("--all", action="store_true", help="print all metrics, not the main ones as a table")
    add_plugin(parser)
    parser.set_defaults(command=_evaluate)


def _evaluate(options: argparse.Namespace) -> None:
    files = {f"--{name}": getattr(options, name) for name in ("x", "y")}
    if options.table is not None or any(files.values()):
        _evaluate_files(options)
        return
    if options.checkpoint is None:
        raise ValueError("give a run or checkpoint, or two files of embeddings with --x and --y")
    from tauten.inference.loading import is_run

    if not is_run(options.checkpoint):
        _evaluate_model(options)
        return
    of_table = {name: getattr(options, name) for name in ("count", "groups", "head", "tail")}
    usual = {"count": None, "groups": "counts", "head": 100, "tail": 20}
    if of_table != usual:
        raise ValueError(
            "--count, --groups, --head and --tail are of --x and --y, or of a model that is no "
            "run: a run keeps those of its training"
        )
    if options.report is not None:
        raise ValueError(
            "--report is of a model that is no run: leave it out, and write the run's page by "
            f"'tauten report {options.checkpoint}'"
        )
    if options.data is not None and options.split is not None:
        raise ValueError(
            f"--split {options.split} is of the run's own data, and of --data all is used (of "
            "NAME:FOLDER its test split): give a table of that split, or hf:NAME@SPLIT, and leave "
            "--split out"
        )
    with quick_imports():
        from tauten.training import evaluate

    print_metrics(
        evaluate(
            options.checkpoint,
            options.data,
            options.split or "test",
            output=options.output,
            label=options.label,
            image=options.image,
            caption=options.caption,
            negatives=options.negatives,
            protocol=options.protocol,
            bootstrap=options.bootstrap,
        ),
        options,
    )


def _evaluate_model(options: argparse.Namespace) -> None:
    """Evaluate a model that is no run."""
    if options.data is None:
        raise ValueError(f"{options.checkpoint} is no run with data of its own: give --data")
    if options.count is not None or options.protocol != "all":
        raise ValueError("--count is of --table, and --protocol of a run: leave them out")
    if options.negatives is not None:
        raise ValueError(f"--negatives is of a run, and {options.checkpoint} is none: leave it out")
    with quick_imports():
        from tauten.inference import evaluate_model

    names = ("split", "image", "caption", "label", "groups", "head", "tail", "bootstrap", "output")
    chosen = {name: getattr(options, name) for name in names}
    metrics = evaluate_model(
        *(str(options.checkpoint), str(options.data)),
        **chosen,
        keep=options.report,
        device=device(),
    )
    print_metrics(metrics, options)
    write_page(options)


def _evaluate_files(options: argparse.Namespace) -> None:
    for name in ("x", "y"):
        if getattr(options, name) is None:
            raise ValueError(f"--{name} is missing: --x, --y and perhaps --table go together")
    given = {"a run": options.checkpoint, "--data": options.data}
    wrong = [name for name, value in given.items() if value is not None]
    wrong += ["--protocol"] if options.protocol != "all" else []
    wrong += ["--negatives"] if options.negatives is not None else []
    if wrong:
        raise ValueError(f"{wrong[0]} and --x, --y exclude each other: leave one out")
    with quick_imports():
        from tauten.inference import evaluate_files

    names = ("image", "caption", "label", "count", "groups", "head", "tail", "bootstrap", "output")
    chosen = {name: getattr(options, name) for name in names}
    metrics = evaluate_files(*(options.x, options.y, options.table), **chosen, keep=options.report)
    print_metrics(metrics, options)
    write_page(options)


def write_page(options: argparse.Namespace) -> None:
    """Write the report page of an evaluation, if one is wanted."""
    if options.report is not None:
        from tauten import report

        model = options.checkpoint or f"{options.x} and {options.y}"
        title = " on ".join(str(part) for part in (model, options.data or options.table) if part)
        print(f"report: {report.write([options.report], options.report, title)}")


def print_metrics(metrics: dict[str, float], options: argparse.Namespace) -> None:
    """Print the main metrics as a table, or all of them, and where the others are."""
    from tauten.outcome.printed import everything, number, table

    if options.all:
        print(everything(metrics))
        return
    print(table(metrics))
    written = "" if options.output is None else f", written to {options.output}"
    print(
        f"{number(metrics)} metrics in all{written or ': --all prints them, --output keeps them'}"
    )
