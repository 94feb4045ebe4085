"""Run folders for the report: two linear towers really trained, briefly, on embedded real data."""

import json
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from scipy.stats import rankdata, spearmanr
from torch.nn import functional

from tauten.data import emoji_lt, images
from tauten.evaluation import retrieval

STEPS, PERIOD, BATCH, DIM, WORDS = 60, 20, 256, 32, 512
GROUPS = ("head", "mid", "tail")


@dataclass
class Split:
    pixels: torch.Tensor
    x: torch.Tensor
    y: torch.Tensor
    captions: list[str]
    labels: list[str]


def bag(caption):
    row = torch.zeros(WORDS)
    padded = f" {caption} "
    for k in range(len(padded) - 2):
        row[zlib.crc32(padded[k : k + 3].encode()) % WORDS] += 1
    return row


def split(name):
    data = emoji_lt(name)
    pixels = images(data)
    small = functional.avg_pool2d(pixels.float() / 255 - 0.5, 4).flatten(1)
    bags = functional.normalize(torch.stack([bag(c) for c in data["caption"]]), dim=1)
    return Split(pixels, small, bags, list(data["caption"]), list(data["label"]))


@pytest.fixture(scope="session")
def emoji():
    return {name: split(name) for name in ("train", "test")}


def group(count):
    return "head" if count >= 100 else "tail" if count < 20 else "mid"


def by_decile(tau, counts):
    """Mean of each decile of the count, and the rank correlation where tau differs."""
    decile = np.floor(10 * (rankdata(counts) - 0.5) / len(counts)).astype(int)
    found = {f"tau/decile/{k}": tau[decile == k].mean() for k in np.unique(decile)}
    if np.ptp(tau) > 0:
        found["tau/spearman"] = spearmanr(tau, counts).statistic
    return found


def force(gradient, groups):
    """Mean force per anchor by group, from the loss's gradient to the similarities."""
    pull = -gradient.diag() * len(gradient)
    push = (gradient.sum(1) - gradient.diag()) * len(gradient)
    return {
        f"force/{kind}/{g}": part[torch.from_numpy(groups == g)].mean()
        for kind, part in (("attraction", pull), ("repulsion", push))
        for g in set(groups)
    }


def make_run(path, emoji, family, control, seed, steps=STEPS):
    """Train two linear towers for a few steps and write a run folder."""
    train, test = emoji["train"], emoji["test"]
    torch.manual_seed(seed)
    sizes = {label: train.labels.count(label) for label in dict.fromkeys(train.labels)}
    counts = torch.tensor([sizes[label] for label in train.labels])
    groups = np.array([group(c) for c in counts.tolist()])
    level, spread, amplitude = (0.07, 0.04, 0.04) if family == "infonce" else (0.2, 0.1, 0.1)

    def knob(step):
        if control == "constant":
            return torch.full((len(counts),), level)
        shift = (counts - counts.min()) / (counts.max() - counts.min())
        wave = amplitude / 2 * np.cos(2 * np.pi * step / PERIOD)
        return level + wave + spread * (shift - shift.mean())

    towers = [torch.nn.Linear(train.x.shape[1], DIM), torch.nn.Linear(WORDS, DIM)]
    parameters = [p for tower in towers for p in tower.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=5e-3)

    def embed(part, rows=slice(None)):
        sides = zip(towers, (part.x, part.y), strict=True)
        return [functional.normalize(tower(side[rows]), dim=1) for tower, side in sides]

    history, taus = [], []
    for step in range(steps):
        rows = torch.randint(len(counts), (BATCH,))
        x, y = embed(train, rows)
        tau = knob(step)[rows, None]
        s = x @ y.T
        if family == "infonce":
            target = torch.arange(BATCH)
            loss = functional.cross_entropy(s / tau, target)
            loss = (loss + functional.cross_entropy(s.T / tau, target)) / 2
        else:
            hinge = (tau - s.diag()[:, None] + s).clamp(min=0)
            hinge = hinge + (tau - s.diag()[:, None] + s.T).clamp(min=0)
            hinge = hinge * (1 - torch.eye(BATCH))
            loss = hinge.sum() / (2 * BATCH * (BATCH - 1))
        optimizer.zero_grad()
        (gradient,) = torch.autograd.grad(loss, s, retain_graph=True)
        loss.backward()
        norm = torch.stack([p.grad.norm() for p in parameters]).norm()
        optimizer.step()
        now = knob(step + 1).numpy()
        taus.append([[f(now[groups == g]) for g in GROUPS] for f in (np.mean, np.min, np.max)])
        row = {"step": step + 1, "loss": loss.item(), "grad_norm": norm.item()}
        row |= {"tau/mean": now.mean(), "tau/min": now.min(), "tau/max": now.max()}
        row |= by_decile(now, counts.numpy()) | force(gradient, groups[rows.numpy()])
        history.append({key: float(value) for key, value in row.items()})
        if (step + 1) % 10 == 0:
            with torch.no_grad():
                x, y = embed(test)
            metrics = retrieval(x, y, torch.arange(len(x)), bootstrap=0)
            history.append({"step": step + 1} | {f"val/{k}": v for k, v in metrics.items()})

    with torch.no_grad():
        x, y = embed(test)
    of_x = [group(sizes[label]) for label in test.labels]
    metrics = retrieval(x, y, torch.arange(len(x)), groups=of_x, bootstrap=200)
    config = {
        "name": f"{family}-{'mmts' if control == 'mmts' else control}",
        "family": family,
        "control": {"kind": control, "value": level, "oscillations": steps / PERIOD},
        "optim": {"lr": 5e-3, "batch_size": BATCH},
        "seed": seed,
        "versions": {"torch": str(torch.__version__)},
    }
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump(config))
    (path / "history.jsonl").write_text("\n".join(map(json.dumps, history)) + "\n")
    results = {
        "protocol": {"split": "emoji_lt test, <943> drawings of a third artist"},
        "test": metrics,
        "best_step": steps,
    }
    (path / "results.json").write_text(json.dumps(results))
    mean, low, high = np.array(taus, dtype=np.float32).transpose(1, 0, 2)
    np.savez(
        path / "samples.npz",
        counts=counts.numpy(),
        label_names=list(sizes),
        label_counts=list(sizes.values()),
        tau_steps=np.arange(1, steps + 1),
        tau_groups=mean,
        tau_low=low,
        tau_high=high,
        tau_final=now,
    )
    np.savez(
        path / "embeddings.npz",
        x=x.numpy(),
        y=y.numpy(),
        y_of_x=np.arange(len(x)),
        captions=test.captions,
        group_of_x=of_x,
        label_of_x=test.labels,
    )
    np.savez(path / "test_images.npz", images=test.pixels.permute(0, 2, 3, 1).numpy())
    return path


RECIPES = [(family, kind) for family in ("infonce", "maxmargin") for kind in ("constant", "mmts")]


@pytest.fixture(scope="session")
def runs(tmp_path_factory, emoji) -> list[Path]:
    """Four runs: InfoNCE and MaxMargin, each constant and MM-TS."""
    folder = tmp_path_factory.mktemp("runs")
    return [make_run(folder / f"{f}-{k}", emoji, f, k, seed=0) for f, k in RECIPES]


@pytest.fixture(scope="session")
def seeded_runs(tmp_path_factory, emoji) -> list[Path]:
    """InfoNCE, constant and MM-TS, two seeds each."""
    folder = tmp_path_factory.mktemp("seeded")
    for kind in ("constant", "mmts"):
        for seed in (0, 1):
            make_run(folder / kind / f"seed{seed}", emoji, "infonce", kind, seed, steps=20)
    return [folder / "constant", folder / "mmts"]


def write_tiny(path, name="a", family="infonce", control="constant", seed=0, **changes):
    """Write the least run folder: 4 images, 4 captions, the first pair found, one file or key
    replaced by each change."""
    rng = np.random.default_rng([seed, *name.encode("utf-8", "surrogatepass")])
    test = {
        "x": np.eye(4, dtype=np.float32),
        "y": (np.eye(4) + 0.5 * rng.random((4, 4))).astype(np.float32),
        "y_of_x": np.arange(4),
        "captions": ["ant", "bee", "cat", "dog"],
        "group_of_x": ["head", "head", "tail", "tail"],
    }
    test |= changes.pop("test", {})
    test = {key: value for key, value in test.items() if value is not None}
    metrics = {}
    if {"x", "y", "y_of_x"} <= set(test):
        sides = (torch.from_numpy(test[side]) for side in "xy")
        y_of_x = [[j for j in np.atleast_1d(row).tolist() if j >= 0] for row in test["y_of_x"]]
        metrics = retrieval(*sides, y_of_x, bootstrap=20) if "y_of_x_offsets" not in test else {}
    config = {"name": name, "family": family, "control": control, "seed": seed}
    files = {
        "config.yaml": yaml.safe_dump(config | changes.pop("config", {})),
        "results.json": json.dumps({"test": metrics | changes.pop("metrics", {})}),
    }
    files |= changes
    path.mkdir(parents=True)
    for file, text in files.items():
        if text is not None:
            (path / file).write_text(text)
    np.savez(path / "embeddings.npz", **test)
    return path


@pytest.fixture
def tiny():
    return write_tiny
