"""Trains every stateful loss and control, dies or goes on; run by test_state_survives.py.

``whole FOLDER`` trains to the end, ``killed FOLDER`` saves in the middle and kills itself later,
``resumed FOLDER`` goes on from what was saved. The folder then has ``saved.pt`` and the ends.
"""

from __future__ import annotations

import os
import signal
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import tauten as tt
from cases import FURTHER

SAMPLES, TEXTS, WIDTH, DIM, BATCH = 24, 31, 6, 4, 8
SAVED, KILLED, END = 5, 7, 8
COUNTS = [90] * 12 + [20] * 8 + [2] * 4


def metadata() -> Tensor:
    return torch.linspace(0, 1, SAMPLES)[:, None] ** 2


CONTROLS: dict[str, Callable[[], tt.Control]] = {
    "learnable": lambda: tt.Learnable(0.2, 0.05, 1.0),
    "cosine": lambda: tt.Cosine(0.1, 0.4, period=7),
    "mmts": lambda: tt.mmts(COUNTS, alpha=0.1, shift=(0.1, 0.3), period=7),
    "composed": lambda: (
        0.5 * tt.Learnable(0.2, 0.05, 1.0) + tt.mmts(COUNTS, 0.1, (0.1, 0.3), 7)
    ).clamp(0.06, 0.5),
    "individual": lambda: tt.Individual(SAMPLES, 0.5, 0.2, (0.05, 1.0)),
    "individual-adam": lambda: tt.Individual(
        SAMPLES, 0.5, 0.2, (0.05, 1.0), lr=0.01, adam=(0.9, 0.98)
    ),
    "tempnet": lambda: tt.TempNet(DIM, 0.5, (0.05, 0.5), prototypes=6),
    "tau": lambda: tt.TaU(DIM, 0.1),
    "dystress": lambda: tt.DySTreSS() + tt.Cosine(0.0, 0.05, period=7),
    "temo": lambda: tt.TeMo(0.1, 0.2),
    "macl": lambda: tt.MACL(),
    "glate": lambda: tt.GLATE(0.3, 0.1, rate=0.01),
    "pair-distance": lambda: tt.PairDistance(metadata(), 0.2) + tt.Cosine(0.0, 0.1, period=7),
}


def gamma() -> tt.Control:
    return tt.Anneal(1.0, 0.3, steps=8, every=2)


LOSSES: dict[str, Callable[[tt.Control], tt.ContrastiveLoss]] = {
    "infonce": lambda tau: tt.InfoNCE(tau),
    "equalized": lambda tau: tt.InfoNCE(tau, force="equalized"),
    "reweighted": lambda tau: tt.InfoNCE(tau, force="reweighted"),
    "dcl": lambda tau: tt.DCL(tau),
    "siglip": lambda tau: tt.SigLIP(tau, bias=tt.Learnable(-2.0, -9.0, 9.0), force="equalized"),
    "max-margin": lambda tau: tt.MaxMargin(tau, force="equalized"),
    "sogclr": lambda tau: tt.SogCLR(SAMPLES, tau, gamma()),
    "robust": lambda tau: tt.SogCLR(SAMPLES, tau, gamma(), rho=0.5),
    "nuclr": lambda tau: tt.NUCLR(SAMPLES, tau, gamma(), lr=0.2),
}

BY_NAME: dict[str, Callable[[], tt.ContrastiveLoss]] = {
    "annealed": lambda: tt.InfoNCE(tt.Anneal(0.4, 0.1, steps=8, every=2)),
    "isogclr": lambda: tt.iSogCLR(SAMPLES, 0.5, gamma(), 0.2),
    **{
        f"fastclip-{version}": lambda v=version: tt.FastCLIP(SAMPLES, v, gamma())
        for version in ("v0", "v1", "v2", "v3")
    },
    "grows": lambda: tt.iSogCLR(None, 0.5, gamma(), 0.2),
    "grows-adam": lambda: tt.FastCLIP(None, "v2", gamma()),
    "two-ids": lambda: tt.iSogCLR((SAMPLES, TEXTS), 0.5, gamma(), 0.2),
    "two-ids-nuclr": lambda: tt.NUCLR((SAMPLES, TEXTS), 0.2, gamma(), lr=0.2),
    "two-ids-grow": lambda: tt.DCL(tt.Individual((None, None), 0.5, 0.2)),
    "weighted": lambda: tt.InfoNCE(0.2, weight=1 / tt.mmts(COUNTS, 0.1, (0.1, 0.3), 7)),
    "two-views": lambda: tt.iSogCLR(SAMPLES, 0.5, gamma(), 0.2, directions="x2y"),
    **{
        f"{name} {'own' if case.constant else 'mmts'}": lambda case=case: case.build(
            0.1 if case.constant else CONTROLS["mmts"]()
        )
        for name, case in FURTHER.items()
    },
}


def losses() -> dict[str, tt.ContrastiveLoss]:
    """Every loss with every control that it takes, and the losses that bring their own."""
    found = {name: make() for name, make in BY_NAME.items()}
    for loss, make in LOSSES.items():
        for control, temperature in CONTROLS.items():
            try:
                found[f"{loss} {control}"] = make(temperature())
            except ValueError as refused:
                if "cannot be" not in str(refused) and "divides an anchor's τ" not in str(refused):
                    raise
    return found


def call(name: str, loss_fn: tt.ContrastiveLoss, x: Tensor, y: Tensor, ids: Tensor) -> Tensor:
    """The loss of a batch whose ids may repeat; in "two-ids" samples of y have ids of their own."""
    if name == "two-views":
        return loss_fn.two_views(x, y, ids)
    if (kind := name.split()[0]) in FURTHER:
        return FURTHER[kind].call(loss_fn, x, y, ids)
    index = (ids, (ids * 5 + 3) % TEXTS) if name.startswith("two-ids") else ids
    return loss_fn(x, y, index, same=ids)


class Run:
    """A tiny linear dual encoder, a loss and their optimiser."""

    def __init__(self, name: str, loss_fn: tt.ContrastiveLoss) -> None:
        self.name, self.loss_fn = name, loss_fn
        self.model = nn.ModuleDict({"x": nn.Linear(WIDTH, DIM), "y": nn.Linear(WIDTH, DIM)})
        parameters = [*self.model.parameters(), *self.loss_fn.parameters()]
        self.optimizer = torch.optim.AdamW(parameters, lr=0.02)
        self.losses: list[Tensor] = []

    def step(self, x: Tensor, y: Tensor, ids: Tensor) -> None:
        self.optimizer.zero_grad()
        loss = call(self.name, self.loss_fn, self.model["x"](x), self.model["y"](y), ids)
        loss.backward()
        self.optimizer.step()
        self.loss_fn.step()
        self.losses.append(loss.detach())

    def state(self) -> dict[str, Any]:
        return {
            "model": self.model.state_dict(),
            "loss_fn": self.loss_fn.state_dict(),
            "optimizer": self.optimizer.state_dict(),
        }

    def load(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.loss_fn.load_state_dict(state["loss_fn"])
        self.optimizer.load_state_dict(state["optimizer"])


class Training:
    """All runs side by side on the same batches."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        fixed = torch.Generator().manual_seed(0)
        centres = torch.randn(3, WIDTH, generator=fixed)
        cluster = torch.tensor([0] * 12 + [1] * 8 + [2] * 4)
        self.x = centres[cluster] + 0.5 * torch.randn(SAMPLES, WIDTH, generator=fixed)
        self.y = centres[cluster] + 0.5 * torch.randn(SAMPLES, WIDTH, generator=fixed)
        self.sampler = torch.Generator().manual_seed(seed)
        self.runs = {name: Run(name, loss_fn) for name, loss_fn in losses().items()}

    def train(self, steps: int) -> None:
        for _ in range(steps):
            ids = torch.randint(0, SAMPLES, (BATCH,), generator=self.sampler)
            x = self.x[ids] + 0.1 * torch.randn(BATCH, WIDTH)
            for run in self.runs.values():
                run.step(x, self.y[ids], ids)

    def save(self, path: Path) -> None:
        torch.save(
            {
                "runs": {name: run.state() for name, run in self.runs.items()},
                "sampler": self.sampler.get_state(),
                "random": torch.get_rng_state(),
            },
            path,
        )

    def load(self, path: Path) -> None:
        saved = torch.load(path)
        for name, run in self.runs.items():
            run.load(saved["runs"][name])
        self.sampler.set_state(saved["sampler"])
        torch.set_rng_state(saved["random"])

    def finish(self, path: Path) -> None:
        ends = {
            name: run.state() | {"losses": run.losses[-(END - SAVED) :]}
            for name, run in self.runs.items()
        }
        torch.save(ends, path)


def main(what: str, folder: Path) -> None:
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", tt.CompositionWarning)
    training = Training(seed=1 if what == "resumed" else 0)
    if what == "resumed":
        training.load(folder / "saved.pt")
        training.train(END - SAVED)
    elif what == "killed":
        training.train(SAVED)
        training.save(folder / "saved.pt")
        training.train(KILLED - SAVED)
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        training.train(END)
    training.finish(folder / f"{what}.pt")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
