"""What it costs a process to train beside others: CPU time of a step on one process and on two.

    python benchmarks/processes.py [--recipes emoji_infonce_mmts emoji_isogclr] [--rounds 8]

Trains the same recipe in four ways, in turns of a few steps: one process with the whole batch, one
with a half of it, two such processes at once that know nothing of each other, and two (gloo) that
share the whole batch. A step's CPU time is that of all threads of a process, of the slower one of
two; medians over the turns. Steps that log, evaluate or save are not among those measured.

Overhead is what a process of the shared batch takes above one that trains a half of it alone, as a
share of its time. A second table says where the time of two processes goes, in ms of one of them:
half of a step with the whole batch; what a step costs whatever the batch, which both pay (Python,
the optimiser); what running beside another costs, without a message; and the rest, which is
training together: messages, waiting, what is done twice.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import socket
import statistics
import tempfile
import time
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

#: trainings at once, processes of each, and what a training's batch is of the recipe's
TRAININGS = {
    "whole batch": (1, 1, 1.0),
    "half of it": (1, 1, 0.5),
    "two apart": (2, 1, 0.5),
    "two processes": (1, 2, 1.0),
}
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


def measure(recipe: str, rounds: int, steps: int) -> list[float]:
    """Return the median CPU ms of a step in each way, of its slower process."""
    context, port = multiprocessing.get_context("spawn"), 0
    turns: dict[str, list[Connection]] = {}
    with tempfile.TemporaryDirectory() as root:
        for name, (count, size, share) in TRAININGS.items():
            turns[name] = []
            for number, rank in itertools.product(range(count), range(size)):
                port = port if rank else free_port()
                ours, theirs = context.Pipe()
                folder = f"{root}/{name}-{number}".replace(" ", "-")
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
    return [statistics.median(each) for each in found.values()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipes", nargs="+", default=["emoji_infonce_mmts", "emoji_isogclr"])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--steps", type=int, default=5, help="of a turn")
    args = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    found = {name: measure(name, args.rounds, args.steps) for name in args.recipes}
    print("CPU ms of a step and process\n")
    print("| recipe | one process | one, half the batch | each of two | overhead | both / one |")
    print("| --- | --- | --- | --- | --- | --- |")
    for recipe, (whole, half, _, each) in found.items():
        print(
            f"| `{recipe}` | {whole:.1f} | {half:.1f} | {each:.1f} | {1 - half / each:.0%} | "
            f"{2 * each / whole:.2f} |"
        )
    print("\n| recipe | half of a whole step | fixed, of each step | beside another | together |")
    print("| --- | --- | --- | --- | --- |")
    for recipe, (whole, half, apart, each) in found.items():
        parts = whole / 2, half - whole / 2, apart - half, each - apart
        shown = " | ".join(f"{part:.1f} ({part / each:.0%})" for part in parts)
        print(f"| `{recipe}` | {shown} |")


if __name__ == "__main__":
    main()
