"""Ranges of the options of a configuration, all in one place."""

from __future__ import annotations

import math
import typing
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from tauten.spec import Range, Spec
from tauten.training.options.option_types import described, fits

_SHARE = Range(0.0, 1.0)
_FROM_0, _FROM_1, _ABOVE_0 = Range(0), Range(1), Range(0, above=True)
_RATE = Range(0.0, 1e6, above=True)
_DECAY = Range(0.0, 1.0, below=True)
_LEVEL = Range(0.0, 1e3)
_PER_EPOCH = Range(0.0, 1e6, above=True)

#: by the name of the option
RANGES: dict[str, Range] = {
    "data.held_out": Range(0.0, 0.5, above=True, below=True),
    "data.clusters": _FROM_0,
    "data.head": _FROM_1,
    "data.tail": _FROM_1,
    "data.image_size": Range(0, 4096),
    "data.edge": Range(0, 8192),
    "data.frames": Range(0, 4096),
    "data.strip": Range(0, 4096),
    "data.limit": _FROM_1,
    "data.alternative": _SHARE,
    "data.keywords": _SHARE,
    "data.span_low": Range(0.0, 1.0, above=True),
    "data.span_high": Range(0.0, 1.0, above=True),
    "data.left_out": _SHARE,
    "data.repeated": _SHARE,
    "data.negatives_drawn": Range(0, 1024),
    "data.unseen": Range(0, 100_000),
    "data.buffer": _FROM_1,
    "data.workers": Range(0, 1024),
    "model.dim": Range(1, 65536),
    "model.channels": Range(1, 65536),
    "model.grid": Range(1, 256),
    "model.feature_hidden": Range(0, 65536),
    "model.text_width": Range(1, 65536),
    "model.max_tokens": Range(1, 65536),
    "model.lora": Range(0, 4096),
    "model.lora_alpha": Range(0.0, 1e4, above=True),
    "model.augmentation.rotation": Range(0.0, 180.0),
    "model.augmentation.translation": _SHARE,
    "model.augmentation.scale": Range(0.0, 0.99),
    "model.augmentation.hue": Range(0.0, 0.5),
    "model.augmentation.saturation": _LEVEL,
    "model.augmentation.contrast": _LEVEL,
    "model.augmentation.brightness": _LEVEL,
    "model.augmentation.grayscale": _SHARE,
    "model.augmentation.noise": _LEVEL,
    "model.views.crop": Range(0.0, 1.0, above=True),
    "model.views.flip": _SHARE,
    "model.views.brightness": _SHARE,
    "model.views.contrast": _SHARE,
    "model.views.saturation": _SHARE,
    "model.views.hue": Range(0.0, 0.5),
    "model.views.jitter": _SHARE,
    "model.views.grayscale": _SHARE,
    "model.views.blur": _SHARE,
    "optim.epochs": _PER_EPOCH,
    "optim.batch_size": Range(2),
    "optim.accumulation": _FROM_1,
    "optim.chunk": _FROM_1,
    "optim.lr": _RATE,
    "optim.min_lr": Range(0.0, 1e6),
    "optim.tower_lr": _RATE,
    "optim.loss_lr": Range(0.0, 1e6),
    "optim.weight_decay": Range(0.0, 1e6),
    "optim.warmup": _SHARE,
    "optim.beta2": _DECAY,
    "optim.momentum": _DECAY,
    "optim.memory": _LEVEL,
    "optim.max_grad_norm": Range(0.0, 1e6),
    "losses.weight": _LEVEL,
    "terms.alignment": _LEVEL,
    "terms.uniformity": _LEVEL,
    "terms.cross_uniformity": _LEVEL,
    "terms.koleo": _LEVEL,
    "protect.beta": Range(0.0, 1e6, above=True),
    "protect.gamma": Range(0.0, 1.0, above=True),
    "protect.samples": Range(2),
    "protect.tau": Range(0.0, 1e3, above=True),
    "evaluation.every": _PER_EPOCH,
    "evaluation.bootstrap": Range(0, 1_000_000),
    "evaluation.batch_size": _FROM_1,
    "seed": Range(0, 2**32 - 1),
    "log_every": _FROM_1,
}


def check_values(config: Any) -> None:
    """Refuse numbers outside their range, unknown choices, and values of another type.

    Raises:
        ValueError: naming the option, its value and what it may be.
    """
    ranges = ranges_of(config)
    for name, hint, value in options(config):
        kinds = {hint, *typing.get_args(hint)}
        if typing.get_origin(hint) is typing.Literal:
            if value not in typing.get_args(hint):
                choices = ", ".join(map(str, typing.get_args(hint)))
                raise ValueError(f"{name} must be one of {choices}, got {value!r}")
        elif value is None and type(None) in kinds:
            continue
        elif name in ranges:
            for number in value if isinstance(value, (list, tuple)) else (value,):
                check(name, number, ranges[name], whole=float not in kinds)
        elif not fits(value, hint):
            raise ValueError(f"{name} must be of type {described(hint)}, got {value!r}")


def check(name: str, value: Any, allowed: Range, *, whole: bool = False) -> None:
    """Refuse a number outside a range.

    Args:
        name: of the option, for the message.
        value: to check.
        allowed: its range.
        whole: whether it must be an integer.

    Raises:
        ValueError: with the name, the value and the range.
    """
    kinds = (int,) if whole else (int, float)
    if isinstance(value, bool) or not isinstance(value, kinds) or value not in allowed:
        kind = "a whole number " if whole and not isinstance(value, int) else ""
        raise ValueError(f"{name} must be {kind}{allowed}, got {value!r}")
    if not math.isfinite(value):
        raise ValueError(f"{name} must be finite and {allowed}, got {value!r}")


def check_needed(options: Mapping[str, tuple[Any, Any]], message: str) -> None:
    """Refuse options that are not as another one needs them.

    Args:
        options: by name, what was given and what is needed.
        message: with two places, for ``NAME=NEEDED`` and for what was given.

    Raises:
        ValueError: the message, of the first that differs.
    """
    for name, (value, needed) in options.items():
        if value != needed:
            raise ValueError(message.format(f"{name}={needed}", value))


def options(config: Any, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield the name, the type and the value of each option of a configuration."""
    for name, hint in _hints(type(config)).items():
        value = getattr(config, name)
        if is_dataclass(hint):
            if not isinstance(value, typing.cast(type, hint)):
                raise ValueError(f"{prefix}{name} must be a {described(hint)}, got {value!r}")
            yield from options(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", hint, value


def ranges_of(config: Any) -> dict[str, Range]:
    """Return the range of every number of a configuration, by the name of the option."""
    parts = {"control.": config.control, "loss.": config.loss}
    ranges = dict(RANGES)
    for prefix, spec in parts.items():
        if isinstance(spec, Spec):
            ranges |= _of_spec(spec, prefix)
    return ranges


def _of_spec(spec: Spec, prefix: str) -> dict[str, Range]:
    """Return the ranges of a spec's numbers, which stand at its options."""
    hints = typing.get_type_hints(type(spec), include_extras=True)
    ranges = {}
    for option in fields(spec):  # type: ignore[arg-type]
        kinds = (hints[option.name], *typing.get_args(hints[option.name]))
        extras = [extra for kind in kinds for extra in getattr(kind, "__metadata__", ())]
        stated = [extra for extra in extras if isinstance(extra, Range)]
        if stated or {int, float} & {*kinds}:
            ranges[prefix + option.name] = stated[0] if stated else Range(-math.inf)
    return ranges


def _hints(of: type) -> dict[str, Any]:
    hints = typing.get_type_hints(of)
    return {field.name: hints[field.name] for field in fields(of)}
