"""Messages of a training: what is trained on what, the results, and what can follow."""

from __future__ import annotations

import logging
import shlex
import sys
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch

from tauten.outcome.groups import in_order
from tauten.outcome.metrics import INSTANCE
from tauten.outcome.printed import number, table
from tauten.training import processes
from tauten.training.loop.compute import device_of
from tauten.training.loop.steps import Steps
from tauten.training.options.config import Config
from tauten.training.run.names import RESULTS
from tauten.training.stores.classes import Classes
from tauten.training.stores.pair_data import SPLITS, PairData, Split
from tauten.training.tasks.protocol import cautions

logger = logging.getLogger("tauten.training")


def with_bars(config: Config) -> bool:
    """Return whether this process draws progress bars: asked for, the first one, on a terminal."""
    return config.progress and processes.rank() == 0 and sys.stderr.isatty()


def say(lines: Iterable[str]) -> None:
    """Log lines, by the first process alone."""
    if processes.rank() == 0:
        for line in lines:
            logger.info("%s", line)


def opening(
    config: Config,
    splits: Mapping[Split, PairData],
    classes: Classes | None,
    module: Any,
    steps: Steps,
    at: int = 0,
) -> list[str]:
    """Return what is trained on what, before the first step, in a few lines.

    Args:
        config: configuration of the run.
        splits: train, val and test.
        classes: of the training split, or None.
        module: of encoder and loss.
        steps: of the training.
        at: step that an earlier start came to.
    """
    sizes = ", ".join(f"{name} {len(splits[name]):,}" for name in SPLITS)
    lines = [f"{'texts' if config.data.texts else 'images'}: {sizes}; {_classes(classes)}"]
    if config.data.texts and config.data.image == config.data.caption:
        lines.append(
            f"both sides are the column {config.data.image!r}: in validation and test each text "
            "finds itself, so hit@K and mean_recall say nothing there; evaluate on other pairs, or "
            "choose by a metric of classes (data.label)"
        )
    one_tower = config.form == "views" or config.data.texts
    towers = [config.model.image] if config.form == "views" else [config.model.text]
    towers = towers if one_tower else [config.model.image, *towers]
    parts = list(module.encoder.parameters())
    count = sum(p.numel() for p in parts)
    trained = sum(p.numel() for p in parts if p.requires_grad)
    share = "all trained" if trained == count else f"{trained:,} trained"
    lines.append(f"model: {' and '.join(towers)}, {count:,} parameters, {share}")
    low, high = module.loss_fn.strength.range()
    value = f"{low:.3g}" if low == high else f"{low:.3g} to {high:.3g}"
    lines.append(f"loss: {config.family}, {config.loss.strength} {value}")
    if config.protect.groups:
        lines.append(f"protected: {module.guard.line()}")
    device = device_of(config.device)
    threads = f", {_number(torch.get_num_threads(), 'thread')}" if device.type == "cpu" else ""
    shared = "" if processes.count() == 1 else f", {processes.count()} processes"
    start = "" if at == 0 else f", goes on at step {at}"
    lines.append(
        f"steps: {steps.total:,} of {config.optim.batch_size * config.optim.accumulation} samples, "
        f"{steps.per_epoch:,} an epoch, evaluated every {steps.between:,}{start}; on {device.type}"
        f"{threads}{shared}"
    )
    return lines


def closing(
    config: Config, test: Mapping[str, float], best_step: int, total_steps: int
) -> list[str]:
    """Return the results of the test split in a table, where all of them are, and what can follow.

    Args:
        config: configuration of the run.
        test: its metrics.
        best_step: of the checkpoint that was chosen.
        total_steps: of the training.
    """
    run = shlex.quote(str(config.output))
    images, texts = config.model.image != "features", config.form == "pairs"
    following = {}
    if not any(name.startswith(INSTANCE) for name in test):
        following[f"tauten report {run}"] = "one HTML page; of several runs, a comparison"
    if texts:
        following[f"tauten evaluate {run} --data DATA"] = "how it does on other data"
    following[f"tauten embed {run} {'DATA ' if images else ''}--output EMBEDDINGS"] = "vectors"
    query = "--text WORDS" if texts else "--image FILE"
    following[f"tauten search EMBEDDINGS {query}"] = "what is nearest among them"
    width = max(map(len, following))
    warned = cautions(config.data, runlocal=config.runlocal)
    return [
        f"test split, checkpoint of step {best_step:,} of {total_steps:,}",
        table(test),
        *(f"{title}: {text}" for title, text in warned.items()),
        f"all {number(test)} metrics: {Path(config.output) / RESULTS}",
        f"run: {config.output}",
        "next:",
        *(f"  {command:{width}}  {what}" for command, what in following.items()),
    ]


def _classes(classes: Classes | None) -> str:
    if classes is None:
        return "no classes, so no head, mid and tail"
    counts = classes.counts
    groups = Counter(classes.groups(list(counts)))
    sizes_of_groups = ", ".join(f"{groups[name]} {name}" for name in in_order(groups))
    sizes = f"{max(counts.values()):,} to {min(counts.values()):,} training samples"
    return f"{_number(len(counts), 'class', 'classes')} of {sizes}: {sizes_of_groups}"


def _number(count: int, one: str, more: str = "") -> str:
    return f"{count:,} {one if count == 1 else more or f'{one}s'}"
