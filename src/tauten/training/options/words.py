"""Translation of the arguments of ``tauten train RECIPE`` to a configuration, and back."""

from __future__ import annotations

import argparse
import copy
import dataclasses
import logging
import re
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Annotated, Any, get_args, get_type_hints

from tauten.spec import Seldom, When
from tauten.training.options.config import Config
from tauten.training.options.config_tree import SECTIONS
from tauten.training.specs import task

logger = logging.getLogger("tauten.training")

_HELP_ALL = "--help-all"
#: short forms of the options that are typed most
SHORT = {
    "--data": "--data.source",
    "--epochs": "--optim.epochs",
    "--strict": "--data.strict",
}


@dataclasses.dataclass
class _Typed(Config):
    """One training run."""

    def __post_init__(self) -> None:
        """Leave the checks to the configuration that is made of this one."""


def parsed(
    name: str, about: str, default: Config, words: Sequence[str], *, speaks: bool = True
) -> Config:
    """Return a recipe's configuration with the options of the command line.

    The loss and the control are chosen first, so that the options are theirs and no others.

    Args:
        name: of the recipe.
        about: what the help says of it.
        default: its configuration.
        words: after the recipe's name.
        speaks: whether help and errors are printed here.

    Raises:
        ValueError: an unknown loss, control or plugin, or values that the configuration refuses.
        SystemExit: after help, or an option that there is not.
    """
    import tyro

    chosen, words = _chosen([SHORT.get(word, word) for word in words])
    whole = _HELP_ALL in words
    words = ["--help" if word == _HELP_ALL else word for word in words]
    hides = not whole and not {"-h", "--help"}.isdisjoint(words)
    default = copy.copy(default)
    vars(default).update(_specs(default, chosen))
    init = _typed(words).get("init")
    if isinstance(init, str):
        from tauten.training.initial import as_run

        default = as_run(default, init)
    if chosen.model is not None:
        from tauten.training.options.pretrained import from_model

        default = from_model(default, chosen.model)
    chosen_parts = {part: getattr(default, part) for part in (*SECTIONS, "loss", "control")}
    hidden: dict[str, set[str]] = {n: set() for n in chosen_parts}
    if hides:
        hidden = {n: _seldom(n, part, words) for n, part in chosen_parts.items()}
    kinds = {
        n: _shown(n, type(part), default, words, hidden[n]) for n, part in chosen_parts.items()
    }
    parts = {n: kinds[n](**vars(part)) for n, part in chosen_parts.items()}
    sections: list[Any] = [
        (n, kind, dataclasses.field(default_factory=kind)) for n, kind in kinds.items()
    ]
    hints = get_type_hints(Config, include_extras=True)
    for option in dataclasses.fields(Config):
        if option.name not in kinds:
            sections.append((option.name, _explained(Config, option.name, hints), _usual(option)))
    typed = dataclasses.make_dataclass("Config", sections, bases=(_Typed,))
    typed.__doc__ = _Typed.__doc__
    typed_values = tyro.cli(
        typed,
        prog=f"tauten train {name}",
        description=f"{about}\n\n{_choices()}{_more(hidden)}",
        default=typed(**(vars(default) | parts)),
        args=words,
        console_outputs=speaks,
    )
    plain = {n: type(part)(**vars(getattr(typed_values, n))) for n, part in chosen_parts.items()}
    return Config(**(vars(typed_values) | plain))


def _seldom(section: str, part: Any, words: Sequence[str]) -> set[str]:
    """Return the options of a section that few set, and neither the recipe nor the words do."""
    hints, usual = get_type_hints(type(part), include_extras=True), type(part)()
    marked = {
        name
        for name, hint in hints.items()
        if any(isinstance(mark, Seldom) for mark in getattr(hint, "__metadata__", ()))
    }
    typed = {name.split(".")[1] for name in _typed(words) if name.startswith(f"{section}.")}
    return {
        name for name in marked - typed if getattr(part, name, None) == getattr(usual, name, None)
    }


def _more(hidden: dict[str, set[str]]) -> str:
    """Say which options the help leaves out."""
    names = [f"--{part}.{name}" for part, of in hidden.items() for name in sorted(of)]
    more = ", ".join(names).replace("_", "-")
    return f"\n\nMore options, explained by {_HELP_ALL}: {more}." if names else ""


def _shown(
    section: str, kind: type, default: Config, words: Sequence[str], hidden: set[str]
) -> type:
    """Return a section of the configuration whose help shows the options that have meaning.

    It depends on the recipe and on the words: ``--model.text ngrams`` brings the options of that
    tower. Hidden ones are left out.
    """
    from tyro.conf import Suppress

    typed, hints = _typed(words), get_type_hints(kind, include_extras=True)
    changed: list[Any] = []
    for option in dataclasses.fields(kind):
        hint: Any = hints[option.name]
        conditions = [e for e in getattr(hint, "__metadata__", ()) if isinstance(e, When)]
        failed = [e for e in conditions if not e.holds(_given(e.option, default, typed))]
        if not failed and option.name not in hidden:
            changed.append((option.name, _explained(kind, option.name, hints), _usual(option)))
            continue
        if failed and f"{section}.{option.name}" in typed:
            name = f"--{section}.{option.name}".replace("_", "-")
            raise ValueError(f"{name} has no meaning here: {_wanted(failed[0])}")
        if failed:
            hidden.discard(option.name)
        changed.append((option.name, Suppress[get_args(hint)[0]], _usual(option)))  # type: ignore[misc]
    return dataclasses.make_dataclass(kind.__name__, changed, bases=(kind,))


def _given(option: str, default: Config, typed: dict[str, str | bool]) -> Any:
    """Return the value of an option as typed, else of the recipe; of a task whose options it takes.

    Raises:
        ValueError: an unknown task.
    """
    value = typed.get(option, _value(default, option))
    return task(str(value)).form if option == "task" else value


def _usual(option: Any) -> Any:
    """Return a field with the default of an option."""
    if option.default is dataclasses.MISSING:
        return dataclasses.field(default_factory=option.default_factory)
    return dataclasses.field(default=option.default)


def _explained(kind: type, option: str, hints: dict[str, Any]) -> Any:
    """Return the type of an option with its help, without the line breaks of the source."""
    from tyro.conf import arg

    text = _about(kind).get(option)
    return Annotated[hints[option], arg(help=text)] if text else hints[option]


@lru_cache(maxsize=64)
def _about(kind: type) -> dict[str, str]:
    """Return what the options of a section are."""
    from docstring_parser import parse_from_object

    described = [base for base in reversed(kind.__mro__) if dataclasses.is_dataclass(base)]
    return {
        option.arg_name: " ".join(option.description.split())
        for base in described
        for option in parse_from_object(base).params
        if option.description is not None
    }


def _wanted(condition: When) -> str:
    """Say what a condition asks for."""
    other = f"--{condition.option}".replace("_", "-")
    if condition.but:
        return f"it needs {other} other than {' or '.join(map(str, condition.but))}"
    values = " or ".join(map(str, condition.values))
    return f"it needs {other} {values}".rstrip()


def _value(config: Config, option: str) -> Any:
    value: Any = config
    for name in option.split("."):
        value = getattr(value, name)
    return value


def _typed(words: Sequence[str]) -> dict[str, str | bool]:
    """Return the options that the words give, by name."""
    split = [part for word in words for part in (word.split("=", 1) if "=" in word else [word])]
    words_of: dict[str, str | bool] = {}
    for name, value in pairwise([*split, "--"]):
        if name.startswith("--"):
            option = name.removeprefix("--").replace("-", "_")
            words_of[option] = True if value.startswith("--") else value
    return words_of


def as_typed(message: str) -> str:
    """Return a message with the options of a configuration spelled as on the command line.

    Within a text of ``--losses`` options have no dashes; it stays as it was typed.
    """
    if message.startswith(("losses: ", "losses has ")):
        return f"--{message}"
    names = [
        f"{part}\\.{f.name}" for part, kind in SECTIONS.items() for f in dataclasses.fields(kind)
    ]
    within = "|".join(
        [*names, r"(?:control|loss)\.[a-z]\w*", r"model\.(?:augmentation|views)\.\w+"]
    )
    first = "|".join(["family", *(f.name for f in dataclasses.fields(Config))])
    options = (
        rf"(?<![-\w./])(?:{within})(?![\w./])",
        rf"^(?:{first})(?= must be |=)",
        r"(?<![-\w./])(?:family|task)(?==)",
        r"overwrite(?==True)",
    )
    message = re.sub(r"(?<![\w.])(?=allow_truncated=True)", "data.", message)
    pattern = rf"(?P<option>{'|'.join(options)})(?:=(?P<switch>True|False)\b)?"
    return re.sub(pattern, _option_typed, message)


def _option_typed(match: re.Match[str]) -> str:
    """Return an option as it is typed; what is on or off has no value."""
    *section, name = match["option"].replace("_", "-").split(".")
    off = "no-" if match["switch"] == "False" else ""
    return f"--{'.'.join([*section, off + name])}"


def config_file(words: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return the file that ``--config`` names and the other words; load the plugins before.

    Raises:
        ValueError: no file is named, or more than one; a plugin that cannot be loaded.
    """
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--config", action="append", default=[])
    parser.add_argument("--plugin", action="append", default=[])
    try:
        options, rest = parser.parse_known_args([*words])
    except argparse.ArgumentError as error:
        raise ValueError(f"--config and --plugin take the name of a file: {error}") from error
    if len(options.config) > 1:
        raise ValueError(f"--config is given {len(options.config)} times: give one file")
    from tauten.training.specs import load_plugin

    for name in options.plugin:
        load_plugin(name)
    return (options.config[0] if options.config else None), rest


def _chosen(words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--plugin", action="append", default=[])
    parser.add_argument("--family")
    parser.add_argument("--model")
    parser.add_argument("--control.kind", dest="kind")
    chosen, rest = parser.parse_known_args([*words])
    # an option of the loss may decide which control it takes
    chosen.of_loss = {
        name.removeprefix("loss."): value
        for name, value in _typed(rest).items()
        if name.startswith("loss.")
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
        f"Short forms: {', '.join(SHORT)}. Both towers of one model: --model clip:NAME, "
        "siglip:NAME, open_clip:NAME, hf:NAME or a folder."
    )
