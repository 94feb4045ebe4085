"""Trainings on one process and on several, each job in forks of one process that has done the
slow imports; run by tests/training/test_launch.py.

Run as ``python launched.py ROOT``. Every run is a folder ROOT/NAME; exit codes and what each
process wrote to its standard error are printed as JSON. One thread only: threads do not survive a
fork.
"""

import gc
import json
import os
import signal
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from datasets import Dataset, Image
from torch import distributed, nn
from transformers import ViTConfig

from tauten.cli import main as command_line
from tauten.controls import TempNet, predicted
from tauten.data import emoji_lt
from tauten.models import DualEncoder
from tauten.models.batch_norm import with_whole_batches
from tauten.models.view_augmentation import ViewConfig
from tauten.training import (
    Config,
    DataConfig,
    processes,
    specs,
    train,
)
from tauten.training.checkpoints import files as checkpoint_files
from tauten.training.loop.trainer import ContrastiveTrainer
from tauten.training.options.protect import ProtectConfig
from tauten.training.run import run_folder
from tauten.training.stores.splits import load_splits

SAMPLES, BATCH = 64, 16


def tiny(root, name):
    """Eight steps, three checkpoints; nothing is drawn at random."""
    made = Config(output=root / name, progress=False, tensorboard=False, log_every=3, seed=3)
    made.data.limit = SAMPLES
    made.model.channels, made.model.grid = (6, 8), 2
    made.model.dim, made.model.text_width, made.model.augment = 8, 8, False
    made.optim.batch_size, made.optim.epochs = BATCH, 2
    made.evaluation.every, made.evaluation.bootstrap, made.evaluation.batch_size = 0.75, 20, 24
    return made


def mmts(root, name):
    made = tiny(root, name)
    made.control, made.loss = specs.control("mmts"), specs.loss(force="equalized")
    return made


def accumulation(root, name):
    made = tiny(root, name)
    made.loss, made.control = specs.loss("fastclip", version="v3"), specs.control("learnable")
    made.optim.accumulation, made.optim.max_grad_norm = 3, 1.0
    return made


def isogclr(root, name):
    made = tiny(root, name)
    made.loss, made.control = specs.loss("isogclr"), specs.control("individual")
    return made


def sharded(root, name):
    made = isogclr(root, name)
    made.checkpoint = "sharded"
    return made


def learned(root, name):
    """A bias and a temperature that gradients reach, τ of each pair."""
    made = tiny(root, name)
    made.loss, made.control = specs.loss("siglip"), specs.control("learnable")
    return made


def transformer(root, name, chunk=None):
    made = tiny(root, name)
    made.model.image, made.model.random_weights = str(root / "vit"), True
    made.loss, made.control = specs.loss("fastclip", version="v2"), specs.control("individual")
    made.optim.chunk = chunk
    return made


def tempnet(root, name):
    made = tiny(root, name)
    made.loss, made.control = specs.loss("sogclr"), specs.control("tempnet", low=0.02, high=0.2)
    return made


def queue(root, name):
    """Keys of two batches, made by a momentum encoder."""
    made = mmts(root, name)
    made.loss = specs.loss("dcl", queue=2 * BATCH, momentum=0.9)
    return made


def shards(root, name):
    """Pictures in a parquet file, one of them damaged, so that shares of a batch differ."""
    made = mmts(root, name)
    made.data = DataConfig(str(root / "train.parquet"), label="label", stream=True)
    made.data.val = made.data.test = str(root / "val.parquet")
    return made


def views(root, name):
    """Anchors of one direction, whose network of the other is never used; views that are equal."""
    made = tempnet(root, name)
    made.task, made.evaluation.metric, made.evaluation.probe = "views", "knn@1", "none"
    made.model.views = ViewConfig(crop=1.0, flip=0.0, jitter=0.0, grayscale=0.0)
    return made


def modalities(root, name):
    """Samples that lack an image, a caption or, most of them, a second picture."""
    made = mmts(root, name)
    made.data = DataConfig(str(root / "partial.parquet"), others=("back",), label="label")
    return made


def protected(root, name):
    """Two groups, all of whose samples are with each batch, above the loss at the start."""
    made = tiny(root, name)
    made.init = str(root / "mmts.1")
    made.protect = ProtectConfig(("tail", "country-flag"), beta=3.0, tau=0.1)
    made.optim.lr = 0.02
    return made


def write_partial(root):
    columns = {"image": [], "caption": [], "label": [], "back": [], "split": []}
    for split, count in (("train", SAMPLES), ("val", 24), ("test", 24)):
        rows = emoji_lt(split).select(range(count)).cast_column("image", Image(decode=False))
        for i, row in enumerate(rows):
            columns["image"].append(None if i % 8 == 0 else row["image"])
            columns["caption"].append(None if i % 8 == 1 else row["caption"])
            columns["back"].append(row["image"] if i % 8 in (0, 1) else None)
            columns["label"].append(row["label"])
            columns["split"].append(split)
    Dataset.from_dict(columns).to_parquet(root / "partial.parquet")


def write_shards(root):
    for split, count, damaged in (("train", SAMPLES, [5]), ("val", 24, [])):
        rows = emoji_lt(split).select(range(count)).cast_column("image", Image(decode=False))
        columns = {name: list(rows[name]) for name in ("image", "caption", "label")}
        for place in damaged:
            columns["image"][place] = {"bytes": b"no picture", "path": None}
        Dataset.from_dict(columns).to_parquet(root / f"{split}.parquet")


CASES = {
    "mmts": mmts,
    "accumulation": accumulation,
    "isogclr": isogclr,
    "learned": learned,
    "tempnet": tempnet,
    "transformer": transformer,
    "chunk": partial(transformer, chunk=5),
    "shards": shards,
    "views": views,
    "queue": queue,
    "modalities": modalities,
    "protected": protected,
}
#: captions, keywords, pixels and dropout are drawn
DRAWN = [
    *("train", "emoji_tempnet", "--no-progress", "--no-tensorboard", "--log-every", "3"),
    *("--data.limit", str(SAMPLES), "--data.keywords", "0.3", "--data.alternative", "0.3"),
    *("--model.channels", "6", "8", "--model.dim", "8", "--model.text-width", "8"),
    *("--optim.batch-size", str(BATCH), "--epochs", "2"),
    *("--evaluation.every", "0.75", "--evaluation.bootstrap", "20"),
]


def as_launched(rank, world, store):
    """What a launcher sets, and the group that ``join`` would enter, without a port."""
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "LOCAL_WORLD_SIZE": world}
    os.environ.update({name: str(value) for name, value in names.items()})
    distributed.init_process_group("gloo", f"file://{store}", rank=rank, world_size=world)


def launch(job, world, store):
    """Run a job in forks; their exit codes, or minus the signals, and standard errors."""
    children = []
    for rank in range(world):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                os.dup2(os.open(f"{store}.{rank}", os.O_WRONLY | os.O_CREAT), 2)
                if world > 1:
                    as_launched(rank, world, store)
                code = job(rank) or 0
            except processes.ElsewhereError:
                code = 3
            except BaseException:
                sys.excepthook(*sys.exc_info())
            finally:
                sys.stderr.flush()
                os._exit(code)
        children.append(child)
    codes = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    return codes, [Path(f"{store}.{rank}").read_text() for rank in range(world)]


def exactly(config, rank):
    """In float64, without TempNet's dropout, which is drawn."""
    torch.set_default_dtype(torch.float64)
    predicted.TempNet = partial(TempNet, dropout=0.0)
    train(config)


def typed(config, rank, *more):
    """The command line; no launcher waits for those that end without a word."""
    processes.linger = lambda: None
    return command_line([*DRAWN, "--output", str(config.output), *more])


def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)


def after(times, function, then):
    """The function, and something else from that call on."""
    left = [times]

    def counted(*args, **kwargs):
        left[0] -= 1
        return (function if left[0] >= 0 else then)(*args, **kwargs)

    return counted


def killed(how, victim, where, number, config, rank):
    """Train until one process dies in the middle of a step or of a checkpoint."""
    if rank == victim:
        owner, name = {
            "step": (ContrastiveTrainer, "training_step"),
            "rng": (ContrastiveTrainer, "_save_rng_state"),
            "marker": (checkpoint_files, "seal"),
        }[where]
        setattr(owner, name, after(number, getattr(owner, name), die))
    return how(config, rank)


def stopped(config, rank):
    """One process is told to end in the middle of a step; all of them save it and end."""
    if rank == 1:

        def told(*args, **kwargs):
            os.kill(os.getpid(), signal.SIGTERM)
            return step(*args, **kwargs)

        step = ContrastiveTrainer.training_step
        ContrastiveTrainer.training_step = after(4, step, told)
    return exactly(config, rank)


def broken(config, rank):
    """The image tower of process 1 returns NaN at the second step."""
    if rank == 1:
        whole = DualEncoder.encode_image

        def nan(self, images):
            return whole(self, images) * float("nan")

        DualEncoder.encode_image = after(3, whole, nan)
    return typed(config, rank)


def full_disk(config, rank):
    """The first process cannot write its folder."""

    def refuse(*_):
        raise OSError("no space left on device")

    run_folder.RunFolder.prepare = refuse
    return typed(config, rank)


def batch_norm(config, rank):
    """torch's on the whole batch beside ours on uneven shards, of which one is empty at times."""
    torch.set_default_dtype(torch.float64)
    for sizes in ((5, 3), (0, 8), (1, 7)):
        for dims, plain in ((0, nn.BatchNorm1d(4)), (2, nn.BatchNorm2d(4, affine=False))):
            torch.manual_seed(1)
            x, to = torch.randn(8, 4, *[3] * dims) + 5, torch.randn(8, 4, *[3] * dims)
            mine = slice(0, sizes[0]) if rank == 0 else slice(sizes[0], 8)
            whole = x.clone().requires_grad_()
            (plain(whole) * to).sum().backward()
            ours = with_whole_batches(nn.Sequential(type(plain)(4, affine=plain.affine)))[0]
            part = x[mine].clone().requires_grad_()
            (ours(part) * to[mine]).sum().backward()
            torch.testing.assert_close(part.grad, whole.grad[mine], rtol=1e-9, atol=1e-12)
            for name, parameter in ours.named_parameters():
                distributed.all_reduce(parameter.grad)
                expected = dict(plain.named_parameters())[name].grad
                torch.testing.assert_close(parameter.grad, expected, rtol=1e-9, atol=1e-12)
            state = plain.state_dict()
            assert list(state) == list(ours.state_dict())
            for name, value in ours.state_dict().items():
                torch.testing.assert_close(value, state[name], rtol=1e-9, atol=1e-12)
            plain.eval()
            torch.testing.assert_close(ours.eval()(part), plain(x)[mine], rtol=1e-9, atol=1e-12)


def main(root):
    torch.set_num_threads(1)
    small = {"hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
    ViTConfig(image_size=32, patch_size=16, intermediate_size=8, **small).save_pretrained(
        root / "vit"
    )
    write_shards(root)
    write_partial(root)
    plain = tiny(root, "").data
    for data in (plain, replace(plain, keywords=0.3, alternative=0.3)):
        load_splits(data)  # kept for all forks
    gc.freeze()
    ends = {}

    def go(name, job, make, world):
        starts = ends.setdefault(name, [])
        store = root / f"{name}.{len(starts)}.store"
        starts.append(launch(partial(job, make(root, name)), world, store))

    for case, make in CASES.items():
        for world in (1, 2):
            go(f"{case}.{world}", exactly, make, world)
    go("mmts.4", exactly, mmts, 4)
    for before, later in ((2, 1), (1, 2)):
        name = f"mmts.{before}to{later}"
        go(name, partial(killed, exactly, before - 1, "step", 5), mmts, before)
        go(name, exactly, mmts, later)
    go("queue.2to1", partial(killed, exactly, 1, "step", 5), queue, 2)
    go("queue.2to1", exactly, queue, 1)
    go("mmts.stopped", stopped, mmts, 2)
    go("mmts.stopped", exactly, mmts, 2)
    go("sharded", partial(killed, exactly, 1, "step", 5), sharded, 2)
    go("sharded", exactly, sharded, 1)
    go("drawn.whole", typed, tiny, 2)
    for death in ((1, "step", 2), (0, "marker", 0), (0, "step", 4), (1, "rng", 1), (0, "step", 1)):
        go("drawn.killed", partial(killed, typed, *death), tiny, 2)
    go("batch_norm", batch_norm, tiny, 2)
    go("nan", broken, tiny, 2)
    go("disk", full_disk, tiny, 2)
    go("uneven", lambda *at: typed(*at, "--optim.batch-size", "9"), tiny, 2)
    go("drawn.whole", lambda *at: typed(*at, "--seed", "7"), tiny, 2)
    print(json.dumps(ends))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
