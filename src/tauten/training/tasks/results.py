"""Results of a finished run: metrics with their protocol, τ over time, embeddings."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from tauten.evaluation.temperatures import TauProbe
from tauten.files import packed, read_json, write_npz
from tauten.outcome import GROUPS, OUTCOME, Outcome, save
from tauten.training import checkpoints, processes
from tauten.training.loop.compute import device_of
from tauten.training.loop.monitor import Clock
from tauten.training.run.names import EMBEDDINGS, IMAGES, SAMPLES
from tauten.training.run.run_folder import RunFolder
from tauten.training.stores.classes import Classes
from tauten.training.stores.clip_source import ClipSource
from tauten.training.stores.pair_data import PairData, Split
from tauten.training.stores.stream import SKIPPED
from tauten.training.stores.text_source import TextSource
from tauten.training.tasks.encode import encode
from tauten.training.tasks.encoded import Encoded
from tauten.training.tasks.loading import load_encoder
from tauten.training.tasks.protocol import protocol
from tauten.training.tasks.task import Training

#: splits that are searched at the end
SEARCHED: tuple[Split, ...] = ("val", "test")
#: bytes of pictures up to which a run keeps them
LARGEST_COPY = 64 * 2**20


def write_results(training: Training, probe: TauProbe, clock: Clock) -> None:
    """Evaluate the best checkpoint on val and test and write the run's files, results.json last.

    All processes encode; the first one computes and writes.
    """
    config, splits = training.config, training.splits
    best = processes.first(lambda: checkpoints.best_of(training.folder.checkpoints))
    with processes.together():
        encoder, tokenizer, classes = load_encoder(best)
        encoder.to(device_of(config.device))
    how = config.evaluation.batch_size, config.progress
    encoded = {
        name: encode(encoder, tokenizer, splits[name], classes, *how, together=True)
        for name in SEARCHED
    }
    whole = {name: side for name, side in encoded.items() if side is not None}
    with processes.together():
        if whole:
            _write(dataclasses.replace(training, classes=classes), probe, clock, whole, best)


def _write(
    training: Training, probe: TauProbe, clock: Clock, encoded: Mapping[Split, Encoded], best: Path
) -> None:
    config, splits = training.config, training.splits
    metrics: dict[str, dict[str, float]] = {
        name: side.retrieval(config.evaluation.bootstrap) | side.geometry()
        for name, side in encoded.items()
    }
    write_npz(training.folder.path / EMBEDDINGS, embeddings(encoded["test"], training.classes))
    shown = _pictures(splits["test"].pairs().images)
    write_record(
        training,
        probe,
        clock,
        best,
        Tested(metrics, encoded["test"].outcome(), protocol(training, encoded["test"])),
        {} if shown is None else {IMAGES: shown},
    )


class Tested(NamedTuple):
    """Results of a finished run.

    Attributes:
        metrics: of "test" and "val".
        outcome: of each query of the test split.
        protocol: how they came about, in words.
    """

    metrics: Mapping[str, Mapping[str, float]]
    outcome: Outcome
    protocol: Mapping[str, str]


def write_record(
    training: Training,
    probe: TauProbe,
    clock: Clock,
    best: Path,
    tested: Tested,
    pictures: Mapping[str, Tensor],
) -> None:
    """Write what runs of every task leave behind, ``results.json`` last.

    Args:
        training: that has ended.
        probe: of its temperature or margin.
        clock: of all its starts.
        best: the checkpoint that was evaluated.
        tested: on the splits.
        pictures: (N, 3, H, W) uint8 images by the name of their file.
    """
    config, folder = training.config, training.folder
    trained = samples(folder, training.splits["train"], training.classes, probe)
    write_npz(folder.path / SAMPLES, trained)
    save(tested.outcome, folder.path / OUTCOME)
    for file, images in pictures.items():
        shown = images.permute(0, 2, 3, 1).contiguous().numpy()
        write_npz(folder.path / file, {"images": shown})
    low, high = probe.loss_fn.strength.range()
    results = {
        "name": config.name,
        "family": config.family,
        "strength": config.loss.strength,
        **({} if tested.outcome.task == "pairs" else {"task": tested.outcome.task}),
        "control": repr(probe.loss_fn.strength),
        "control_range": [low, high],
        "protocol": {**tested.protocol, **folder.notes},
        "record": folder.provenance(),
        "test": tested.metrics["test"],
        "val": tested.metrics["val"],
        "best_step": checkpoints.state_of(best)["global_step"],
        "total_steps": training.steps.total,
        "wall_s": clock.seconds(),
    }
    last = folder.resumable()
    if last is not None and (last / SKIPPED).exists():
        results["skipped"] = read_json(last / SKIPPED)
    folder.finish(results)


def _pictures(images: Tensor | ClipSource | TextSource) -> Tensor | None:
    """Return (N, 3, H, W) images; for clips the middle frame; None where too large."""
    clips = images.dim() == 5
    size = math.prod(images.shape) // (images.shape[1] if clips else 1)
    if isinstance(images, TextSource) or images.dim() < 4 or size > LARGEST_COPY:
        return None
    return images[:][:, images.shape[1] // 2] if clips else images[:]


def samples(
    folder: RunFolder, train: PairData, classes: Classes | None, probe: TauProbe
) -> dict[str, Any]:
    """Return counts, classes and τ of the training samples, over the logged steps.

    τ of a group is NaN at steps whose batch says nothing of it.
    """
    lines = [line for line in folder.history.read() if "tau/mean" in line]
    groups = [name for name in GROUPS if any(f"tau/{name}" in line for line in lines)]

    def table(suffix: str) -> Any:
        keys = [f"tau/{name}{suffix}" for name in groups]
        rows = [[line.get(key, np.nan) for key in keys] for line in lines]
        return np.array(rows, dtype=np.float32).reshape(len(lines), len(groups))

    names = (
        sorted(classes.counts, key=lambda name: (-classes.counts[name], name)) if classes else []
    )
    labelled = classes is not None and train.labels is not None
    counts = classes.per_sample(train.labels) if labelled and classes and train.labels else None
    return {
        "counts": np.zeros(0, np.int64) if counts is None else counts.numpy(),
        "label_names": np.array(names, dtype=np.str_),
        "label_counts": np.array([classes.counts[n] for n in names] if classes else [], np.int64),
        "tau_steps": np.array([line["step"] for line in lines], np.int64),
        "tau_group_names": np.array(groups, dtype=np.str_),
        "tau_groups": table(""),
        "tau_low": table("/low"),
        "tau_high": table("/high"),
        "tau_mean": np.array([line["tau/mean"] for line in lines], np.float32),
        "tau_final": probe.values().numpy(),
    }


def embeddings(test: Encoded, classes: Classes | None) -> dict[str, Any]:
    """Return both sides of the test split; several captions of an image are padded with -1."""
    width = max(len(row) for row in test.y_of_x)
    padded = np.full((len(test.y_of_x), width), -1, np.int64)
    for row, captions in zip(padded, test.y_of_x, strict=True):
        row[: len(captions)] = captions
    none = [""] * len(test.x)
    labels = test.labels or none
    counts = (
        classes.per_sample(test.labels)
        if classes is not None and test.labels is not None
        else torch.zeros(len(test.x), dtype=torch.int64)
    )
    return {
        "x": test.x.numpy(),
        "y": test.y.numpy(),
        "y_of_x": padded[:, 0] if width == 1 else padded,
        **packed("captions", test.captions),
        "group_of_x": np.array(test.groups or none, dtype=np.str_),
        "label_of_x": np.array(labels, dtype=np.str_),
        "count_of_x": counts.numpy(),
    }
