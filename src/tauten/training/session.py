"""A training of a configuration, from nothing or from where it was interrupted."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tauten.evaluation.temperatures import TauProbe
from tauten.files import Lock, need, read_json
from tauten.training import checkpoints, messages, processes
from tauten.training.build import check_loss
from tauten.training.initial import Initial, initial
from tauten.training.loop.allocator import keeping_memory
from tauten.training.loop.arguments import arguments
from tauten.training.loop.compute import adapters, check_device
from tauten.training.loop.environment import deterministic, versions
from tauten.training.loop.interrupt import Stopper
from tauten.training.loop.monitor import Clock, Monitor, RunningLoss
from tauten.training.loop.reporters import Reporters
from tauten.training.loop.saving import CLOCK
from tauten.training.loop.steps import Steps
from tauten.training.loop.trainer import ContrastiveTrainer
from tauten.training.options.config import Config
from tauten.training.options.config_tree import to_dict
from tauten.training.options.packages import check_packages
from tauten.training.options.pretrained import as_pretrained
from tauten.training.run.names import FAILURE, INIT
from tauten.training.run.result import RunResult, load_result
from tauten.training.run.run_folder import RunFolder
from tauten.training.specs import task as task_of
from tauten.training.stores.classes import with_classes
from tauten.training.stores.pair_data import PairData, Split
from tauten.training.stores.rows import UNLABELLED
from tauten.training.stores.splits import load_splits
from tauten.training.stores.stream import index_training
from tauten.training.tasks.task import Training


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
    with processes.losing(), keeping_memory(), contextlib.ExitStack() as until_the_end:
        with processes.together():
            config.validate()
            config = as_pretrained(config)
            check_device(config.device, config.optim.precision)
            check_packages(config.model, config.data, config.form, anew=config.init is None)
            check_loss(config)
            _check_shares(config.optim.batch_size)
            folder.check(config)
        processes.first(lambda: _own(folder, until_the_end))
        return _train(config, folder)


def _own(folder: RunFolder, until_the_end: contextlib.ExitStack) -> None:
    """Have the run's folder to this process until the end."""
    until_the_end.enter_context(Lock(folder.path))


def _train(config: Config, folder: RunFolder) -> RunResult:
    clock, task = Clock(), task_of(config.task)
    asked, config = config, dataclasses.replace(config, progress=messages.with_bars(config))
    if config.data.stream:
        processes.first(lambda: len(index_training(config.data, folder.shards, config.progress)))
    with processes.together():
        splits = load_splits(
            config.data,
            index=folder.shards,
            progress=config.progress,
            views=task.one_sided,
        )
    _check_data(splits)
    splits, classes = with_classes(splits, config.data, config.progress)
    with processes.together():
        _check_metric(config.evaluation.metric, task.selectable(splits["val"], classes))
        steps = Steps.of(len(splits["train"]), config.optim, config.evaluation)
        training = Training(config, folder, splits, classes, steps)
        start = initial(config)
        built = task.build(training, start)
        if start is not None:
            start.say()
            folder.notes["init"] = start.summary()
    if processes.first(lambda: _prepare(asked, folder, splits, start)):
        messages.say([f"{folder.path} has finished, nothing is left to train"])
        return load_result(folder.path)
    resume = processes.first(folder.resumable)
    loss = RunningLoss()
    if resume is not None:
        counters = _kept(resume / CLOCK)
        clock = Clock(float(counters["wall_s"]))
        loss = RunningLoss(**counters.get("loss", {"since": _step_of(resume)}))
    labels = splits["train"].labels
    groups, counts = None, None
    if classes is not None and labels is not None:
        groups = classes.groups(labels)
        counts = None if UNLABELLED in labels else classes.per_sample(labels)
    at = 0 if resume is None else _step_of(resume)
    messages.say(messages.opening(config, splits, classes, built.module, steps, at))
    with processes.together():
        reporters = Reporters(config.report_to, to_dict(config))
    probe = TauProbe(built.module.loss_fn, groups, counts, len(built.store))
    monitor = Monitor(
        folder,
        probe,
        lambda: built.module.forces(groups),
        steps=steps,
        loss=loss,
        metric=task.watched or config.evaluation.metric,
        clock=clock,
        progress=config.progress,
        tensorboard=config.tensorboard,
        reporters=reporters,
    )
    stopper = Stopper()
    with deterministic():
        trainer = ContrastiveTrainer(
            arguments=arguments(config, folder, steps, built.module),
            optim=config.optim,
            sharded=config.checkpoint == "sharded",
            folder=folder,
            built=built,
            described=adapters(config.model),
            validation=lambda step: task.validate(training, built, step),
            classes=classes,
            monitor=monitor,
            stopper=stopper,
            clock=clock,
        )
        with contextlib.closing(reporters):
            _go(trainer, monitor, stopper, folder, resume, steps.total)
            task.write(training, probe, clock)
            result = load_result(folder.path)
            reporters.log_test(result.test, trainer, steps.total)
    return result


def _kept(path: Path) -> dict[str, Any]:
    """Read the counters of earlier starts."""
    counters: Any = read_json(path)
    need(counters, {"wall_s": (int, float)}, path)
    need({"loss": {}, "history": {}} | counters, {"loss": dict, "history": dict}, path)
    counted: dict[str, Any] = counters
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
                folder.history.check(then["history"])
            folder.history.truncate(step)
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


def _check_shares(batch_size: int) -> None:
    if batch_size % processes.count():
        raise ValueError(
            f"optim.batch_size={batch_size} is the batch of all processes, and "
            f"{processes.count()} of them cannot share it evenly: choose a multiple of "
            f"{processes.count()}, or start another number of processes"
        )


def _check_data(splits: Mapping[Split, PairData]) -> None:
    """Refuse processes that have read different data."""
    fingerprints = processes.gather({name: data.fingerprint for name, data in splits.items()})
    with processes.together():
        for number, theirs in enumerate(fingerprints):
            if theirs != fingerprints[0]:
                raise ValueError(
                    f"processes have read different data: the splits have the fingerprints "
                    f"{fingerprints[0]} on process 0 and {theirs} on process {number}"
                )


def _check_metric(metric: str, known: Sequence[str]) -> None:
    """Refuse a metric that the validation does not have, or where lower is better."""
    if metric not in known:
        raise ValueError(
            f"evaluation.metric={metric!r} is none of this validation where "
            f"higher is better: choose one of {', '.join(known)}"
        )
