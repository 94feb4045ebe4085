"""Further losses and terms of a training, each of two of its modalities."""

from __future__ import annotations

import ast
import dataclasses
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tauten.spec import Range
from tauten.training.options.ranges import check, check_needed

if TYPE_CHECKING:
    from tauten.training.options.config import Config

#: names of the modalities that every pair has
IMAGE, CAPTION = "image", "caption"
_WORD = re.compile(r"([a-z_.]+)=(\S+)")
#: the further pictures of the embedded data
_OF_EMOJI = ("another",)
_ALONE = {"queue": 0, "mixtures": 0, "distill": 0.0}


@dataclass(frozen=True)
class Further:
    """A loss, or a term, of two modalities, beside the loss of image and caption.

    Attributes:
        sides: names of both modalities: image, caption, and columns of further ones.
        weight: factor of its value.
        config: that of the run with the loss and the control of these sides.
        term: name of a term of ``TermsConfig``, in the place of a loss; None for a loss.
    """

    sides: tuple[str, str]
    weight: float
    config: Config
    term: str | None = None

    @property
    def name(self) -> str:
        """Name in metrics and history, such as ``back+caption``, or ``back+caption/koleo``."""
        both = "+".join(self.sides)
        return both if self.term is None else f"{both}/{self.term}"


def further_of(config: Config) -> list[Further]:
    """Return the further losses and terms of a configuration.

    By default each further modality has a loss with the image and one with the caption, and each
    pair of further ones too, all of the run's own loss and control.

    Raises:
        ValueError: a line that cannot be read, unknown modalities, or a loss that is refused.
    """
    data = config.data
    if not data.others:
        if config.losses:
            raise ValueError(
                f"losses={config.losses[0]!r} is of further modalities: name their columns as "
                "data.others"
            )
        return []
    known = (IMAGE, *data.others, CAPTION)
    lines = config.losses or [
        f"{one}+{other}"
        for i, one in enumerate(known)
        for other in known[i + 1 :]
        if (one, other) != (IMAGE, CAPTION)
    ]
    further = [_read(line, known, config) for line in lines]
    pairs = [(frozenset(each.sides), each.term) for each in further]
    for each, pair in zip(further, pairs, strict=True):
        if pairs.count(pair) > 1:
            raise ValueError(f"losses has {each.name} {pairs.count(pair)} times: give each once")
    return further


def check_further(config: Config) -> None:
    """Refuse further modalities where there can be none, and losses that cannot be read.

    Raises:
        ValueError: naming the field, its value and what it may be.
    """
    data = config.data
    if data.others:
        others = {
            "task": (config.form, "pairs"),
            "data.texts": (data.texts, False),
            "data.frames": (data.frames, 0),
            "data.stream": (data.stream, False),
            "data.features": (data.features, None),
            "optim.chunk": (config.optim.chunk, None),
        }
        check_needed(others, "data.others are further pictures and need {}, got {}")
        twice = [n for n in data.others if data.others.count(n) > 1 or n in _taken(config)]
        if twice or (data.source == "emoji_lt" and data.others != _OF_EMOJI):
            raise ValueError(
                f"data.others={', '.join(data.others)} must be further columns of a table, each "
                f"once, got {twice[0] if twice else 'the pairs of emoji_lt, which have another'}"
            )
    further_of(config)


def _taken(config: Config) -> tuple[str, ...]:
    return IMAGE, CAPTION, config.data.image, config.data.caption


def _read(line: str, known: tuple[str, ...], config: Config) -> Further:
    sides, _, rest = line.strip().partition(" ")
    one, plus, other = sides.partition("+")
    if not plus or one not in known or other not in known or one == other:
        raise ValueError(
            f"losses: {line!r} must begin with two modalities, such as {known[0]}+{known[1]}; "
            f"there are {', '.join(known)}"
        )
    if one == CAPTION:
        one, other = other, one
    words = {}
    for word in rest.split():
        match = _WORD.fullmatch(word)
        if match is None:
            raise ValueError(
                f"losses: {word!r} in {line!r} must be NAME=VALUE, with weight, term, family, "
                "loss.OPTION, control.kind or control.OPTION"
            )
        if match[1] in words:
            raise ValueError(f"losses: {line!r} has {match[1]} twice: give it once")
        words[match[1]] = _value(match[2])
    try:
        return _made((one, other), words, config)
    except ValueError as error:
        raise ValueError(f"losses: {line!r}: {error}") from error


def _value(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


def _made(sides: tuple[str, str], words: dict[str, Any], config: Config) -> Further:
    from tauten.training.specs import other_control, other_loss

    weight = words.pop("weight", 1.0)
    check("weight", weight, Range(0.0, 1e3))
    term = words.pop("term", None)
    if term is not None:
        from tauten.training.options.term_weights import TermsConfig

        terms = [option.name for option in dataclasses.fields(TermsConfig)]
        if term not in terms or words:
            raise ValueError(
                f"term is one of {', '.join(terms)}, with a weight alone, got {term!r}"
                + (f" and {next(iter(words))}" if words else "")
            )
        return Further(sides, float(weight), config, term)
    of_loss = {n[5:]: words.pop(n) for n in list(words) if n.startswith("loss.")}
    of_control = {n[8:]: words.pop(n) for n in list(words) if n.startswith("control.")}
    family, kind = words.pop("family", config.family), of_control.pop("kind", None)
    if words:
        raise ValueError(f"{next(iter(words))} is no option of a loss")
    loss = other_loss(config.loss, family)
    alone = {n: v for n, v in _ALONE.items() if n in loss.option_names() and n not in of_loss}
    loss = other_loss(loss, family, **alone | of_loss)
    control = other_control(config.control, config.loss, loss, kind)
    foreign = [name for name in of_control if name not in control.option_names()]
    if foreign:
        raise ValueError(f"control.kind={control.kind} has no control.{foreign[0]}")
    control = dataclasses.replace(control, **of_control)
    if loss.relevance != "none":
        raise ValueError(f"family={family} needs relevancies, which image and caption alone have")
    if any(getattr(loss, name, 0) for name in _ALONE):
        raise ValueError("a queue is of the loss of image and caption alone")
    plain = dataclasses.replace(config.data, others=())
    changed = dataclasses.replace(config, loss=loss, control=control, losses=(), data=plain)
    if sides == (IMAGE, CAPTION):
        raise ValueError(f"{IMAGE}+{CAPTION} has the loss of the run itself; a term may be added")
    return Further(sides, float(weight), changed)
