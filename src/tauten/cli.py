"""The command line: ``tauten demo | train | evaluate | cluster | report | recipes``."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

#: short forms of the options of ``tauten train`` that are typed most
SHORT = {
    "--data": "--data.source",
    "--epochs": "--optim.epochs",
    "--strict": "--data.strict",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after ``tauten``; those of the process when not given.

    Returns:
        0, or 1 after one line on standard error when the command cannot do what was asked.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    parser = _parser()
    options = (
        argparse.Namespace(command=_train, words=words[1:])
        if words[:1] == ["train"]
        else parser.parse_args(words)
    )
    command: Callable[[argparse.Namespace], None] | None = getattr(options, "command", None)
    if command is None:
        parser.print_help()
        return 0
    logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    for noisy in ("httpx", "datasets", "transformers", "sentence_transformers", "faiss"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        command(options)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError, ImportError, ArithmeticError) as error:
        print(f"tauten: {' '.join(str(error).split())}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("tauten: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tauten",
        description="Temperature and margin control for contrastive learning on long-tailed data.",
    )
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")

    demo = commands.add_parser(
        "demo", help="ways to set the temperature on real long-tailed pairs, with a report"
    )
    demo.add_argument(
        "--panel",
        choices=("schedules", "temperatures"),
        default="schedules",
        help="constant against MM-TS for two losses (default), or constant, MM-TS and learned τ",
    )
    demo.add_argument("--epochs", type=float, help="passes over the training pairs, per run")
    demo.add_argument("--seeds", type=int, default=1, help="seeds per variant (default 1)")
    demo.add_argument("--output", type=Path, default=Path("runs/demo"), help="folder written to")
    demo.set_defaults(command=_demo)

    commands.add_parser("train", help="train a recipe, or go on where it was interrupted")

    evaluate = commands.add_parser("evaluate", help="retrieval metrics of a run or checkpoint")
    evaluate.add_argument("checkpoint", type=Path, help="run folder or checkpoint")
    evaluate.add_argument("--data", type=Path, help="other pairs; default: the run's own data")
    evaluate.add_argument("--split", choices=("train", "val", "test"), default="test")
    evaluate.add_argument("--label", help="class column of --data, for head, mid and tail")
    evaluate.add_argument("--bootstrap", type=int, default=1000, help="replicates (default 1000)")
    evaluate.add_argument("--output", type=Path, help="json file for all metrics")
    evaluate.set_defaults(command=_evaluate)

    cluster = commands.add_parser("cluster", help="k-means over caption embeddings, with counts")
    cluster.add_argument("captions", type=Path, help=".jsonl, .json, .csv, .txt or .parquet")
    cluster.add_argument("-k", type=int, required=True, help="number of clusters, 2 or more")
    cluster.add_argument("--output", type=Path, required=True, help=".parquet; a .png goes beside")
    cluster.add_argument("--column", default="caption", help="column with the text")
    cluster.add_argument("--model", default="minilm", help="minilm (offline), or a model's name")
    cluster.add_argument("--seed", type=int, default=0, help="of k-means (default 0)")
    cluster.add_argument("--overwrite", action="store_true", help="replace an existing output")
    cluster.set_defaults(command=_cluster)

    report = commands.add_parser("report", help="one HTML page that compares finished runs")
    report.add_argument("runs", nargs="+", type=Path, help="run folders")
    report.add_argument("--output", type=Path, default=Path("runs/report"), help="folder or .html")
    report.set_defaults(command=_report)

    recipes = commands.add_parser("recipes", help="what 'tauten train' knows")
    recipes.set_defaults(command=_recipes)
    return parser


def _demo(options: argparse.Namespace) -> None:
    from tauten.recipes import EPOCHS, run_demo

    written = run_demo(options.output, options.epochs or EPOCHS, options.seeds, panel=options.panel)
    print(f"report: {written}")


def _train(options: argparse.Namespace) -> None:
    if not options.words or options.words[0] in ("-h", "--help"):
        print("usage: tauten train RECIPE [OPTIONS]\n")
        print("'tauten train RECIPE --help' lists the options of a recipe with their defaults.\n")
        _recipes(options)
        return
    import tyro

    from tauten.recipes import EXPERIMENTS, get
    from tauten.training import Config, train

    name, *words = options.words
    if name in EXPERIMENTS:
        print(f"wrote {tyro.cli(EXPERIMENTS[name], prog=f'tauten train {name}', args=words)}")
        return
    config = tyro.cli(
        Config,
        prog=f"tauten train {name}",
        description=f"{get(name).__doc__} Short forms: {', '.join(SHORT)}.",
        default=get(name)(),
        args=[SHORT.get(word, word) for word in words],
    )
    result = train(config)
    _print_metrics(result.test)
    print(f"run: {result.output}")


def _evaluate(options: argparse.Namespace) -> None:
    from tauten.training import evaluate

    _print_metrics(
        evaluate(
            options.checkpoint,
            options.data,
            options.split,
            output=options.output,
            label=options.label,
            bootstrap=options.bootstrap,
        )
    )


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


def _report(options: argparse.Namespace) -> None:
    from tauten import report

    print(f"report: {report.write(options.runs, options.output)}")


def _recipes(options: argparse.Namespace) -> None:
    from tauten.recipes import EXPERIMENTS, RECIPES, describe

    lines = describe()
    width = max(map(len, lines))
    for title, names in (("recipes", RECIPES), ("experiments", EXPERIMENTS)):
        print(f"{title}:")
        for name in names:
            print(f"  {name:{width}}  {lines[name]}")


def _print_metrics(metrics: dict[str, float]) -> None:
    """The metrics, each with its interval if it has one; ranks and shares as they are."""
    for name, value in metrics.items():
        if name.endswith(("/low", "/high")):
            continue
        line = f"{name:28}{value:10.4f}"
        if f"{name}/low" in metrics:
            line += f"  [{metrics[f'{name}/low']:.4f}, {metrics[f'{name}/high']:.4f}]"
        print(line)


if __name__ == "__main__":
    sys.exit(main())
