"""The entry of the command line: words to a command, and its errors to one line."""

from __future__ import annotations

import argparse
import logging
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from itertools import pairwise

import tauten
from tauten.cli import cluster, compare, data, demo, evaluate, inference, recipes, report, train
from tauten.cli.imports import quick_imports
from tauten.cli.processes import speaks
from tauten.extras import explained

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

#: settings of a configuration that a message of ``tauten compare`` gives a value or asks for
_SETTING = re.compile(
    r"(?<!--set )(?<![-\w./])((?:set|with|another) )?"
    r"((?:data|model|optim|evaluation|checkpoint|loss|control)\.[a-z]\w*)"
    r"(?:(=)(?=\S)|(?![\w./=]))"
)

#: by command the option that takes what is whole in a tar that is cut
_CUT = {"data": "--allow-truncated", "compare": "--set data.allow_truncated=True"}

#: by name what adds the options of a command, and what it is for, in the order of ``--help``
COMMANDS: dict[str, tuple[Callable[[argparse.ArgumentParser], None], str]] = {
    "demo": (
        demo.add_options,
        "ways to set the temperature on real long-tailed pairs, with a report",
    ),
    "train": (train.add_options, "train a recipe, or go on where it was interrupted"),
    "evaluate": (evaluate.add_options, "retrieval metrics of a run, or of two files"),
    "embed": (inference.add_embed_options, "embed pictures and captions with a model"),
    "export": (inference.add_export_options, "a trained model for other libraries"),
    "search": (inference.add_search_options, "what is like a text or a picture"),
    "cluster": (cluster.add_options, "k-means over caption embeddings, with counts"),
    "report": (report.add_options, "one HTML page that compares finished runs"),
    "data": (data.add_options, "known data sets, and whether one is as published"),
    "compare": (compare.add_options, "which control helps, where, by how much, for sure"),
    "recipes": (recipes.add_options, "what 'tauten train' knows"),
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the words after ``tauten``; those of the process when not given.

    Returns:
        0, or 1 after one line on standard error when the command cannot do what was asked.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if not speaks():
        os.environ["TQDM_DISABLE"] = "1"
    if "--no-progress" in words or not sys.stderr.isatty():
        os.environ.setdefault("HF_DATASETS_DISABLE_PROGRESS_BARS", "1")
    parser = _parser()
    options = (
        argparse.Namespace(command=train.run, words=words[1:])
        if words[:1] == ["train"]
        else parser.parse_args(words)
    )
    command: Callable[[argparse.Namespace], None] | None = getattr(options, "command", None)
    if command is None:
        parser.print_help()
        return 0
    level = logging.INFO if speaks() else logging.ERROR
    logging.basicConfig(level=level, format="%(name)s: %(message)s")
    for noisy in ("httpx", "datasets", "transformers", "sentence_transformers", "faiss"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    try:
        _check_named(words)
        with quick_imports() if _prints(words) else nullcontext():
            _load(getattr(options, "plugin", ()))
            command(options)
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, OSError, ImportError, ArithmeticError) as error:
        print(f"tauten: {_message(error, words)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt as stop:
        if speaks():
            left = str(stop) or "the last checkpoint, if there is one, stays"
            print(f"tauten: interrupted: {left}; the same command goes on from it", file=sys.stderr)
        return 130
    return 0


def _load(plugins: Sequence[str]) -> None:
    """Load the files that ``--plugin`` names."""
    if plugins:
        with quick_imports():
            from tauten.training.specs import load_plugin
        for name in plugins:
            load_plugin(name)


def _prints(words: Sequence[str]) -> bool:
    """Return whether a command only prints, and leaves little garbage."""
    return words[:1] == ["recipes"] or not {"-h", "--help", "--help-all"}.isdisjoint(words)


def _message(error: Exception, words: Sequence[str]) -> str:
    """Return one line that says what is wrong, with the options as the command line has them."""
    command = words[0]
    if isinstance(error, ModuleNotFoundError):
        error = explained(f"tauten {command}", error)
    line = " ".join(str(error).split())
    parts = re.split(r"('tauten [^']*')", line)  # a command that is quoted has its own options
    spelled = (
        part if place % 2 else _spelled(part, error, command) for place, part in enumerate(parts)
    )
    return _as_typed("".join(spelled), words)


def _spelled(line: str, error: Exception, command: str) -> str:
    """Return a message with the options of a configuration as a command has them."""
    if command in ("train", "export") and not isinstance(error, ImportError):
        from tauten.training.options.words import as_typed

        line = as_typed(line)
    if command in _CUT:
        line = line.replace("allow_truncated=True", _CUT[command])
    line = line.replace(", or allow_truncated=True to use the whole members", "")
    if command in ("evaluate", "embed", "export", "data"):
        line = _OF_DATA.sub(r"--\1", line).replace("overwrite=True", "--overwrite")
    if command == "data":
        line = line.replace(" another data.held_out,", "")
        line = line.replace("data.held_out=", "a held-out share of ")
        line = line.replace("picture need none (", "picture need none (here --views, ")
    if command == "compare" and not line.startswith("--set"):
        line = _SETTING.sub(_set, line)
    return line


def _set(match: re.Match[str]) -> str:
    """Return a setting of all trainings as ``tauten compare`` takes it."""
    lead, name, equals = match.groups("")
    if not lead and not equals:
        return match[0]
    return f"{lead.removeprefix('set ')}--set {name}{equals or '=VALUE'}"


def _as_typed(line: str, words: Sequence[str]) -> str:
    """Return a message that begins with a value's name, with the option that the user typed.

    That option is spelled so where the message names another value for it, too.
    """
    name = re.match(r"[a-z]+(_[a-z]+)*(?==| = | must | is one of )", line)
    typed = {word.split("=", 1)[0] for word in words if word.startswith("-")}
    for remedy in ("to", "device"):
        if f"--{remedy}" in typed:
            line = re.sub(rf"(?<=\s){remedy}=(?=[a-z])", f"--{remedy}=", line)
    if name is None:
        return line
    options = (f"--{name[0].replace('_', '-')}", f"-{name[0]}")
    option = next((option for option in options if option in typed), name[0])
    return option + line[name.end() :]


def _check_named(words: Sequence[str]) -> None:
    """Refuse an empty file or folder, as of a shell variable that is not set."""
    split = [part for word in words for part in (word.split("=", 1) if "--" in word else [word])]
    for name, value in pairwise(split):
        wanted = next((o for o in (*_WRITTEN, *_READ) if o.startswith(name)), None)
        if wanted is not None and len(name) > 2 and not value.strip():
            remedy = f"name what to {'write to' if wanted in _WRITTEN else 'read'}"
            raise ValueError(f"{wanted} is empty, as of a shell variable that is not set: {remedy}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="tauten",
        description="Temperature and margin control for contrastive learning on long-tailed data.",
    )
    parser.add_argument("--version", action="version", version=f"tauten {tauten.__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    for name, (add_options, about) in COMMANDS.items():
        add_options(commands.add_parser(name, help=about))
    return parser
