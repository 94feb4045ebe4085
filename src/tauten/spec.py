"""Specs: dataclasses that name one control or loss, hold its options, and build it.

The command line, recipes, comparison, report and docs learn from a spec that the thing exists and
what it can do. A spec stands in the file of what it builds; defining it is all it takes.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from difflib import get_close_matches
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    TypeVar,
    get_args,
    get_type_hints,
)

if TYPE_CHECKING:
    from torch import Tensor

Made = TypeVar("Made", bound="Spec")


@dataclass(frozen=True)
class Range:
    """An interval of numbers.

    Attributes:
        low: least.
        high: largest; infinite where every finite number from ``low`` on is allowed.
        above: whether the number must be more than ``low``.
        below: whether it must be less than ``high``.
    """

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        low = value > self.low if self.above else value >= self.low
        return low and (value < self.high if self.below else value <= self.high)

    def __str__(self) -> str:
        if self.high == math.inf:
            return f"more than {self.low:g}" if self.above else f"{self.low:g} or more"
        ends = f"{_shown(self.low)}, {_shown(self.high)}"
        return f"in {'(' if self.above else '['}{ends}{')' if self.below else ']'}"


@dataclass(frozen=True)
class When:
    """A condition under which an option has meaning: another one has one of these values.

    Attributes:
        option: the other one, such as ``model.image``.
        values: that it must have; () for any but 0, False and None.
        but: values that it must not have.
    """

    option: str
    values: tuple[Any, ...] = ()
    but: tuple[Any, ...] = ()

    def holds(self, value: Any) -> bool:
        """Return whether the option has meaning where the other one has this value."""
        if self.but:
            return value not in self.but
        return value in self.values if self.values else bool(value)


class Seldom:
    """The mark of an option that few trainings set: its help is with ``--help-all``."""


SELDOM = Seldom()


def _shown(end: float) -> str:
    return str(end) if isinstance(end, int) else f"{end:g}"


#: types of options with the range of their values
Level = Annotated[float, Range(0.0, 1e3)]
Share = Annotated[float, Range(0.0, 1.0)]
NewestWeight = Annotated[float, Range(0.0, 1.0, above=True)]
Decay = Annotated[float, Range(0.0, 1.0, below=True)]
Rate = Annotated[float, Range(0.0, 1e6, above=True)]
Similarity = Annotated[float, Range(-1.0, 1.0)]
Periods = Annotated[float, Range(0.0, 1e6, above=True)]


def ranges_of(kind: type) -> dict[str, Range]:
    """Return the range of each number among the options of a dataclass, as it stands there.

    A number without one may be any that is finite.
    """
    ranges = {}
    hints = get_type_hints(kind, include_extras=True)
    for option in fields(kind):
        kinds = (hints[option.name], *get_args(hints[option.name]))
        extras = [extra for each in kinds for extra in getattr(each, "__metadata__", ())]
        stated = [extra for extra in extras if isinstance(extra, Range)]
        if stated or {int, float} & {*kinds}:
            ranges[option.name] = stated[0] if stated else Range(-math.inf)
    return ranges


def check_ranges(options: Any, prefix: str) -> None:
    """Refuse numbers of a dataclass that are outside their ranges.

    Args:
        options: the dataclass.
        prefix: of the options' names in the message.

    Raises:
        ValueError: naming the option, its range and its value.
    """
    for name, allowed in ranges_of(type(options)).items():
        value = getattr(options, name)
        if value not in allowed:
            raise ValueError(f"{prefix}{name} must be {allowed}, got {value}")


@dataclass(frozen=True)
class Context:
    """Facts that a training knows when it builds its control and its loss.

    Attributes:
        num_samples: size of the training split.
        total_steps: optimiser steps of the training.
        per_epoch: optimiser steps of an epoch.
        dim: width of the embeddings.
        counts: (num_samples,) training count of each sample's class; None where classes are not
            known.
        labels: class of each sample; None where classes are not known.
        relevancies: relevancies between kinds of images and of captions; None where not graded.
        captions: (num_samples,) how many captions each sample has, where they have ids of their
            own; None where pairs have one id.
        one_sided: whether x alone has anchors, as for two views of one modality.
        seed: seed of the run.
    """

    num_samples: int
    total_steps: int
    per_epoch: int
    dim: int
    counts: Tensor | None = None
    labels: Sequence[str] | None = None
    relevancies: Tensor | None = None
    captions: Tensor | None = None
    one_sided: bool = False
    seed: int = 0

    @property
    def sizes(self) -> int | tuple[int, int]:
        """Size of a table: of the split, or of both sides where captions have ids of their own."""
        if self.captions is None:
            return self.num_samples
        return self.num_samples, int(self.captions.sum())

    def of_sides(self, counts: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        """Return the counts, or those of samples and of captions, each that of its sample.

        So both anchors of a pair have one value.
        """
        if self.captions is None:
            return counts
        return counts, counts.repeat_interleave(self.captions)

    def class_sizes(self, option: str) -> Tensor:
        """Return (num_samples,) the training count of each sample's class.

        Args:
            option: that needs them, such as ``control.kind=mmts``.

        Raises:
            ValueError: classes that are not known, of all samples or of some.
        """
        if self.counts is None:
            raise ValueError(
                f"{option} needs to know how dense each sample's class is: set data.label to a "
                "class column, or data.clusters to a number of caption clusters"
            )
        unknown = (self.counts == 0).nonzero().flatten().tolist()
        if unknown:
            raise ValueError(
                f"{option} needs the class of every training sample, and {len(unknown)} of "
                f"{len(self.counts)} have none in the column data.label, first: sample "
                f"{unknown[0]}: label them, leave those rows out, or give data.clusters (caption "
                "clusters) in place of data.label"
            )
        return self.counts


class Spec:
    """Base of what is named on the command line; a subclass is a dataclass of its options."""

    #: name as typed
    kind: ClassVar[str] = ""
    #: name in tables and reports
    title: ClassVar[str] = ""
    #: all specs of this sort by name
    known: ClassVar[dict[str, Any]] = {}

    def __init_subclass__(cls) -> None:
        name = cls.__dict__.get("kind")
        if not name:
            return
        other: Any = cls.known.get(name)
        known = other is not None and other.__module__ in sys.modules
        if known and other.__module__ != cls.__module__:
            raise ValueError(
                f"{cls.__module__}.{cls.__name__} has the name {name!r}, which "
                f"{other.__module__}.{other.__name__} has already: choose another"
            )
        cls.known[name] = cls

    @classmethod
    def about(cls) -> str:
        """Return the first line of its docstring."""
        return (cls.__doc__ or "").strip().splitlines()[0].rstrip(".")

    @classmethod
    def option_names(cls) -> list[str]:
        """Return the names of its options."""
        return [option.name for option in fields(cls)]  # type: ignore[arg-type]


def named(sort: type[Made], name: str, option: str) -> type[Made]:
    """Return the spec of this name.

    Args:
        sort: ``ControlSpec`` or ``LossSpec``.
        name: as typed.
        option: by which it was given.

    Raises:
        ValueError: there is none, with the closest.
    """
    if name not in sort.known:
        close = get_close_matches(name, sort.known, n=1)
        meant = f"did you mean {close[0]}? " if close else ""
        raise ValueError(
            f"{option} {name!r} is unknown: {meant}there are {', '.join(sort.known)}; a plugin "
            "brings others (--plugin FILE, or TAUTEN_PLUGINS=FILE in the environment)"
        )
    spec: type[Made] = sort.known[name]
    return spec


@dataclass
class ControlSpec(Spec):
    """A temperature, or margin, of each sample or pair over time."""

    known: ClassVar[dict[str, Any]] = {}
    #: options in place of its defaults where it is a margin
    as_margin: ClassVar[Mapping[str, float]] = {}

    @property
    def scheduled(self) -> bool:
        """True where values follow from step and class size, so that a report can draw them."""
        return False

    def build(self, context: Context) -> Any:
        """Return the :class:`tauten.Control` over a training.

        Raises:
            ValueError: classes that are needed and not known, or values that the control refuses.
        """
        raise NotImplementedError

    def period(self, total_steps: int) -> float | None:
        """Return the steps of one oscillation; None for a control that does not oscillate."""
        return None

    def held(self, per_epoch: int) -> int:
        """Return for how many steps it holds a value."""
        return 1


@dataclass
class LossSpec(Spec):
    """A loss and the options that it takes."""

    known: ClassVar[dict[str, Any]] = {}
    #: what its control sets
    strength: ClassVar[Literal["temperature", "margin"]] = "temperature"
    #: whether it takes two views of one modality
    views: ClassVar[bool] = False
    mask_duplicates: Annotated[bool, When("task", ("pairs",))] = True
    """pairs in a batch that share the image or the caption are not used as negatives"""

    def build(self, control: ControlSpec, context: Context) -> Any:
        """Return the :class:`tauten.ContrastiveLoss`, driven by that control.

        Raises:
            ValueError: a control or option that means nothing to the loss.
        """
        raise NotImplementedError

    @property
    def relevance(self) -> Literal["none", "positives", "pairs"]:
        """Graded relevancies that the loss is given: none, of each positive, or of each pair."""
        return "none"

    @property
    def keys_kept(self) -> tuple[int, float]:
        """Keys of earlier batches that are candidates, and the momentum of what makes them."""
        return 0, 0.0

    @property
    def teacher(self) -> tuple[float, float] | None:
        """Share of the targets that the momentum encoder makes, and its temperature; or None."""
        return None

    @property
    def teacher_rise(self) -> float:
        """Epochs in which that share rises from 0; 0 where it is the same in all."""
        return 0.0

    @property
    def mixed(self) -> tuple[int, int, int] | None:
        """Keys that are mixed to own negatives, and how many of both kinds; or None."""
        return None

    def own_control(self) -> str | None:
        """Return the name of the only control that it takes, if it brings one with it."""
        return None

    def check(self, control: ControlSpec) -> None:
        """Refuse a control that the loss cannot take, before anything is built.

        Raises:
            ValueError: with the control that it takes.
        """
        brought = self.own_control()
        if brought is not None and control.kind != brought:
            raise ValueError(
                f"family={self.kind} has a temperature of its own: it needs "
                f"control.kind={brought}, got {control.kind}"
            )

    def keywords(self, control: ControlSpec, context: Context) -> dict[str, Any]:
        """Return the keywords for the loss of the options that several losses share.

        Raises:
            ValueError: a control or option that means nothing to the loss.
        """
        return self.directions(context)

    def directions(self, context: Context) -> dict[str, Any]:
        """Return the keyword for the anchors' sides."""
        return {"directions": "x2y"} if context.one_sided else {}
