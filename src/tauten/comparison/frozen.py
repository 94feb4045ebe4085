"""Projection heads on fixed features: a training takes seconds."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import get_cosine_schedule_with_warmup

from tauten.comparison.allocations import step_memory
from tauten.comparison.features import Features, FeatureSplit
from tauten.losses import ContrastiveLoss, NonFiniteLossError
from tauten.outcome import ALL, Outcome, of_pairs
from tauten.outcome.metrics import OF_CLASSES
from tauten.training import Config
from tauten.training.build import build_loss
from tauten.training.loop.arguments import make_optimizer
from tauten.training.loop.steps import Steps
from tauten.training.stores.classes import Classes

#: told (share of the training done, validation score), says whether to stop
Stop = Callable[[float, float], bool]
#: shares of the training at which the validation split is looked at
RUNGS = (1 / 3, 2 / 3, 1.0)


@dataclass(frozen=True)
class Found:
    """Results of one training.

    Attributes:
        val: score on the validation split, of ``evaluation.metric``.
        queries: scores of the test queries; None where only validation was asked for.
        curve: (share of the training done, validation score) at each look.
        steps: optimiser steps done.
        stopped: whether it was stopped before its end.
        seconds_per_step: median; where the steps were not timed, all time over their number.
        memory_mib: most memory allocated within a step, and what the loss holds between steps; None
            where it was not measured.
    """

    val: float
    queries: Outcome | None
    curve: tuple[tuple[float, float], ...]
    steps: int
    stopped: bool
    seconds_per_step: float
    memory_mib: float | None


class Heads(nn.Module):
    """A head for each side, to a common space.

    Args:
        widths: widths of the features of x and y.
        dim: width of the common space.
        hidden: width of a hidden layer; 0 for none.
    """

    def __init__(self, widths: tuple[int, int], dim: int, hidden: int = 0) -> None:
        super().__init__()
        self.x, self.y = (_head(width, dim, hidden) for width in widths)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return (N, dim) and (M, dim)."""
        return self.x(x), self.y(y)


def _head(width: int, dim: int, hidden: int) -> nn.Module:
    if not hidden:
        return nn.Linear(width, dim)
    return nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, dim))


class _Trained(nn.Module):
    """Heads and loss, as the optimiser wants to see them."""

    def __init__(self, encoder: nn.Module, loss_fn: ContrastiveLoss) -> None:
        super().__init__()
        self.encoder, self.loss_fn = encoder, loss_fn


def train_heads(
    config: Config,
    features: Features,
    hidden: int = 0,
    *,
    test: bool = True,
    stop: Stop | None = None,
) -> Found:
    """Train heads on the features of the training split with the configured loss and control.

    Every control of :func:`tauten.training.build.build_loss` works as in an end-to-end training.
    AdamW, warm-up, cosine decay, batches without replacement, the weights at the end. The same
    configuration, features and number of threads give the same numbers, bit for bit.

    Args:
        config: ``model.dim``, ``optim``, ``loss``, ``control``, ``seed`` and ``data.head``,
            ``data.tail`` are used.
        features: features of all splits.
        hidden: width of the heads' hidden layer; 0 for linear heads.
        test: rank the test queries at the end; without it the test split is not touched.
        stop: asked at each look at the validation split.

    Raises:
        ValueError: a batch larger than the split, a combination that means nothing, a queue.
        NonFiniteLossError: the loss became NaN or infinite.
    """
    queue, _ = config.loss.keys_kept
    if queue:
        raise ValueError(
            "heads on fixed features have no momentum encoder, which makes the keys of loss.queue: "
            f"leave it out, or train end to end, got {queue}"
        )
    train, optim = features["train"], config.optim
    steps = Steps.of(len(train), replace(optim, accumulation=1))
    total = steps.total
    classes = features.classes(config.data.head, config.data.tail)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(config.seed)
        heads = Heads((train.x.shape[1], train.y.shape[1]), config.model.dim, hidden)
        counts = classes.per_sample(train.labels)
        loss_fn = build_loss(
            config, len(train), counts, total, train.labels, per_epoch=steps.per_epoch
        )
        model = _Trained(heads, loss_fn)
        optimizer = make_optimizer(optim, cast(Any, model))
        plan = get_cosine_schedule_with_warmup(optimizer, round(optim.warmup * total), total)
        batches = _Batches(train, optim.batch_size, config.seed)
        looks = {max(1, round(total * share)): share for share in RUNGS}
        curve: list[tuple[float, float]] = []
        seconds: list[float] = []
        stopped = False
        for step in range(1, total + 1):
            start = time.perf_counter()
            _step(model, optimizer, batches.next(), config)
            plan.step()
            seconds.append(time.perf_counter() - start)
            if step in looks:
                score = _validate(heads, features["val"], classes, config)
                curve.append((looks[step], score))
                stopped = step < total and stop is not None and stop(looks[step], score)
            if stopped:
                break
        queries = _ranked(heads, features["test"], classes) if test and not stopped else None
        memory = step_memory(lambda: _step(model, optimizer, batches.next(), config), loss_fn)
    return Found(
        val=curve[-1][1],
        queries=queries,
        curve=tuple(curve),
        steps=len(seconds),
        stopped=stopped,
        seconds_per_step=statistics.median(seconds),
        memory_mib=memory,
    )


def _step(
    model: _Trained, optimizer: torch.optim.Optimizer, batch: tuple[Tensor, ...], config: Config
) -> None:
    x, y, index, same, captions = batch
    left, right = model.encoder(x, y)
    masked = (same, captions) if config.loss.mask_duplicates else ()
    loss = model.loss_fn(left, right, index, same=masked)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    limit = config.optim.max_grad_norm
    norm = nn.utils.clip_grad_norm_(model.parameters(), limit or torch.inf)
    if not bool(norm.isfinite()):
        raise NonFiniteLossError(f"a gradient became {float(norm)} at loss {float(loss):g}")
    optimizer.step()
    model.loss_fn.step()


class _Batches:
    """Batches of pairs without replacement, the same for the same seed whatever the control."""

    def __init__(self, split: FeatureSplit, size: int, seed: int) -> None:
        self.split, self.size = split, size
        self.generator = torch.Generator().manual_seed(seed)
        self.left = torch.zeros(0, dtype=torch.int64)

    def next(self) -> tuple[Tensor, ...]:
        """Return x, y, positions, ids of equal x, ids of equal y."""
        if len(self.left) < self.size:
            self.left = torch.randperm(len(self.split), generator=self.generator)
        index, self.left = self.left[: self.size], self.left[self.size :]
        draws = torch.rand(self.size, generator=self.generator).tolist()
        captions_of = [self.split.y_of_x[i] for i in index.tolist()]
        chosen = torch.tensor(
            [row[int(draw * len(row))] for row, draw in zip(captions_of, draws, strict=True)]
        )
        return self.split.x[index], self.split.y[chosen], index, self.split.same[index], chosen


@torch.no_grad()
def _ranked(heads: Heads, split: FeatureSplit, classes: Classes, labelled: bool = True) -> Outcome:
    x, y = heads(split.x, split.y)
    sides = F.normalize(x, dim=1), F.normalize(y, dim=1)
    labels = split.labels if labelled else ()
    return of_pairs(*sides, split.y_of_x, classes.groups(split.labels), labels=labels)


def _validate(heads: Heads, split: FeatureSplit, classes: Classes, config: Config) -> float:
    metric = config.evaluation.metric
    ranked = _ranked(heads, split, classes, labelled=metric in OF_CLASSES)
    return float(ranked.scores(metric)[ranked.members(ALL, metric)].mean())
