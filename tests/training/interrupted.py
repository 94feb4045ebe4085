"""Trains with SIGKILLs in between; run by test_resume.py in a process of its own.

All attempts are forks of one process that has done the slow imports, so that each is a real process
that really dies. One thread only: threads do not survive a fork.
"""

import json
import os
import random
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tauten.training import Config, checkpoints, specs, train
from tauten.training.checkpoints import files as checkpoint_files
from tauten.training.loop.trainer import ContrastiveTrainer
from tauten.training.run import run_folder
from tauten.training.run.history import History
from tauten.training.stores.pair_data import SPLITS
from tauten.training.stores.splits import load_split
from tauten.training.tasks import results


def config(output: Path, method: str) -> Config:
    made = Config(output=output, progress=False, log_every=4, seed=3)
    made.data.limit = 320
    made.data.keywords, made.data.alternative = 0.3, 0.3
    made.model.channels, made.model.dim, made.model.text_width = (8, 8), 16, 16
    made.model.augmentation.noise = 0.02
    made.optim.batch_size, made.optim.epochs = 32, 2
    made.evaluation.every, made.evaluation.bootstrap = 0.7, 20
    if method == "mmts":
        made.optim.epochs = 4
        made.loss, made.control = specs.loss(force="equalized"), specs.control("mmts")
    elif method == "tempnet":
        made.loss, made.control = specs.loss("sogclr"), specs.control("tempnet")
    else:
        made.loss, made.control = specs.loss("fastclip"), specs.control("learnable")
    return made


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def after(times: int, function: Callable[..., Any]) -> Callable[..., Any]:
    """The function, which kills the process when called that often."""
    left = [times]

    def counted(*args: Any, **kwargs: Any) -> Any:
        if left[0] == 0:
            die()
        left[0] -= 1
        return function(*args, **kwargs)

    return counted


def half_written(path: Path, function: Callable[..., Any]) -> Callable[..., Any]:
    def write(*args: Any, **kwargs: Any) -> Any:
        with path.open("a") as file:
            file.write('{"step": 12, "epo')
        die()

    return write


def arm(where: str, number: int, output: Path) -> None:
    trainer = ContrastiveTrainer
    if where == "step":
        trainer.training_step = after(number, trainer.training_step)
    elif where == "optimizer.pt":
        trainer._save_optimizer_and_scheduler = after(number, trainer._save_optimizer_and_scheduler)
    elif where == "marker":
        checkpoint_files.seal = after(number, checkpoint_files.seal)
    elif where == "best":
        checkpoint_files._link = after(number, checkpoint_files._link)
    elif where == "rotation":
        checkpoints.rotate = after(number, checkpoints.rotate)
    elif where == "history":
        History.append = half_written(output / "history.jsonl", History.append)
    elif where == "results":
        run_folder.replace_text = after(0, run_folder.replace_text)
        results.write_results = die


def attempt(output: Path, where: str | None = None, number: int = 0) -> int:
    """Train the method that the folder above is named after, in a fork.

    Returns:
        Its exit code, or minus the signal that ended it.
    """
    child = os.fork()
    if child == 0:
        code = 1
        try:
            if where is not None:
                arm(where, number, output)
            train(config(output, output.parent.name))
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main(root: Path) -> None:
    torch.set_num_threads(1)
    for split in SPLITS:
        load_split(config(root, "mmts").data, split)  # kept for all forks
    draw = random.Random(0)
    kills = [("step", draw.randrange(1, 6)), ("step", draw.randrange(8, 12)), ("history", 0)]
    kills += [("optimizer.pt", 1), ("step", draw.randrange(1, 14)), ("marker", 1), ("best", 2)]
    kills += [("rotation", 0), ("step", draw.randrange(1, 9)), ("results", 0)]
    few = [("step", draw.randrange(8, 13)), ("marker", 0)]
    ends = {}
    for method, deaths in (("mmts", kills), ("tempnet", few), ("fastclip", few)):
        folder = root / method
        killed = [attempt(folder / "killed", *death) for death in deaths]
        ends[method] = {
            "whole": [attempt(folder / "whole")],
            "killed": [*killed, attempt(folder / "killed")],
        }
    print(json.dumps(ends))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
