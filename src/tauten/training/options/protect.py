"""Groups of samples that a training must not make worse than they were."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

from tauten.spec import SELDOM, NewestWeight, Range, Rate, When
from tauten.training.options.ranges import check_needed

if TYPE_CHECKING:
    from tauten.training.options.config import Config

_PAIRS, _GROUPS = When("task", ("pairs",)), When("protect.groups")


@dataclass
class ProtectConfig:
    """Groups whose loss must not rise above that of the model that the training starts from."""

    groups: Annotated[tuple[str, ...], _PAIRS, SELDOM] = ()
    """head, mid, tail or names of classes, each of which is held by a penalty at the loss that it
    has at the start (DevSafety); with init, or where both towers are one pretrained model"""
    beta: Annotated[Rate, _GROUPS] = 40.0
    """weight of the penalty (DevSafety: 40)"""
    gamma: Annotated[NewestWeight, _GROUPS] = 0.8
    """weight of the newest batch in the average of how much a group is above its start"""
    samples: Annotated[int, Range(2), _GROUPS] = 64
    """of each group in each step, drawn from training beside the batch, of all processes together;
    each a forward and backward pass more"""
    tau: Annotated[float, Range(0.0, 1e3, above=True), _GROUPS] = 0.07
    """temperature of the loss of a group, InfoNCE among its own samples"""


def check_protected(config: Config) -> None:
    """Refuse protected groups where there can be none.

    Raises:
        ValueError: naming the field, its value and what it may be.
    """
    from tauten.training.options.pretrained import is_joint_model

    groups = config.protect.groups
    if not groups:
        return
    others = {
        "task": (config.form, "pairs"),
        "data.stream": (config.data.stream, False),
        "data.others": (config.data.others, ()),
    }
    check_needed(others, "protect.groups need {}, got {}")
    twice = [name for name in groups if groups.count(name) > 1]
    if twice:
        raise ValueError(f"protect.groups has {twice[0]} {groups.count(twice[0])} times: once each")
    if config.init is None and not is_joint_model(config.model):
        raise ValueError(
            f"protect.groups={', '.join(groups)} are held at the loss that they have at the start, "
            "and towers that start at random have none to hold: start from a run (--init RUN), or "
            "give one pretrained model as model.image and model.text"
        )
