"""``tauten train``: a recipe, or a file of options, trained or resumed."""

from __future__ import annotations

import argparse
import logging
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from tauten.cli.imports import quick_imports
from tauten.cli.processes import check_alone, launched, speaks
from tauten.cli.recipes import print_list

if TYPE_CHECKING:
    from tauten.training import Config


def add_options(parser: argparse.ArgumentParser) -> None:
    """Leave the options of ``tauten train`` to its recipe."""


def run(options: argparse.Namespace) -> None:
    """Train what the words after ``tauten train`` say."""
    if not options.words or options.words[0] in ("-h", "--help"):
        print("usage: tauten train RECIPE [OPTIONS]")
        print("       tauten train --config FILE [OPTIONS]\n")
        print("'tauten train RECIPE --help' lists the options of a recipe with their defaults.\n")
        print_list()
        return
    with quick_imports():
        from tauten.experiments import EXPERIMENTS
        from tauten.recipes import get
        from tauten.training.options.words import config_file

    with launched() as together:
        with together():
            file, words = config_file(options.words)
        if file is not None:
            _train_file(file, words, together)
            return
        name, *words = words
        if name in EXPERIMENTS:
            import tyro

            with together():
                check_alone(f"tauten train {name}")
            experiment = EXPERIMENTS[name].load()
            print(f"wrote {tyro.cli(experiment, prog=f'tauten train {name}', args=words)}")
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
    with quick_imports():
        from tauten.training import train
        from tauten.training.messages import closing

    result = train(config)
    if speaks():
        print("\n".join(closing(config, result.test, result.best_step, result.total_steps)))
