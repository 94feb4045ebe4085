"""``tauten recipes``: what can be trained, and all that is known of one."""

from __future__ import annotations

import argparse


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``tauten recipes``."""
    parser.add_argument("name", nargs="?", help="one of them, with all that is known of it")
    parser.set_defaults(command=_recipes)


def _recipes(options: argparse.Namespace) -> None:
    if options.name is None:
        print_list()
    else:
        _print_recipe(options.name)


def print_list() -> None:
    """Print the names of all recipes and experiments, a line for each."""
    from tauten.experiments import EXPERIMENTS
    from tauten.recipes import RECIPES

    width = max(map(len, (*RECIPES, *EXPERIMENTS)))
    print("recipes:")
    for name, recipe in RECIPES.items():
        print(f"  {name:{width}}  {recipe.line}")
        if recipe.published:
            print(f"  {'':{width}}  on {recipe.dataset}, published: {recipe.published}")
    print("experiments:")
    for name, experiment in EXPERIMENTS.items():
        print(f"  {name:{width}}  {experiment.line}")


def _print_recipe(name: str) -> None:
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
