"""Two processes: a batch encoded in chunks against the same without.

Run as ``python chunked.py FOLDER``. Both train the same wrapped module, with two accumulated
batches a step; weights, τ, tables and the losses of all steps are compared.

Dropout draws its masks in the order of the chunks. A whole batch in one call draws others, so with
dropout the reference calls the encoder chunk by chunk and keeps all activations. Under autocast it
has no cache of cast weights, so that gradients of chunks are added in float32.
"""

import json
import sys
import warnings
from contextlib import nullcontext
from pathlib import Path
from unittest import mock

import torch
from torch import distributed as dist
from torch import multiprocessing, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.nn.parallel import DistributedDataParallel

import tauten as tt
from tauten.training.tasks import module as contrastive

SAMPLES, ROWS, STEPS, CHUNK = 24, 8, 2, 2
SHARDS = {"ddp": (5, 3), "fsdp2": (4, 4)}
LOSSES = {
    "learnable": lambda: tt.InfoNCE(tt.Learnable(0.2, 0.05, 1.0)),
    "isogclr": lambda: tt.iSogCLR(SAMPLES, rho=0.5, tau_init=0.2, tau_range=(0.05, 1.0)),
    "tempnet": lambda: tt.SogCLR(
        SAMPLES, tt.TempNet(4, 0.5, (0.1, 0.5), prototypes=5, dropout=0.2), 0.6
    ),
}


class Towers(nn.Module):
    """Two small towers with dropout; remembers how many rows it was given at a time."""

    def __init__(self, dropout):
        super().__init__()
        self.left, self.right = (
            nn.Sequential(nn.Linear(size, 16), nn.GELU(), nn.Dropout(dropout), nn.Linear(16, 4))
            for size in (6, 5)
        )
        self.rows = []

    def forward(self, images, texts):
        self.rows.append(len(images))
        return self.left(images), self.right(texts["ids"])


def chunk_by_chunk(encoder, images, texts, size):
    """The reference with dropout: as ``encode_in_chunks``, all activations kept."""
    sides = [
        encoder(images[at : at + size], {name: ids[at : at + size] for name, ids in texts.items()})
        for at in range(0, len(images), size)
    ]
    return tuple(torch.cat(side) for side in zip(*sides, strict=True))


def batch(step, part, dtype):
    generator = torch.Generator().manual_seed(10 * step + part)
    a = torch.randn(ROWS, 6, generator=generator, dtype=dtype)
    b = torch.randn(ROWS, 5, generator=generator, dtype=dtype)
    return a, b, torch.randperm(SAMPLES, generator=generator)[:ROWS]


def train(name, wrapper, mode, dropout, chunk, cache=True):
    """Losses and state after two steps, and the rows of the encoder's calls."""
    dtype = torch.float64 if mode == "float64" else torch.float32
    torch.manual_seed(0)
    inner = contrastive.ContrastiveModule(Towers(dropout), LOSSES[name](), chunk=chunk).to(dtype)
    for part in inner.loss_fn.modules():
        if isinstance(part, nn.Dropout) and not dropout:
            part.p = 0.0
    module, quiet = inner, nullcontext
    if wrapper == "ddp":
        module = DistributedDataParallel(inner, broadcast_buffers=False)
        quiet = module.no_sync
    else:
        mesh = init_device_mesh("cpu", (dist.get_world_size(),))
        for part in (inner.encoder.left, inner.encoder.right, inner):
            fully_shard(part, mesh=mesh)
    rank, sizes = dist.get_rank(), SHARDS[wrapper]
    shard = slice(sum(sizes[:rank]), sum(sizes[: rank + 1]))
    torch.manual_seed(100 + rank)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.3)
    found = {}
    for step in range(STEPS):
        optimizer.zero_grad()
        for part in (0, 1):
            a, b, ids = (t[shard] for t in batch(step, part, dtype))
            autocast = torch.autocast(
                "cpu", torch.bfloat16, enabled=mode == "bfloat16", cache_enabled=cache
            )
            with quiet() if part == 0 else nullcontext():
                with autocast:
                    loss = module(a, {"ids": b}, ids, (ids, ids))["loss"]
                (loss / 2).backward()
            found[f"loss {step} {part}"] = loss.detach()
        optimizer.step()
        inner.loss_fn.step()
    state = {key: full(value).clone() for key, value in inner.state_dict().items()}
    return found | state, inner.encoder.rows


def full(value):
    return value.full_tensor() if hasattr(value, "full_tensor") else value


MODES = [
    # precision, dropout, how near, under FSDP2 too
    ("float64", 0.0, 1e-9, True),
    ("float64", 0.3, 1e-9, False),
    ("float32", 0.3, 1e-6, False),
    ("bfloat16", 0.3, 1e-6, True),
]


def differences(name, wrapper, mode, dropout, near):
    """Lines that say what is not equal."""
    found, rows = train(name, wrapper, mode, dropout, CHUNK)
    if dropout:
        with mock.patch.object(contrastive, "encode_in_chunks", chunk_by_chunk):
            expected, _ = train(name, wrapper, mode, dropout, CHUNK, cache=False)
    else:
        expected, _ = train(name, wrapper, mode, dropout, None)
    case = f"{wrapper} {name} {mode} dropout {dropout}"
    if max(rows) != CHUNK or sum(rows) != 2 * 2 * STEPS * SHARDS[wrapper][dist.get_rank()]:
        yield f"{case}: encoded {rows}"
    for key, value in expected.items():
        if not torch.allclose(found[key], value, rtol=near, atol=near):
            yield f"{case} {key}: {float((found[key] - value).abs().max()):.2e}"


def process(rank, folder):
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    problems, cases = [], 0
    for name in LOSSES:
        for mode, dropout, near, sharded in MODES:
            for wrapper in ("ddp", "fsdp2") if sharded else ("ddp",):
                problems += differences(name, wrapper, mode, dropout, near)
                cases += 1
    found = {"cases": cases, "problems": problems}
    Path(f"{folder}/{rank}.json").write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    multiprocessing.start_processes(process, (sys.argv[1],), 2, start_method="fork")
