"""The command line: ``tauten demo | train | evaluate | embed | search | report | compare ...``."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import tauten
from tauten.extras import explained

if TYPE_CHECKING:
    from tauten.training import Config


#: options that name a file or a folder
_WRITTEN = ("--output", "--json")
_READ = (
    "--data",
    "--x",
    "--y",
    "--table",
    "--features",
    "--root",
    "--rerun",
    "--model",
    "--init",
    "--config",
)
#: options of a configuration that are options of ``tauten evaluate --data``
_OF_DATA = re.compile(
    r"(?:--|(?<![-\w./]))data\.(image|caption|negatives|label|protocol|val|test)(?![\w./])"
)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after ``tauten``; those of the process when not given.

    Returns:
        0, or 1 after one line on standard error when the command cannot do what was asked.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not _speaks():
        os.environ["TQDM_DISABLE"] = "1"
    if "--no-progress" in words or not sys.stderr.isatty():
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
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
    level = logging.INFO if _speaks() else logging.ERROR
    logging.basicConfig(level=level, format="%(name)s: %(message)s")
    for noisy in ("httpx", "datasets", "transformers", "sentence_transformers", "faiss"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        _check_named(words)
        command(options)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError, ImportError, ArithmeticError) as error:
        if isinstance(error, ModuleNotFoundError):
            error = explained(f"tauten {words[0]}", error)
        said = " ".join(str(error).split())
        if words[:1] in (["train"], ["export"]) and not isinstance(error, ImportError):
            from tauten.training.options.words import as_typed

            said = as_typed(said)
        if words[:1] in (["evaluate"], ["embed"], ["export"], ["data"]):
            said = _OF_DATA.sub(r"--\1", said).replace("overwrite=True", "--overwrite")
        print(f"tauten: {said}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        if _speaks():
            said = str(stop) or "the last checkpoint, if there is one, stays"
            print(f"tauten: interrupted: {said}; the same command goes on from it", file=sys.stderr)
        return 130
    return 0


def _check_named(words: Sequence[str]) -> None:
    """Refuse an empty file or folder, as of a shell variable that is not set."""
    split = [part for word in words for part in (word.split("=", 1) if "--" in word else [word])]
    for name, value in pairwise(split):
        wanted = next((o for o in (*_WRITTEN, *_READ) if o.startswith(name)), None)
        if wanted is not None and len(name) > 2 and not value.strip():
            remedy = f"name what to {'write to' if wanted in _WRITTEN else 'read'}"
            raise ValueError(f"{wanted} is empty, as of a shell variable that is not set: {remedy}")


def _processes() -> int:
    """Return how many processes a launcher started; 1 without a launcher."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def _check_alone(what: str) -> None:
    if _processes() > 1:
        raise ValueError(f"{what} runs on one process, and a launcher started {_processes()}")


def _speaks() -> bool:
    """Return whether this process prints: the only one, or the first that a launcher started."""
    return os.environ.get("RANK", "0") == "0"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tauten",
        description="Temperature and margin control for contrastive learning on long-tailed data.",
    )
    parser.add_argument("--version", action="version", version=f"tauten {tauten.__version__}")
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

    _evaluate_options(
        commands.add_parser("evaluate", help="retrieval metrics of a run, or of two files")
    )
    _embed_options(commands.add_parser("embed", help="embed pictures and captions with a model"))
    _export_options(commands.add_parser("export", help="a trained model for other libraries"))
    _search_options(commands.add_parser("search", help="what is like a text or a picture"))

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

    data = commands.add_parser("data", help="known data sets, and whether one is as published")
    data_commands = data.add_subparsers(title="commands", metavar="COMMAND", required=True)
    listed = data_commands.add_parser("list", help="the data sets that can be read and checked")
    listed.set_defaults(command=_data_list)
    _check_options(
        data_commands.add_parser("check", help="known data beside the published numbers; your own")
    )
    icons = data_commands.add_parser(
        "icons", help="make a long-tailed set of pictures and names from the npm package of icons"
    )
    icons.add_argument("package", type=Path, help="the unpacked package @tabler/icons")
    icons.add_argument("--output", type=Path, required=True, help="folder written to")
    icons.add_argument("--size", type=int, default=64, help="side of a picture in pixels (64)")
    icons.set_defaults(command=_data_icons)

    _compare_options(
        commands.add_parser("compare", help="which control helps, where, by how much, for sure")
    )

    recipes = commands.add_parser("recipes", help="what 'tauten train' knows")
    recipes.add_argument("name", nargs="?", help="one of them, with all that is known of it")
    recipes.set_defaults(command=_recipes)
    return parser


def _check_options(check: argparse.ArgumentParser) -> None:
    add = check.add_argument
    add("name", help="one of 'tauten data list', or your own data as of 'tauten train --data'")
    add("--root", type=Path, help="folder of a known data set")
    add("--all", action="store_true", help="of a known one: decode everything, not 64 samples")
    add("--json", type=Path, help="of a known one: write the result to this file too")
    add("--image", default="image", help="of your own: column of the pictures (image)")
    add("--caption", default="caption", help="of your own: column of the captions (caption)")
    add("--label", help="of your own: column of the classes; default: label, if there is one")
    add("--val", help="of your own: validation data; default: a split column, else a share")
    add("--test", help="of your own: test data, likewise")
    add("--views", action="store_true", help="of your own: two views, without captions")
    add("--texts", action="store_true", help="of your own: --image is a column of texts, too")
    check.set_defaults(command=_data_check)


def _evaluate_options(evaluate: argparse.ArgumentParser) -> None:
    add = evaluate.add_argument
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
    evaluate.set_defaults(command=_evaluate)


def _embed_options(embed: argparse.ArgumentParser) -> None:
    add = embed.add_argument
    add("model", help="run folder, folder of a saved model, hf:, clip:, siglip:, st: or open_clip:")
    add("data", nargs="?", help="as of 'tauten train', or a folder of pictures; default: the run's")
    add("--output", type=Path, required=True, help="folder written to; again after a kill: goes on")
    add("--split", choices=("train", "val", "test"), help="default: all of it; the run's own: test")
    add("--image", help="column of the pictures; default: as of the run's data, or image")
    add("--caption", help="column of the captions; default: as of the run's data, or caption")
    add("--label", help="column of the classes; default: label, if there is one")
    add("--batch-size", type=int, default=64, help="pictures or texts at a time (64)")
    add("--block", type=int, default=4096, help="rows written at a time (4096)")
    add("--device", help="cpu, cuda, ...; default: cuda if there is one")
    add("--overwrite", action="store_true", help="replace embeddings of another model or data")
    embed.set_defaults(command=_embed)


def _export_options(export: argparse.ArgumentParser) -> None:
    add = export.add_argument
    add("model", help="run folder, or as of 'tauten embed'")
    add(
        "--to",
        default="sentence-transformers",
        metavar="FORMAT",
        help="sentence-transformers: text tower and projection (default); transformers: both "
        "towers as a VisionTextDualEncoderModel; open_clip: of a run that started from a CLIP; "
        "torch-export or onnx: a graph of each side",
    )
    add("--output", type=Path, required=True, help="new folder")
    add("--push-to-hub", metavar="ORG/NAME", help="upload the folder to the Hugging Face hub")
    add("--public", action="store_true", help="a repository that is made for it is public")
    export.set_defaults(command=_export)


def _search_options(search: argparse.ArgumentParser) -> None:
    add = search.add_argument
    add("folder", type=Path, help="that 'tauten embed' wrote")
    add("--text", action="append", default=[], help="what to look for; may be given again")
    add("--image", action="append", default=[], type=Path, help="a picture to look for")
    add("--k", type=int, default=10, help="results of each query (10)")
    add("--among", choices=("images", "texts"), help="what is searched; default: images, if any")
    add("--model", help="where the model is, if it was moved")
    add("--json", action="store_true", help="print JSON instead of a table")
    search.set_defaults(command=_search)


def _compare_options(compare: argparse.ArgumentParser) -> None:
    add = compare.add_argument
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
    add("--plugin", action="append", default=[], help="file with losses or controls of your own")
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
    compare.set_defaults(command=_compare)


def _demo(options: argparse.Namespace) -> None:
    from tauten.recipes import EPOCHS, run_demo

    with _launched() as together:
        with together():
            _check_alone("tauten demo")
        written = run_demo(
            options.output,
            EPOCHS if options.epochs is None else options.epochs,
            options.seeds,
            panel=options.panel,
        )
        print(f"report: {written}")


def _train(options: argparse.Namespace) -> None:
    if not options.words or options.words[0] in ("-h", "--help"):
        print("usage: tauten train RECIPE [OPTIONS]")
        print("       tauten train --config FILE [OPTIONS]\n")
        print("'tauten train RECIPE --help' lists the options of a recipe with their defaults.\n")
        _recipes(options)
        return
    from tauten.experiments import EXPERIMENTS
    from tauten.recipes import get
    from tauten.training.options.words import config_file

    with _launched() as together:
        with together():
            file, words = config_file(options.words)
        if file is not None:
            _train_file(file, words, together)
            return
        name, *words = words
        if name in EXPERIMENTS:
            import tyro

            with together():
                _check_alone(f"tauten train {name}")
            run = EXPERIMENTS[name].load()
            print(f"wrote {tyro.cli(run, prog=f'tauten train {name}', args=words)}")
            return
        with together():
            recipe = get(name, EXPERIMENTS)
        _run(recipe.name, recipe.text(), recipe(), words)


def _train_file(
    file: str, words: list[str], together: Callable[[], AbstractContextManager[None]]
) -> None:
    """Train what a file says, with the options of the command line."""
    from tauten.recipes.config_file import read_config

    with together():
        if words and not words[0].startswith("-"):
            raise ValueError(
                f"--config {file} is a whole configuration: leave {words[0]} out, or name the "
                f"recipe in the file (recipe: {words[0]})"
            )
        config = read_config(file)
    _run(f"--config {file}", f"The configuration of {file}.", config, words)


def _run(name: str, about: str, default: Config, words: list[str]) -> None:
    """Train a configuration with the options of the command line, and print the metrics."""
    from tauten.recipes import runlocal
    from tauten.training.options.words import parsed

    config = parsed(name, about, default, words)
    if config.runlocal and not default.runlocal:
        given = config.data.source
        source = None if given == default.data.source else given
        config = parsed(name, about, runlocal(default, source), words)

    logging.getLogger("tauten").info(
        "%s on %s; run folder %s", name, config.data.source, config.output
    )
    from tauten.training import train
    from tauten.training.messages import closing

    result = train(config)
    if _speaks():
        print("\n".join(closing(config, result.test, result.best_step, result.total_steps)))


@contextlib.contextmanager
def _launched() -> Iterator[Callable[[], AbstractContextManager[None]]]:
    """Join the processes that a launcher started; yield what surrounds work that all do.

    Without a launcher nothing is imported for it, so that options are checked before torch loads.
    """
    if _processes() == 1:
        yield contextlib.nullcontext
        return
    from tauten.training import processes

    with processes.command():
        yield processes.together


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
    from tauten.training import evaluate

    _print_metrics(
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
    from tauten.inference import evaluate_model

    names = ("split", "image", "caption", "label", "groups", "head", "tail", "bootstrap", "output")
    chosen = {name: getattr(options, name) for name in names}
    metrics = evaluate_model(
        *(str(options.checkpoint), str(options.data)),
        **chosen,
        keep=options.report,
        device=_device(),
    )
    _print_metrics(metrics, options)
    _write_page(options)


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
    from tauten.inference import evaluate_files

    names = ("image", "caption", "label", "count", "groups", "head", "tail", "bootstrap", "output")
    chosen = {name: getattr(options, name) for name in names}
    metrics = evaluate_files(*(options.x, options.y, options.table), **chosen, keep=options.report)
    _print_metrics(metrics, options)
    _write_page(options)


def _write_page(options: argparse.Namespace) -> None:
    """Write the report page of an evaluation, if one is wanted."""
    if options.report is not None:
        from tauten import report

        model = options.checkpoint or f"{options.x} and {options.y}"
        title = " on ".join(str(part) for part in (model, options.data or options.table) if part)
        print(f"report: {report.write([options.report], options.report, title)}")


def _embed(options: argparse.Namespace) -> None:
    _check_alone("tauten embed")
    from tauten.inference import embed

    embedded = embed(
        options.model,
        options.data,
        options.output,
        split=options.split,
        image=options.image,
        caption=options.caption,
        label=options.label,
        batch_size=options.batch_size,
        block=options.block,
        device=options.device or _device(),
        overwrite=options.overwrite,
    )
    print(
        f"{len(embedded.images)} images and {len(embedded.texts)} texts, "
        f"width {embedded.record['dim']}: {options.output}"
    )


def _export(options: argparse.Namespace) -> None:
    from tauten.inference import export

    push = options.push_to_hub
    written = export(
        options.model, options.output, options.to, push=push, private=not options.public
    )
    print(f"{options.to} model, equal embeddings: {written}")
    if push is not None:
        print(f"uploaded: {push}")


def _device() -> str:
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def _search(options: argparse.Namespace) -> None:
    import json

    if not options.text and not options.image:
        raise ValueError("nothing to look for: give --text or --image")
    for path in options.image:
        if not path.is_file():
            raise ValueError(f"--image {path}: no such file")
    from tauten.inference import Embedded

    embedded = Embedded(options.folder)
    side = options.among or ("images" if len(embedded.images) else "texts")
    model = embedded.model(options.model)
    queries = [*options.text, *options.image]
    vectors = [row for query in queries for row in model.encode_query(query)]
    hits = embedded.search([row.tolist() for row in vectors], options.k, side)
    if options.json:
        named = [{"query": str(q), "found": rows} for q, rows in zip(queries, hits, strict=True)]
        print(json.dumps(named, ensure_ascii=False, indent=1))
        return
    for query, rows in zip(queries, hits, strict=True):
        print(query)
        for place, row in enumerate(rows, 1):
            texts = row.get("text") or "; ".join(row.get("caption") or [])
            parts = [row.get("image"), row.get("label"), texts]
            print(f"{place:4}  {row['score']:.4f}  " + "  ".join(part for part in parts if part))


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


def _data_list(options: argparse.Namespace) -> None:
    from tauten.data.readers import READERS

    width = max(map(len, READERS))
    for name, reader in READERS.items():
        print(f"{name:{width}}  {reader.about}")


def _data_icons(options: argparse.Namespace) -> None:
    from tauten.data.icons import write_icons

    print(f"icons: {write_icons(options.package, options.output, options.size)}")


def _data_check(options: argparse.Namespace) -> None:
    import json

    from tauten.data.readers import READERS, check
    from tauten.files import replace_text

    if options.root is None:
        if options.name in READERS:
            raise ValueError(f"the folder of {options.name} is missing: give --root FOLDER")
        _own_data_check(options)
        return
    report = check(options.name, options.root, everything=options.all)
    print(report.table())
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        replace_text(options.json, json.dumps(report.as_dict(), indent=2) + "\n")
    if not report.usable:
        failed = [finding.name for finding in report.findings if finding.verdict == "FAIL"]
        raise ValueError(f"{report.dataset} cannot be used as it is: {', '.join(failed)}")


def _own_data_check(options: argparse.Namespace) -> None:
    from tauten.training import DataConfig
    from tauten.training.stores.data_check import check_data

    if options.all or options.json is not None:
        raise ValueError("--all and --json are of a known data set: give its --root, or leave out")
    if options.texts and options.views:
        raise ValueError("--texts has pairs of texts, and --views pictures alone: give one of both")
    names = ("image", "caption", "label", "val", "test", "texts")
    chosen = {name: getattr(options, name) for name in names}
    print(check_data(DataConfig(source=options.name, **chosen), options.views))


def _compare(options: argparse.Namespace) -> None:
    from tauten import comparison
    from tauten.comparison.options import seeds, settings
    from tauten.training.specs import load_plugin

    for name in options.plugin:
        load_plugin(name)
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


def _recipes(options: argparse.Namespace) -> None:
    from tauten.experiments import EXPERIMENTS
    from tauten.recipes import RECIPES

    if getattr(options, "name", None) is not None:
        _recipe(options.name)
        return
    width = max(map(len, (*RECIPES, *EXPERIMENTS)))
    print("recipes:")
    for name, recipe in RECIPES.items():
        print(f"  {name:{width}}  {recipe.line}")
        if recipe.published:
            print(f"  {'':{width}}  on {recipe.dataset}, published: {recipe.published}")
    print("experiments:")
    for name, experiment in EXPERIMENTS.items():
        print(f"  {name:{width}}  {experiment.line}")


def _recipe(name: str) -> None:
    """Print all that is known of a recipe, then its configuration."""
    import inspect

    import yaml

    from tauten.experiments import EXPERIMENTS
    from tauten.recipes import get
    from tauten.training import to_dict

    if name in EXPERIMENTS:
        print(f"{name}\n\n{inspect.getdoc(EXPERIMENTS[name].load())}")
        return
    recipe = get(name, EXPERIMENTS)
    tree = yaml.safe_dump(to_dict(recipe()), sort_keys=False, allow_unicode=True)
    print(f"{name}\n\n{recipe.text()}\n\n{tree}", end="")


def _print_metrics(metrics: dict[str, float], options: argparse.Namespace) -> None:
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


if __name__ == "__main__":
    sys.exit(main())
