"""Processes that train, save and load sharded checkpoints.

Run as ``python sharded_worker.py FOLDER``. Four processes train and save under DDP and FSDP2; one
trains, saves, and trains to the end; two load what was saved on four and on one, go on and save
again. Every process writes what it had when it saved, and what differed when it had loaded.
"""

import sys
import warnings
from functools import partial
from pathlib import Path

import torch
from torch import distributed as dist
from torch import multiprocessing, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import tauten as tt
from tauten.training.checkpoints.sharded import load_sharded, save_sharded

SAMPLES, ROWS, WIDTH, STEPS = 20_000, 8, 128, 3
SHARDS = {1: [8], 2: [5, 3], 4: [3, 1, 1, 3]}
COUNTS = [1 + i % 7 for i in range(SAMPLES)]


def losses():
    """Tables of both sizes, learned temperatures, schedules of data, running means."""
    return nn.ModuleDict(
        {
            "isogclr": tt.iSogCLR(SAMPLES, 0.5, 0.6, 0.2, (0.05, 1.0), table_device="cpu"),
            "grows": tt.FastCLIP(None, "v2", tt.Anneal(1.0, 0.3, steps=8, every=2)),
            "tempnet": tt.SogCLR(SAMPLES, tt.TempNet(4, 0.5, (0.1, 0.5), dropout=0.0), 0.6),
            "equalized": tt.InfoNCE(
                0.5 * tt.Learnable(0.2, 0.05, 1.0) + tt.mmts(COUNTS, 0.1, (0.1, 0.3), 7),
                force="equalized",
            ),
            "nuclr": tt.NUCLR(SAMPLES, 0.2, 0.6, lr=0.2),
        }
    )


class Pair(nn.Module):
    """Two towers and the sum of all losses."""

    def __init__(self):
        super().__init__()
        self.left, self.right = (
            nn.Sequential(
                nn.Linear(size, WIDTH), nn.GELU(), nn.Linear(WIDTH, WIDTH), nn.Linear(WIDTH, 4)
            )
            for size in (6, 5)
        )
        self.losses = losses()

    def forward(self, a, b, ids):
        x, y = self.left(a), self.right(b)
        return sum(loss_fn(x, y, ids) for loss_fn in self.losses.values())


class Training:
    """A wrapped module, its optimiser and its schedule."""

    def __init__(self, wrapper, seed=0):
        torch.manual_seed(seed)
        self.inner = self.module = Pair().double()
        if wrapper == "fsdp2":
            mesh = init_device_mesh("cpu", (dist.get_world_size(),))
            for part in (self.inner.left, self.inner.right, self.inner):
                fully_shard(part, mesh=mesh)
        if wrapper == "ddp":
            self.module = DistributedDataParallel(self.inner, broadcast_buffers=False)
        towers = [*self.inner.left.parameters(), *self.inner.right.parameters()]
        groups = [{"params": towers}, {"params": self.inner.losses.parameters(), "lr": 0.05}]
        self.optimizer = torch.optim.AdamW(groups, lr=0.01)
        self.schedule = torch.optim.lr_scheduler.ExponentialLR(self.optimizer, 0.7)
        self.steps = 0

    def train(self, shard):
        for _ in range(STEPS):
            generator = torch.Generator().manual_seed(self.steps)
            a = torch.randn(ROWS, 6, generator=generator, dtype=torch.float64)
            b = torch.randn(ROWS, 5, generator=generator, dtype=torch.float64)
            ids = torch.randint(0, SAMPLES, (ROWS,), generator=generator)
            ids[6] = ids[0]
            self.optimizer.zero_grad()
            self.module(a[shard], b[shard], ids[shard]).backward()
            self.optimizer.step()
            self.schedule.step()
            for loss_fn in self.inner.losses.values():
                loss_fn.step()
            self.steps += 1
        return self.state()

    def save(self, folder):
        extra = {"steps": self.steps, "schedule": self.schedule.state_dict()}
        save_sharded(folder, self.module, self.optimizer, extra)
        return self.state()

    def load(self, folder):
        extra = load_sharded(folder, self.module, self.optimizer)
        self.steps = extra["steps"]
        self.schedule.load_state_dict(extra["schedule"])
        return self.state()

    def state(self):
        """Every tensor and number, whole and by the names of the plain module."""
        found = {name: full(value).clone() for name, value in self.inner.state_dict().items()}
        for name, parameter in self.inner.named_parameters():
            for key, value in self.optimizer.state[parameter].items():
                found[f"{name}/{key}"] = full(value).clone()
        for at, group in enumerate(self.optimizer.param_groups):
            found[f"lr/{at}"] = torch.tensor(group["lr"], dtype=torch.float64)
        found["steps"] = torch.tensor([loss_fn.steps for loss_fn in self.inner.losses.values()])
        return found


def full(value):
    return value.full_tensor() if hasattr(value, "full_tensor") else value


def unequal(found, expected, exact):
    """Names whose values differ, by a bit or by more than 1e-9."""
    assert found.keys() == expected.keys()
    close = partial(torch.allclose, rtol=1e-9, atol=1e-9, equal_nan=True)
    same = torch.equal if exact else close
    return [name for name, value in expected.items() if not same(found[name], value)]


def on_four(shard, folder):
    """What was saved."""
    for wrapper in ("ddp", "fsdp2"):
        training = Training(wrapper)
        training.train(shard)
        yield f"{wrapper}-4", training.save(folder / f"{wrapper}-4")


def on_one(shard, folder):
    """What was saved, and the end of a training without a stop."""
    training = Training(None)
    training.train(shard)
    yield "plain-1", training.save(folder / "plain-1")
    yield "end", training.train(shard)


def on_two(shard, folder):
    """What was saved, and what differed."""
    expected = torch.load(folder / "4-0.pt") | torch.load(folder / "1-0.pt")
    for wrapper in ("ddp", "fsdp2"):
        for source in ("ddp-4", "fsdp2-4", "plain-1"):
            training = Training(wrapper, seed=1)
            loaded = unequal(training.load(folder / source), expected[source], exact=True)
            yield f"loaded {source} {wrapper}", loaded
            trained = unequal(training.train(shard), expected["end"], exact=False)
            yield f"trained {source} {wrapper}", trained
        yield f"{wrapper}-2", training.save(folder / f"{wrapper}-2")
    of_other_data(training)
    yield "refused load", refused(training.load, folder / "ddp-4")
    table = training.inner.losses["grows"].tables.of("x2y")
    table.write(torch.tensor([(1 + dist.get_rank()) * 10 * SAMPLES]), {})
    yield "refused save", refused(training.save, folder / "refused")


def of_other_data(training):
    """On the second process."""
    for part in training.inner.modules():
        if hasattr(part, "fingerprint"):
            part.fingerprint += dist.get_rank()


def refused(call, folder):
    try:
        call(folder)
    except (ValueError, RuntimeError) as error:
        return f"{type(error).__name__}: {error}"


def process(rank, world, work, folder):
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if world > 1:
        store = f"file://{folder}/store{world}"
        dist.init_process_group("gloo", init_method=store, rank=rank, world_size=world)
    start = sum(SHARDS[world][:rank])
    found = dict(work(slice(start, start + SHARDS[world][rank]), folder))
    torch.save(found, folder / f"{world}-{rank}.pt")
    if world > 1:
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    for world, work in ((4, on_four), (1, on_one), (2, on_two)):
        arguments = (world, work, Path(sys.argv[1]))
        multiprocessing.start_processes(process, arguments, world, start_method="fork")
