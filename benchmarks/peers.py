"""Our loss over processes against open_clip's: time, memory, bytes on the wire.

    python benchmarks/peers.py [--world 2 4] [--batch 2048 8192] [--rounds 5]

Forward and backward of InfoNCE with one learned τ, float32, d = 512, global batch as given, gloo on
loopback, one thread for each process. Contenders take turns in the same processes:

* ``open_clip``: its ClipLoss with ``local_loss=True, gather_with_grad=True``, the class itself
  where open_clip is installed, else the same computation written out.
* ``gather`` and ``ring``: ``tauten.InfoNCE`` with that ``ranks=``.

Bytes are counted by the kernel's counters of the loopback interface, divided by the processes.
Memory is the rise of the largest process's peak resident set over its inputs, each contender in
processes of its own. A round's ratio is to open_clip's time of that round.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from shared import file_of
from torch import Tensor, distributed, multiprocessing
from torch.distributed.nn.functional import all_gather
from torch.nn import functional as F

import tauten as tt

MODULE = file_of("open_clip", "loss.py")
CONTENDERS = ("open_clip", "gather", "ring")


class WrittenOut(torch.nn.Module):
    """What open_clip's ClipLoss does with local_loss and gather_with_grad."""

    def forward(self, image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
        all_image, all_text = torch.cat(all_gather(image)), torch.cat(all_gather(text))
        labels = torch.arange(len(image)) + len(image) * distributed.get_rank()
        of_image = scale * image @ all_text.T
        of_text = scale * text @ all_image.T
        return (F.cross_entropy(of_image, labels) + F.cross_entropy(of_text, labels)) / 2


def contender(name: str, world: int, rank: int) -> Any:
    """A callable of (x, y) that does one forward and backward."""
    if name == "open_clip":
        log_scale = torch.nn.Parameter(torch.tensor(1 / 0.07).log())
        options = (True, True, True, rank, world)
        loss = WrittenOut() if MODULE is None else MODULE.ClipLoss(*options)

        def step(x: Tensor, y: Tensor) -> Tensor:
            value = loss(F.normalize(x, dim=1), F.normalize(y, dim=1), log_scale.exp())
            value.backward()
            return value.detach()

        return step
    loss_fn = tt.InfoNCE(tt.Learnable(0.07, 0.01, 1.0), ranks=name)

    def ours(x: Tensor, y: Tensor) -> Tensor:
        value = loss_fn(x, y)
        value.backward()
        return value.detach()

    return ours


def loopback() -> int:
    """Bytes that the loopback interface has received."""
    for line in Path("/proc/net/dev").read_text().splitlines():
        if line.strip().startswith("lo:"):
            return int(line.split(":")[1].split()[0])
    return 0


def work(rank: int, world: int, batch: int, rounds: int, names: list[str], store: str) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=world
    )
    generator = torch.Generator().manual_seed(rank)
    x, y = (torch.randn(batch // world, 512, generator=generator) for _ in range(2))
    x.requires_grad_(), y.requires_grad_()
    steps = {name: contender(name, world, rank) for name in names}
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    seconds: dict[str, list[float]] = {name: [] for name in names}
    received: dict[str, list[int]] = {name: [] for name in names}
    for turn in range(rounds + 1):
        for name, step in steps.items():
            x.grad = y.grad = None
            distributed.barrier()
            start, bytes_before = time.perf_counter(), loopback()
            step(x, y)
            distributed.barrier()
            if turn or rounds == 1:
                seconds[name].append(time.perf_counter() - start)
                received[name].append(loopback() - bytes_before)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    peaks: list[Any] = [None] * world
    distributed.all_gather_object(peaks, peak)
    if rank == 0:
        torch.save((seconds, received, max(peaks)), f"{store}.out")
    distributed.destroy_process_group()


def measure(world: int, batch: int, rounds: int, names: list[str]) -> Any:
    with tempfile.TemporaryDirectory() as folder:
        store = str(Path(folder) / "store")
        multiprocessing.spawn(work, (world, batch, rounds, names, store), nprocs=world)
        return torch.load(f"{store}.out")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--world", type=int, nargs="+", default=[2, 4])
    parser.add_argument("--batch", type=int, nargs="+", default=[2048, 8192])
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    columns = (
        *("ranks", "batch", "loss", "ms", "/open_clip"),
        *("MB/rank", "ratio", "extra MiB", "ratio"),
    )
    print("".join(f"{name:>12}" for name in columns))
    for world in options.world:
        for batch in options.batch:
            seconds, received, _ = measure(world, batch, options.rounds, list(CONTENDERS))
            extra = {name: measure(world, batch, 1, [name])[2] / 1024 for name in CONTENDERS}
            moved = {name: statistics.median(received[name]) / world / 1e6 for name in CONTENDERS}
            for name in CONTENDERS:
                pairs = zip(seconds[name], seconds["open_clip"], strict=True)
                ratio = statistics.median(a / b for a, b in pairs)
                print(
                    f"{world:12}{batch:12}{name:>12}{1e3 * statistics.median(seconds[name]):12.0f}"
                    f"{ratio:12.2f}{moved[name]:12.1f}{moved[name] / moved['open_clip']:12.2f}"
                    f"{extra[name]:12.0f}{extra[name] / extra['open_clip']:12.2f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
