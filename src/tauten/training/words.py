"""From the words of ``tauten train RECIPE`` to a configuration, and back in messages."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import re
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

from tauten.training.config import (
    Config,
    DataConfig,
    EvaluationConfig,
    ModelConfig,
    OptimConfig,
)

logger = logging.getLogger("tauten.training")

#: short forms of the options that are typed most
SHORT = {
    "--data": "--data.source",
    "--epochs": "--optim.epochs",
    "--strict": "--data.strict",
}
_PARTS = {
    "data": DataConfig,
    "evaluation": EvaluationConfig,
    "model": ModelConfig,
    "optim": OptimConfig,
}


@dataclasses.dataclass
class _Typed(Config):
    """One training run."""

    def __post_init__(self) -> None:
        """Leave the checks to the configuration that is made of this one."""


def parsed(
    recipe: Callable[..., Config], default: Config, words: Sequence[str], *, speaks: bool = True
) -> Config:
    """Return a recipe's configuration with the options of the command line.

    The loss and the control are chosen first, so that the options are theirs and no others.

    Args:
        recipe: whose name and description the help shows.
        default: its configuration.
        words: after the recipe's name.
        speaks: whether help and errors are printed here.

    Raises:
        ValueError: an unknown loss, control or plugin, or values that the configuration refuses.
        SystemExit: after help, or an option that there is not.
    """
    import tyro

    chosen, words = _chosen([SHORT.get(word, word) for word in words])
    found = tyro.cli(
        _Typed,
        prog=f"tauten train {recipe.__name__}",
        description=f"{recipe.__doc__}\n\n{_choices()}",
        default=_Typed(**(vars(default) | _specs(default, chosen))),
        args=words,
        console_outputs=speaks,
    )
    return Config(**vars(found))


def as_typed(message: str) -> str:
    """Return a message with the options of a configuration spelled as on the command line."""
    names = [
        f"{part}\\.{f.name}" for part, kind in _PARTS.items() for f in dataclasses.fields(kind)
    ]
    within = "|".join(
        [*names, r"(?:control|loss)\.[a-z]\w*", r"model\.(?:augmentation|views)\.\w+"]
    )
    first = "|".join(["family", *(f.name for f in dataclasses.fields(Config))])
    told = rf"(?<![-\w./])(?:{within})(?![\w./])|^(?:{first})(?= must be )|overwrite=True"
    return re.sub(
        told, lambda found: f"--{found[0].removesuffix('=True').replace('_', '-')}", message
    )


def _chosen(words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--plugin", action="append", default=[])
    parser.add_argument("--family")
    parser.add_argument("--control.kind", dest="kind")
    chosen, rest = parser.parse_known_args([*words])
    # an option of the loss may decide which control it takes
    split = [part for word in rest for part in (word.split("=", 1) if "=" in word else [word])]
    chosen.of_loss = {
        name.removeprefix("--loss.").replace("-", "_"): value
        for name, value in pairwise(split)
        if name.startswith("--loss.")
    }
    return chosen, rest


def _specs(default: Config, chosen: argparse.Namespace) -> dict[str, Any]:
    from tauten.training.specs import load_plugin, lost_options, other_control, other_loss

    for name in chosen.plugin:
        load_plugin(name)
    loss = other_loss(default.loss, chosen.family or default.family)
    lost = lost_options(default.loss, loss)
    if lost:
        left = ", ".join(f"loss.{name}={value}" for name, value in lost.items())
        logger.warning("family=%s has no %s: left out", loss.kind, left)
    for name in loss.option_names():
        if name in chosen.of_loss and isinstance(getattr(loss, name), str):
            loss = other_loss(loss, loss.kind, **{name: chosen.of_loss[name]})
    return {
        "loss": loss,
        "control": other_control(default.control, default.loss, loss, chosen.kind),
    }


def _choices() -> str:
    from tauten.training.specs import known_controls, known_losses

    return (
        f"Loss: --family {{{','.join(known_losses())}}}. Control: --control.kind "
        f"{{{','.join(known_controls())}}}. Losses and controls of your own: --plugin FILE.py. "
        f"Short forms: {', '.join(SHORT)}."
    )
