"""A training of a configuration, from nothing or from where it was interrupted."""

from __future__ import annotations

import contextlib
import dataclasses
import platform
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor

import tauten
from tauten.data.shard_store import ShardStore
from tauten.evaluation.temperatures import TauProbe
from tauten.files import Lock, need, read_json, read_sealed
from tauten.models import DualEncoder
from tauten.models.batch_norm import with_whole_batches
from tauten.models.rebuild import check_rebuilds, check_repeats
from tauten.structure import Clusters, embed_captions
from tauten.structure.clustering import embedded_clusters
from tauten.training import checkpoints, messages, processes
from tauten.training.build import (
    build_encoder,
    build_loss,
    build_tokenizer,
    check_loss,
    check_texts,
    started,
)
from tauten.training.initial import Initial, initial
from tauten.training.loop.allocator import keeping_memory
from tauten.training.loop.compute import check_device, compiled, fitted
from tauten.training.loop.interrupt import Stopper
from tauten.training.loop.monitor import Clock, Force, ForceProbe, Monitor, RunningLoss
from tauten.training.loop.reporters import Reporters
from tauten.training.loop.steps import Steps
from tauten.training.loop.trainer import CLOCK, ContrastiveTrainer
from tauten.training.options.config import Config, DataConfig
from tauten.training.options.packages import check_packages
from tauten.training.options.pretrained import as_pretrained, tell_of_pixels
from tauten.training.options.view_rules import METRICS as VIEW_METRICS
from tauten.training.run.run_folder import FAILURE, INIT, RESULTS, RunFolder
from tauten.training.stores.pairs import PairStore, caption_counts, training_texts
from tauten.training.stores.rows import UNLABELLED
from tauten.training.stores.splits import Classes, PairData, Split, load_splits
from tauten.training.stores.stream import index_training, usable
from tauten.training.tasks.encode import selectable
from tauten.training.tasks.module import ContrastiveModule
from tauten.training.tasks.results import write_results
from tauten.training.tasks.view_module import ViewForceProbe
from tauten.training.tasks.view_results import write_view_results
from tauten.training.tasks.view_trainer import ViewTrainer, build_views

#: text towers whose vocabulary is that of the training captions
_FITTED = ("words", "ngrams")


@dataclass(frozen=True)
class RunResult:
    """Result of a finished run.

    Attributes:
        output: the run's folder.
        test: metrics of the best checkpoint on the test split, with intervals and groups.
        val: the same on the validation split, by which the checkpoint was chosen.
        best_step: optimiser step of the best checkpoint.
        total_steps: optimiser steps of the training.
        wall_s: seconds of work, over all starts.
    """

    output: Path
    test: dict[str, float]
    val: dict[str, float]
    best_step: int
    total_steps: int
    wall_s: float


def train(config: Config) -> RunResult:
    """Train, evaluate and write the run folder; go on where an earlier start was interrupted.

    Started again with the same configuration after a kill at any moment, it ends with the same
    weights, temperatures, metrics and history, bit for bit, as without interruption (same machine,
    same number of threads). A finished run is not trained again.

    Started by ``torchrun`` or ``accelerate launch`` in several processes, all of them call it with
    the same configuration, and all have the result. They share every batch: where nothing is drawn
    at random the training is that of one process, up to rounding. All must see the same ``output``
    folder, to which the first one writes.

    Args:
        config: everything; it writes to ``config.output`` only.

    Returns:
        The final metrics.

    Raises:
        ValueError: a configuration, data set or output folder that cannot be used, with the reason;
            a batch that the processes cannot share evenly.
        ElsewhereError: another process failed; that one raises its own error.
        NonFiniteLossError: the loss or a gradient became NaN or infinite; the last checkpoint and
            ``failure.json`` stay.
        KeyboardInterrupt: SIGINT, after which a checkpoint of the step at hand is saved; SIGTERM
            likewise ends in SystemExit. A second signal ends at once.
    """
    processes.join()
    folder = RunFolder(config.output)
    with processes.losing(), keeping_memory(), contextlib.ExitStack() as kept:
        with processes.together():
            config.validate()
            config = as_pretrained(config)
            check_device(config)
            check_packages(config)
            check_loss(config)
            _check_shares(config.optim.batch_size)
            folder.check(config)
        processes.first(lambda: _own(folder, kept))
        return _train(config, folder)


def _own(folder: RunFolder, kept: contextlib.ExitStack) -> None:
    """Have the run's folder to this process until the end."""
    kept.enter_context(Lock(folder.path))


def _train(config: Config, folder: RunFolder) -> RunResult:
    clock = Clock()
    asked, config = config, dataclasses.replace(config, progress=messages.with_bars(config))
    if config.data.stream:
        processes.first(lambda: len(index_training(config.data, folder.shards, config.progress)))
    with processes.together():
        splits = load_splits(
            config.data,
            index=folder.shards,
            progress=config.progress,
            views=config.task == "views",
        )
    _check_data(splits)
    splits, classes = with_classes(splits, config.data, config.progress)
    with processes.together():
        _check_metric(config, splits["val"], classes)
        steps = Steps.of(len(splits["train"]), config.optim, config.evaluation)
        task = _TASKS[config.task]
        start = initial(config)
        module, tokenizer, store = task.build(config, splits["train"], classes, steps, start)
        if start is not None:
            start.say()
            folder.notes["init"] = start.summary()
    if processes.first(lambda: _prepare(asked, folder, splits, start)):
        messages.say([f"{folder.path} has finished, nothing is left to train"])
        return load_result(folder.path)
    resume = processes.first(folder.resumable)
    loss = RunningLoss()
    if resume is not None:
        kept = _kept(resume / CLOCK)
        clock = Clock(float(kept["wall_s"]))
        loss = RunningLoss(**kept.get("loss", {"since": _step_of(resume)}))
    labels = splits["train"].labels
    groups, counts = None, None
    if classes is not None and labels is not None:
        groups = classes.groups(labels)
        counts = None if UNLABELLED in labels else classes.per_sample(labels)
    at = 0 if resume is None else _step_of(resume)
    messages.say(messages.opening(config, splits, classes, module, steps, at))
    with processes.together():
        reporters = Reporters(config)
    probe = TauProbe(module.loss_fn, groups, counts, len(store))
    monitor = Monitor(
        folder,
        probe,
        task.force(module, groups),
        steps=steps,
        loss=loss,
        metric=config.evaluation.metric if config.task == "views" else "mean_recall",
        clock=clock,
        progress=config.progress,
        tensorboard=config.tensorboard,
        reporters=reporters,
    )
    stopper = Stopper()
    with deterministic():
        trainer = task.trainer(
            config=config,
            folder=folder,
            module=module,
            tokenizer=tokenizer,
            store=store,
            validation=splits["val"],
            classes=classes,
            monitor=monitor,
            stopper=stopper,
            clock=clock,
            steps=steps,
        )
        with contextlib.closing(reporters):
            _go(trainer, monitor, stopper, folder, resume, steps.total)
            task.write(config, folder, splits, classes, probe, clock, steps.total)
            result = load_result(folder.path)
            reporters.log_test(result.test, trainer, steps.total)
    return result


def _kept(path: Path) -> dict[str, Any]:
    """Read the counters of earlier starts."""
    found: Any = read_json(path)
    need(found, {"wall_s": (int, float)}, path)
    need({"loss": {}, "history": {}} | found, {"loss": dict, "history": dict}, path)
    counted: dict[str, Any] = found
    return counted


def _prepare(
    config: Config, folder: RunFolder, splits: Mapping[Split, PairData], start: Initial | None
) -> bool:
    """Make the run's folder ready; returns whether it holds a finished run."""
    contents: dict[str, str] = {
        name: data.contents for name, data in splits.items() if data.contents
    }
    if start is not None:
        contents[INIT] = start.sum
    folder.prepare(
        config,
        {name: data.fingerprint for name, data in splits.items()},
        versions(),
        contents,
    )
    return folder.finished()


def _go(
    trainer: ContrastiveTrainer,
    monitor: Monitor,
    stopper: Stopper,
    folder: RunFolder,
    resume: Path | None,
    total_steps: int,
) -> None:
    step = 0 if resume is None else _step_of(resume)
    with processes.together():
        if processes.rank() == 0:
            if resume is not None and "history" in (then := _kept(resume / CLOCK)):
                folder.check_history(then["history"])
            folder.truncate_history(step)
            (folder.path / FAILURE).unlink(missing_ok=True)
            _restore_best(folder, resume)
    if resume is not None and step >= total_steps:
        trainer.restore(resume)
        return
    try:
        with stopper.listening():
            trainer.train(resume_from_checkpoint=None if resume is None else str(resume))
    finally:
        monitor.close()


def _step_of(checkpoint: Path) -> int:
    return int(checkpoint.name.split("-")[1])


def _restore_best(folder: RunFolder, resume: Path | None) -> None:
    """Make ``best`` agree with the checkpoint that training goes on from."""
    if resume is None:
        return
    root = folder.checkpoints
    step = checkpoints.state_of(resume).get("best_global_step")
    if step is None:
        return
    wanted, best = root / f"checkpoint-{step}", root / checkpoints.BEST
    if checkpoints.is_complete(best) and checkpoints.state_of(best)["global_step"] == step:
        if checkpoints.best_of(root) == best:
            return
    elif not wanted.exists():
        return
    checkpoints.check(wanted)
    checkpoints.set_best(wanted, root)


def _build(
    config: Config,
    train: PairData,
    classes: Classes | None,
    steps: Steps,
    start: Initial | None = None,
) -> tuple[ContrastiveModule, Any, PairStore | ShardStore]:
    features = train.images.shape[1] if train.images.dim() == 2 else 0
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        texts = training_texts(train, config.data) if config.model.text in _FITTED else []
        tokenizer = None if start is None else start.tokenizer_for(config, texts)
        tokenizer = tokenizer or build_tokenizer(config.model, texts)
        if train.shards is None and config.model.text not in _FITTED:
            check_texts(tokenizer, train.captions, config.model.text)
        size = tokenizer.vocabulary_size
        counts = classes.per_sample(train.labels) if classes and train.labels else None
        if start is None:
            frames, pixels = config.data.frames, config.data.image_size
            encoder = build_encoder(
                config.model, size, frames, pixels, features=features, texts=config.data.texts
            )
        else:
            encoder = started(start, config, size, features)
        table = None if train.relevancy is None else train.relevancy.table
        captions = caption_counts(train) if check_loss(config) else None
        loss_fn = build_loss(
            *(config, len(train), counts, steps.total, train.labels, table, steps.per_epoch),
            captions,
        )
        if start is not None:
            start.loss(config, loss_fn)
    tell_of_pixels(encoder.image_tower, config.model.image, config.data)
    fitted(encoder, config)
    if processes.count() > 1:
        with_whole_batches(encoder)
    module = ContrastiveModule(
        encoder,
        loss_fn,
        config.loss.mask_duplicates,
        config.optim.chunk,
        config.loss.relevance == "positives",
        *config.loss.keys_kept,
        terms=config.terms.build(),
        teacher=config.loss.teacher,
        mixed=config.loss.mixed,
    )
    store = _store(train, tokenizer, config.data, captions)
    _try_one(encoder, store, _usable(train))
    compiled(encoder, config)
    return module, tokenizer, store


def _usable(train: PairData) -> int:
    """Return the position of a sample that can be used."""
    if train.shards is not None:
        return usable(train.shards)
    return 0 if isinstance(train.images, Tensor) else train.images.usable()


def _store(
    train: PairData, tokenizer: Any, config: DataConfig, captions: Tensor | None
) -> PairStore | ShardStore:
    if train.shards is None:
        return PairStore(train, tokenizer, config, captions)
    return ShardStore(
        train.shards,
        tokenizer,
        alternative=config.alternative,
        keywords=config.keywords,
        strict=config.strict,
        captions=captions,
    )


@dataclass(frozen=True)
class _Task:
    """Differences between trainings of pairs and of views.

    Attributes:
        build: config, training split, classes and steps to module, tokenizer and store.
        trainer: trains and validates it.
        force: probe of its forces.
        write: evaluates the best checkpoint and writes the results.
    """

    build: Callable[..., tuple[Any, Any, Any]]
    trainer: type[ContrastiveTrainer]
    force: Callable[..., Force]
    write: Callable[..., None]


_TASKS = {
    "pairs": _Task(_build, ContrastiveTrainer, ForceProbe, write_results),
    "views": _Task(build_views, ViewTrainer, ViewForceProbe, write_view_results),
}


@torch.no_grad()
def _try_one(encoder: DualEncoder, store: PairStore | ShardStore, position: int) -> None:
    """Let towers refuse images or texts that they cannot take before anything is written.

    Raises:
        ValueError: also for a tower that a checkpoint could not be read into, or one that embeds
            the same sample differently each time.
    """
    for tower in (encoder.image_tower, encoder.text_tower):
        check_rebuilds(tower)
    with torch.random.fork_rng():
        sample = store.batch(torch.tensor([position]))
        both = [encoder.eval()(sample["images"], sample["texts"]) for _ in range(2)]
    for tower, old, new in zip((encoder.image_tower, encoder.text_tower), *both, strict=True):
        check_repeats(tower, old, new)
    encoder.train()


def _check_shares(batch_size: int) -> None:
    if batch_size % processes.count():
        raise ValueError(
            f"optim.batch_size={batch_size} is the batch of all processes, and "
            f"{processes.count()} of them cannot share it evenly: choose a multiple of "
            f"{processes.count()}, or start another number of processes"
        )


def _check_data(splits: Mapping[Split, PairData]) -> None:
    """Refuse processes that have read different data."""
    found = processes.gather({name: data.fingerprint for name, data in splits.items()})
    with processes.together():
        for number, theirs in enumerate(found):
            if theirs != found[0]:
                raise ValueError(
                    f"processes have read different data: the splits have the fingerprints "
                    f"{found[0]} on process 0 and {theirs} on process {number}"
                )


def _check_metric(config: Config, validation: PairData, classes: Classes | None) -> None:
    """Refuse a metric that the validation does not have, or where lower is better."""
    known = [*VIEW_METRICS] if config.task == "views" else selectable(validation, classes)
    if config.evaluation.metric not in known:
        raise ValueError(
            f"evaluation.metric={config.evaluation.metric!r} is none of this validation where "
            f"higher is better: choose one of {', '.join(known)}"
        )


def with_classes(
    splits: dict[Split, PairData], config: DataConfig, progress: bool = True
) -> tuple[dict[Split, PairData], Classes | None]:
    """Give each sample a class, from labels or caption clusters, and count those of training.

    Every split's captions are assigned to the nearest cluster of the training captions.
    """
    train = splits["train"]
    if train.labels is None and config.clusters > 0:
        labels = processes.first(lambda: _clusters(splits, config.clusters, progress))
        splits = {
            name: dataclasses.replace(data, labels=labels[name]) for name, data in splits.items()
        }
        train = splits["train"]
    if train.labels is None:
        return splits, None
    counts = dict(Counter(name for name in train.labels if name != UNLABELLED))
    return splits, Classes(counts, config.head, config.tail, config.groups)


def _clusters(
    splits: Mapping[Split, PairData], count: int, progress: bool
) -> dict[Split, list[str]]:
    """Return the name of each sample's cluster, of each split."""
    captions = {name: [texts[0] for texts in data.all_captions()] for name, data in splits.items()}
    clusters, train = embedded_clusters(
        captions.pop("train"),
        count,
        starts=1,
        progress=progress,  # as runs of earlier versions had
    )
    others = {name: embed_captions(texts, progress=progress) for name, texts in captions.items()}
    embeddings: dict[Split, Tensor] = {"train": train, **others}
    return {name: _nearest(rows, clusters) for name, rows in embeddings.items()}


def _nearest(embeddings: Tensor, clusters: Clusters) -> list[str]:
    nearest = (embeddings @ clusters.centroids.T).argmax(dim=1)
    return [f"cluster {int(c)}" for c in nearest]


def versions() -> dict[str, Any]:
    """Return what results may depend on beside the configuration."""
    return {
        "python": platform.python_version(),
        "tauten": tauten.__version__,
        "torch": str(torch.__version__),
        "transformers": str(transformers.__version__),
        "threads": torch.get_num_threads(),
        "device": "cuda" if torch.cuda.is_available() else "cpu",
        "processes": processes.count(),
    }


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """Use deterministic algorithms where torch has them, and restore the setting at the end."""
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)


def load_result(run: Path) -> RunResult:
    """Load the result of a finished run.

    Raises:
        ValueError: the run has not finished, or the file is damaged.
    """
    path = run / RESULTS
    if not path.exists():
        raise ValueError(f"{run} has no {RESULTS}: the run has not finished")
    found = read_sealed(path, ())
    numbers = (int, float)
    fields = {"test": dict, "val": dict, "best_step": int, "total_steps": int, "wall_s": numbers}
    need(found, fields, path)
    return RunResult(
        output=run,
        test=found["test"],
        val=found["val"],
        best_step=found["best_step"],
        total_steps=found["total_steps"],
        wall_s=found["wall_s"],
    )
