"""What the trainings of all peers share: data, losses that write down their values, the kill."""

import json
import os
import signal
from pathlib import Path

import torch

import tauten as tt

SAMPLES, BATCH = 48, 8
#: the class of each sample: 24 of the first, 12, 8, and 4 of the last
LABELS = torch.tensor([0] * 24 + [1] * 12 + [2] * 8 + [3] * 4)
COUNTS = LABELS.bincount()[LABELS]


class Written:
    """A loss that appends the step, its value and a sample's temperature to ``OUT/losses.jsonl``.

    With ``KILL=N`` in the environment the process is killed in the middle of step N.
    """

    def forward(self, *args, **kwargs):
        value = super().forward(*args, **kwargs)
        if self.training and torch.is_grad_enabled():
            if self.steps == int(os.environ.get("KILL", "-1")):
                os.kill(os.getpid(), signal.SIGKILL)
            tau = float(self.last_tau[1].double().mean())
            line = {"step": self.steps, "loss": float(value.detach()), "tau": tau}
            path = Path(os.environ["OUT"]) / f"losses-{os.environ.get('RANK', '0')}.jsonl"
            with path.open("a") as file:
                file.write(json.dumps(line) + "\n")
        return value


class Tables(Written, tt.SogCLR):
    """Schedules and tables per sample."""


class Learned(Written, tt.InfoNCE):
    """A learned temperature and a schedule."""


def build(name: str | None = None) -> tt.ContrastiveLoss:
    """Return the loss that the environment names."""
    if (name or os.environ.get("LOSS", "tables")) == "learned":
        return Learned(tt.Learnable(0.1, 0.05, 0.5) + tt.Cosine(0.0, 0.1, period=10))
    tau = tt.mmts(COUNTS, alpha=0.1, shift=(0.1, 0.3), period=10)
    return Tables(SAMPLES, temperature=tau, gamma=0.6)


def pictures(size: int = 32) -> torch.Tensor:
    """Return (SAMPLES, 3, size, size) numbers between 0 and 1."""
    return torch.rand(SAMPLES, 3, size, size, generator=torch.Generator().manual_seed(0))


def captions() -> list[str]:
    """Return different words for each sample."""
    return [f"class {int(label)} sample {i}" for i, label in enumerate(LABELS)]
