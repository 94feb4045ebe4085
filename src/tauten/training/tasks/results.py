"""Results of a finished run: metrics with their protocol, τ over time, embeddings."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch
from torch import Tensor, nn

from tauten.evaluation import TIES
from tauten.evaluation.temperatures import TauProbe
from tauten.files import need, packed, read_json, read_tensors, write_npz
from tauten.models import DualEncoder, Tokenizer, load_tokenizer
from tauten.models.adapters import merged
from tauten.outcome import GROUPS, OUTCOME, Outcome, save
from tauten.training import checkpoints, processes
from tauten.training.loop.compute import LORA_SCALE, device_of
from tauten.training.loop.monitor import Clock
from tauten.training.options.config import DataConfig
from tauten.training.run.places import shown
from tauten.training.run.run_folder import EMBEDDINGS, IMAGES, SAMPLES, RunFolder
from tauten.training.stores.clip_source import ClipSource
from tauten.training.stores.epic import SYNTHETIC
from tauten.training.stores.named import is_named, variant_of
from tauten.training.stores.rows import UNLABELLED
from tauten.training.stores.splits import Classes, PairData, Split
from tauten.training.stores.stream import SKIPPED
from tauten.training.stores.text_source import TextSource
from tauten.training.tasks.encode import encode_together
from tauten.training.tasks.encoded import Encoded
from tauten.training.tasks.task import Training

ENCODER_PREFIX = "encoder."
#: splits that are searched at the end
SEARCHED: tuple[Split, ...] = ("val", "test")
Encoder = TypeVar("Encoder", bound=nn.Module)
_LARGEST_COPY = 64 * 2**20


def load_encoder(checkpoint: str | Path) -> tuple[DualEncoder, Tokenizer, Classes | None]:
    """Load towers, tokenizer and training counts of a checkpoint; see also :func:`tauten.load`.

    Raises:
        ValueError: the folder is not a whole checkpoint of ours.
    """
    checkpoint = Path(checkpoint)
    description = described(checkpoint)
    encoder: DualEncoder = built(checkpoint, lambda: DualEncoder.from_description(description))
    with checkpoints.reading(checkpoint, "tokenizer.json"):
        tokenizer = load_tokenizer(checkpoint)
    return encoder, tokenizer, load_classes(checkpoint)


def described(checkpoint: Path) -> dict[str, Any]:
    """Read ``encoder.json`` of a whole checkpoint.

    Raises:
        ValueError: the folder is not a whole checkpoint of ours.
    """
    if not (checkpoint / checkpoints.MARKER).exists():
        raise ValueError(f"{checkpoint} is not a complete checkpoint of tauten")
    checkpoints.check(checkpoint)
    path = checkpoint / "encoder.json"
    description: Any = read_json(path)
    need(description, {}, path)
    checked: dict[str, Any] = description
    return checked


def built(checkpoint: Path, make: Callable[[], Encoder]) -> Encoder:
    """Build an encoder with the weights of a checkpoint, for evaluation, adapters merged into them.

    Args:
        checkpoint: whole.
        make: from the checkpoint's description.

    Raises:
        ValueError: the description or the weights are damaged, or do not fit each other.
    """
    with checkpoints.reading(checkpoint, "encoder.json"):
        encoder = make()
    tensors = read_tensors(checkpoint / "model.safetensors")
    scale = float(read_json(checkpoint / "encoder.json").get(LORA_SCALE, 1.0))
    with checkpoints.reading(checkpoint, "model.safetensors"):
        state = {
            name.removeprefix(ENCODER_PREFIX): value
            for name, value in tensors.items()
            if name.startswith(ENCODER_PREFIX)
        }
        encoder.load_state_dict(merged(state, scale))
    return encoder.eval()


def load_classes(checkpoint: Path) -> Classes | None:
    """Load the training counts of a checkpoint, or None where the data had no classes.

    Raises:
        ValueError: they are damaged.
    """
    path = checkpoint / "classes.json"
    if not path.exists():
        return None
    record = read_json(path)
    need(record, {"counts": dict, "head": int, "tail": int}, path)
    need(record["counts"], dict.fromkeys(record["counts"], int), f"{path}: counts")
    with checkpoints.reading(checkpoint, path.name):
        return Classes(**record)


def write_results(training: Training, probe: TauProbe, clock: Clock) -> None:
    """Evaluate the best checkpoint on val and test and write the run's files, results.json last.

    All processes encode; the first one computes and writes.
    """
    config, splits = training.config, training.splits
    best = processes.first(lambda: checkpoints.best_of(training.folder.checkpoints))
    with processes.together():
        encoder, tokenizer, classes = load_encoder(best)
        encoder.to(device_of(config.device))
    encoded = {
        name: encode_together(
            encoder, tokenizer, splits[name], classes, config.evaluation.batch_size, config.progress
        )
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
        **({} if config.task == "pairs" else {"task": config.task}),
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
    if isinstance(images, TextSource) or images.dim() < 4 or size > _LARGEST_COPY:
        return None
    return images[:][:, images.shape[1] // 2] if clips else images[:]


def protocol(training: Training, test: Encoded) -> dict[str, str]:
    """Describe how the numbers came about."""
    config, splits = training.config, training.splits
    sizes = ", ".join(f"{name} {len(data)}" for name, data in splits.items())
    side = "first texts" if config.data.texts else "images"
    kind = "different " if len(set(test.captions)) == len(test.captions) else ""
    lines = {
        "data": f"{variant_of(config.data.source) or shown(config.data.source)}: {sizes} {side}",
        "retrieval": (
            f"{len(test.x)} test {side} against {len(test.captions)} {kind}captions, both ways "
            f"(x2y: {'first text to caption' if config.data.texts else 'image to text'}, y2x: "
            f"{'caption to first text' if config.data.texts else 'text to image'}); hit@K: any "
            "match in the top K"
        ),
        "ties": TIES,
        "selection": (
            f"checkpoint with the highest {config.evaluation.metric} on the validation split, of "
            f"one every {config.evaluation.every:g} epochs; the test split was used once, after it"
        ),
        "intervals": (
            f"{of_intervals(config.evaluation.bootstrap)}, captions drawn with their x; "
            "they do not cover the spread over seeds"
        ),
    }
    lines |= cautions(config.data, runlocal=config.runlocal)
    if config.data.frames:
        lines["clips"] = f"{config.data.frames} frames of each clip, evenly spaced"
        if splits["train"].media.lazy:
            lines["clips"] += "; in training one drawn at random from each of as many segments"
    if len(test.x) < len(splits["test"]):
        lines["missing"] = (
            f"{len(splits['test']) - len(test.x)} of {len(splits['test'])} test samples lack an "
            "image or a caption and are searched by their other modalities alone"
        )
    if test.unreadable:
        lines["unreadable"] = f"{test.unreadable} test clips, searched as black frames"
    for name, source in (("validation", config.data.val), ("test", config.data.test)):
        if source is not None:
            lines[name] = f"on {variant_of(source) or shown(source)}"
    if test.relevancy is not None:
        rule = (
            "½ for the same verb class, ½ for the share of common noun classes"
            if is_named(config.data.source, "epic_kitchens")
            else "½ for the same action, ½ for the share of common words for people and skin tones "
            "in the two names"
        )
        lines["multi_instance"] = (
            f"nDCG and mAP with graded relevancy: {rule}; mAP_official counts partial relevancy as "
            "the evaluation of EPIC-KITCHENS-100 does, mAP_textbook does not"
        )
    if test.labels is not None:
        lines["class"] = of_classes(test)
    if test.groups is not None:
        lines["groups"] = (
            f"by the class's number of training samples: head >= {config.data.head}, "
            f"tail < {config.data.tail}, mid between; candidates are always all of the split"
        )
    return lines


def of_intervals(bootstrap: int) -> str:
    """Return how intervals of retrieval come about, in words."""
    return (
        "95 % over queries: Wilson for hit@K and recall@K, else percentile bootstrap with "
        f"{bootstrap} replicates"
    )


def of_classes(test: Encoded) -> str:
    """Return how metrics of classes are counted, in words."""
    assert test.labels is not None
    first = test.class_of_y() or []
    several = {
        j
        for label, captions in zip(test.labels, test.y_of_x, strict=True)
        for j in captions
        if first[j] != label and label != UNLABELLED
    }
    left = f"; {len(several)} captions of several classes count for the first" if several else ""
    return (
        "class/D/...: a candidate of the query's class is relevant, pair or not; in x2x and y2y "
        "the query itself is no candidate; class/D/n_without counts queries without a relevant "
        f"candidate, which are left out; class_map is the mean of class/D/mAP{left}"
    )


def cautions(data: DataConfig, *, runlocal: bool) -> dict[str, str]:
    """Return what a reader must know before comparing these numbers with others."""
    lines: dict[str, str] = {}
    if runlocal:
        lines["runlocal"] = (
            f"a trial of a few steps on {shown(data.source)}, with small towers: these "
            "numbers say nothing about the published ones"
        )
    if data.features == SYNTHETIC:
        lines["features"] = (
            "synthetic features: random vectors of the annotated classes with noise, of no video"
        )
    elif data.features is not None:
        lines["features"] = f"computed elsewhere: {shown(data.features)}"
    if data.protocol != "all":
        lines["published_protocol"] = (
            f"{data.protocol}: the first five captions of each image, all of them candidates"
        )
    return lines


def samples(
    folder: RunFolder, train: PairData, classes: Classes | None, probe: TauProbe
) -> dict[str, Any]:
    """Return counts, classes and τ of the training samples, over the logged steps.

    τ of a group is NaN at steps whose batch says nothing of it.
    """
    lines = [line for line in folder.read_history() if "tau/mean" in line]
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
