"""What it costs a process to train beside others: CPU time of a step on one process and on two.

    python benchmarks/processes.py [--recipes emoji_infonce_mmts emoji_isogclr] [--rounds 8]

Trains the same recipe three times at once, in turns of a few steps: one process with the whole
batch, one process with a half of it, and two processes (gloo) that share the whole batch. A step's
CPU time is that of all threads of a process; medians over the turns. Overhead is what a rank takes
above the process that trains a half of the batch, as a share of the rank's time; what two ranks
take together is shown over one process with the whole batch. Steps that log, evaluate or save are
not among those measured.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

#: processes of each training, and what a process's batch is of the recipe's
TRAININGS = {"whole batch": (1, 1.0), "half of it": (1, 0.5), "two processes": (2, 1.0)}
WARM_UP = 5


class Ended(BaseException):
    """The measurement is over."""


def work(
    recipe: str, share: float, rank: int, size: int, port: int, folder: str, turns: Connection
) -> None:
    """Train, so many steps at a time as are asked for, and answer with the CPU ms of a step."""
    if size > 1:
        group = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": size, "MASTER_PORT": port}
        os.environ.update({name: str(value) for name, value in group.items()})
        os.environ.update(MASTER_ADDR="127.0.0.1", ACCELERATE_USE_CPU="true")

    import torch

    from tauten.recipes import get
    from tauten.training import train
    from tauten.training.loop.monitor import Monitor

    torch.set_num_threads(1)
    left, started, before = WARM_UP, 0.0, Monitor.on_step_end

    def on_step_end(monitor: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal left, started
        control = before(monitor, *args, **kwargs)
        left -= 1
        if not left:
            turns.send(time.process_time() - started)
            left = turns.recv()
            if not left:
                raise Ended
            started = time.process_time()
        return control

    Monitor.on_step_end = on_step_end  # type: ignore[method-assign]
    config = get(recipe)(Path(folder), epochs=1000)
    config.optim.batch_size = round(config.optim.batch_size * share)
    config.progress = config.tensorboard = False
    config.device, config.log_every, config.evaluation.every = "cpu", 10**6, 1000.0
    try:
        train(config)
    except Ended:
        os._exit(0)  # what a training does at its end is no part of this


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def measure(recipe: str, rounds: int, steps: int) -> dict[str, float]:
    """Return the median CPU ms of a step of each training, of its slower process."""
    context = multiprocessing.get_context("spawn")
    turns: dict[str, list[Connection]] = {}
    with tempfile.TemporaryDirectory() as root:
        for name, (size, share) in TRAININGS.items():
            port, turns[name] = free_port(), []
            for rank in range(size):
                ours, theirs = context.Pipe()
                folder = f"{root}/{name}".replace(" ", "-")
                args = (recipe, share, rank, size, port, folder, theirs)
                context.Process(target=work, args=args, daemon=True).start()
                turns[name].append(ours)
        for ends in turns.values():
            for end in ends:
                end.recv()
        found: dict[str, list[float]] = {name: [] for name in turns}
        for _ in range(rounds):
            for name, ends in turns.items():
                for end in ends:
                    end.send(steps)
                found[name].append(max(1000 * end.recv() / steps for end in ends))
        for ends in turns.values():
            for end in ends:
                end.send(0)
    return {name: statistics.median(each) for name, each in found.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", nargs="+", default=["emoji_infonce_mmts", "emoji_isogclr"])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5, help="of a turn")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    print("CPU ms of a step and process\n")
    print("| recipe | one process | one, half the batch | each of two | overhead | both / one |")
    print("| --- | --- | --- | --- | --- | --- |")
    for recipe in args.recipes:
        whole, half, rank = measure(recipe, args.rounds, args.steps).values()
        print(
            f"| `{recipe}` | {whole:.1f} | {half:.1f} | {rank:.1f} | {1 - half / rank:.0%} | "
            f"{2 * rank / whole:.2f} |"
        )


if __name__ == "__main__":
    main()
