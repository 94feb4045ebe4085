"""Controls of a comparison: their default settings, and the ranges that tuning draws from.

Settings are options of a training configuration by name, such as ``control.alpha``. Defaults are
the published ones where there are any. A control that takes another one apart, such as ``matched``,
has no settings of its own: it takes those of the schedule, default or tuned.
"""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tauten.losses import CompositionWarning
from tauten.training import Config
from tauten.training.build import check_loss
from tauten.training.options.config_tree import changed
from tauten.training.specs import lost_options

Settings = Mapping[str, Any]
_ATTEMPTS = 200


@dataclass(frozen=True)
class Uniform:
    """A number in [low, high], uniform, or uniform in its logarithm."""

    low: float
    high: float
    log: bool = False

    def draw(self, source: random.Random) -> float:
        """Return one number, to four digits."""
        if self.log:
            value = math.exp(source.uniform(math.log(self.low), math.log(self.high)))
        else:
            value = source.uniform(self.low, self.high)
        return float(f"{value:.4g}")


@dataclass(frozen=True)
class OneOf:
    """One of these."""

    options: tuple[Any, ...]

    def draw(self, source: random.Random) -> Any:
        """Return one option."""
        return source.choice(self.options)


Draw = Uniform | OneOf


@dataclass(frozen=True)
class Method:
    """A control in a comparison.

    Attributes:
        name: as given on the command line.
        what: it is, in a few words.
        fixed: settings that make it this control.
        default: published settings of its own.
        space: what tuning draws, by name.
        resolve: from drawn values to settings, where they are not settings themselves.
        parts_of: the control whose settings it takes, if it has none of its own.
        schedules: whether it drives the family and force of the comparison, and not a loss of its
            own.
        refused: why it means nothing for what is compared; "" where it does.
        tried: settings that tuning tries beside the default, in the place of those drawn.
    """

    name: str
    what: str
    fixed: Settings
    default: Settings = field(default_factory=dict)
    space: Mapping[str, Draw] = field(default_factory=dict)
    resolve: Callable[[Settings], Settings] | None = None
    parts_of: str | None = None
    schedules: bool = True
    refused: str = ""
    tried: tuple[Settings, ...] = ()

    def drawn(self, source: random.Random) -> dict[str, Any]:
        """Return settings drawn at random."""
        values = {name: draw.draw(source) for name, draw in self.space.items()}
        return dict(self.resolve(values) if self.resolve else values)

    def trying(self, settings: Sequence[Settings]) -> Method:
        """Return the method with settings to try, which may give what is fixed otherwise."""
        names = {name for one in settings for name in one}
        fixed = {name: value for name, value in self.fixed.items() if name not in names}
        freed = {name: value for name, value in self.fixed.items() if name in names}
        default = {**freed, **self.default}
        return replace(self, tried=tuple(settings), fixed=fixed, default=default)


def configure(base: Config, method: Method, settings: Settings) -> Config:
    """Return the base configuration with a method and settings of it.

    Raises:
        ValueError: a setting that there is not, or a combination that means nothing.
    """
    if not method.schedules and "force" in base.loss.option_names():
        base = changed(base, {"loss.force": "plain"})
    config = changed(base, {**settings, **method.fixed})
    for name, value in lost_options(base.loss, config.loss).items():
        raise ValueError(f"loss.{name} means nothing to family={config.family}, got {value}")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CompositionWarning)
        check_loss(config)
    return config


def trials(method: Method, base: Config, number: int, seed: int) -> list[dict[str, Any]]:
    """Return the default settings, then those to try, or random ones that the loss accepts.

    Args:
        method: to draw settings of; one without settings of its own has none.
        base: the configuration that they change.
        number: number of trials, the default among them, where they are drawn.
        seed: seed of the draws.

    Raises:
        ValueError: number < 1, hardly any draw that the loss accepts, or settings to try that it
            does not accept.
    """
    if number < 1:
        raise ValueError(f"tuning needs 1 trial or more (the default setting), got {number}")
    source = random.Random(f"{method.name} {seed}")
    options = [dict(method.default)]
    for settings in method.tried:
        configure(base, method, settings)
        if dict(settings) not in options:
            options.append(dict(settings))
    if method.tried:
        return options
    for _ in range(_ATTEMPTS):
        if len(options) >= number or not method.space:
            break
        drawn = method.drawn(source)
        try:
            configure(base, method, drawn)
        except ValueError:
            continue
        if drawn not in options:
            options.append(drawn)
    else:
        raise ValueError(
            f"of {_ATTEMPTS} settings drawn for {method.name} the loss accepted "
            f"{len(options) - 1}, {number - 1} are needed"
        )
    return options
