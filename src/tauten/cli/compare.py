"""``tauten compare``: which control helps, where, by how much, for sure."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from tauten.cli.imports import quick_imports
from tauten.cli.inference import add_plugin


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``tauten compare``."""
    add = parser.add_argument
    add("--recipe", default="emoji", help="synthetic, emoji (default), or one of 'tauten recipes'")
    add("--data", help="of the recipe, as of 'tauten train': NAME:FOLDER, a table, a tar, ...")
    add("--controls", help="names with commas between them; 'list' shows those of the recipe")
    add("--baseline", default="constant", help="what the others are compared with")
    add("--seeds", default="5", help="how many, or which: 3,4,5 (default 5)")
    add("--trials", type=int, default=6, help="settings tried per control on the validation split")
    add("--frozen", action="store_true", help="train heads on fixed features: seconds a training")
    add("--features", type=Path, help="a file of features (.npz) instead of the recipe's data")
    add("--hidden", type=int, default=0, help="width of a hidden layer in the heads")
    add("--force", choices=("plain", "equalized"), default="plain", help="of the schedules' loss")
    add("--family", help="the schedules' loss, such as infonce, dcl or maxmargin")
    add(
        "--metric",
        help="compared: hit@1, class_map, ... (default mean_recall, of views knn@10/class_mean)",
    )
    add("--bootstrap", type=int, default=2000, help="replicates (default 2000)")
    add("--processes", type=int, default=os.cpu_count() or 1, help="workers (default: all cores)")
    add("--threads", type=int, help="of torch in each worker (default: cores / processes)")
    add("--set", action="append", default=[], metavar="NAME=VALUE", help="for all trainings")
    add("--output", type=Path, default=Path("runs/compare"), help="folder written to")
    add("--rerun", type=Path, metavar="CELL", help="repeat one finished cell into --output")
    add_plugin(parser)
    parser.set_defaults(command=_compare)


def _compare(options: argparse.Namespace) -> None:
    with quick_imports():
        from tauten import comparison
        from tauten.comparison.options import seeds, settings

    if options.controls == "list":
        shared, _ = settings(options.set)
        known = comparison.Grid(
            options.output, options.recipe, family=options.family, settings=shared
        ).catalogue
        width = max(map(len, known))
        for method in known.values():
            why = f"; not here: {method.refused}" if method.refused else ""
            print(f"{method.name:{width}}  {method.what}{why}")
        return
    if options.rerun is not None:
        recorded, again = comparison.rerun(options.rerun, options.output)
        equal = (recorded.metrics, recorded.val) == (again.metrics, again.val)
        print(f"{options.rerun}: {'the same numbers' if equal else 'OTHER numbers'} again")
        if not equal:
            raise ValueError(f"val was {recorded.val!r}, is {again.val!r}: see {options.output}")
        return
    shared, pairs = settings(options.set)
    if options.data is not None:
        shared = {"data.source": options.data} | shared
    given = options.controls.split(",") if options.controls else ()
    grid = comparison.Grid(
        output=options.output,
        recipe=options.recipe,
        controls=given,
        baseline=options.baseline,
        seeds=seeds(options.seeds),
        mode="frozen" if options.frozen else "auto",
        trials=options.trials,
        force=options.force,
        family=options.family,
        hidden=options.hidden,
        features=options.features,
        synthetic=pairs,
        settings=shared,
        processes=options.processes,
        threads=options.threads,
    )
    summary = comparison.compare(grid, options.metric, options.bootstrap)
    print(summary.text)
    print(f"page: {summary.page}")
    failures = summary.summary.trained.failures
    if failures:
        first = f"{failures[0].task}: {failures[0].error}"
        raise ValueError(
            f"{len(failures)} trainings failed, the first is {first}. All are in "
            f"{options.output / 'failed.json'}; the same command tries them again"
        )
