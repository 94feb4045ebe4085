"""What a control or a table costs per training step, against a constant temperature.

    python benchmarks/state.py [--batch 512] [--rounds 15]

The model of the emoji recipes, forward, backward and AdamW step on real pairs at the same batch;
contenders are interleaved, and the median ratio of each to the constant of its round is printed.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import torch

import tauten as tt
from tauten.data import class_counts, emoji_lt, images
from tauten.models import BagTokenizer, BagTower, ConvTower, DualEncoder


def losses(counts: torch.Tensor) -> dict[str, tt.ContrastiveLoss]:
    size = len(counts)
    schedule = tt.mmts(counts, alpha=0.03, shift=(0.085, 0.115), period=100)
    return {
        "constant": tt.InfoNCE(0.1),
        "learnable": tt.InfoNCE(tt.Learnable(0.1, 0.01, 1.0)),
        "MM-TS": tt.InfoNCE(schedule),
        "MM-TS, equalized": tt.InfoNCE(schedule, force="equalized"),
        "SogCLR": tt.SogCLR(size, 0.1, 0.8),
        "iSogCLR": tt.iSogCLR(size, rho=2.0, tau_init=0.1, tau_range=(0.02, 1.0), lr=0.01),
        "MaxMargin, constant": tt.MaxMargin(0.2),
        "MaxMargin, MM-TS": tt.MaxMargin(schedule),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=15)
    options = parser.parse_args()
    data = emoji_lt("train")
    pixels, captions = images(data), list(data["caption"])
    tokenizer = BagTokenizer.fit(captions, "words")
    generator = torch.Generator().manual_seed(0)
    index = torch.randperm(len(data), generator=generator)[: options.batch]
    batch = pixels[index], tokenizer([captions[i] for i in index.tolist()])
    steps: dict[str, Callable[[], None]] = {}
    for name, loss_fn in losses(class_counts(data["label"])).items():
        torch.manual_seed(0)
        text = BagTower(tokenizer.vocabulary_size, 256)
        encoder = DualEncoder(ConvTower((32, 64, 128), 4), text, 512)
        parameters = [*encoder.parameters(), *loss_fn.parameters()]
        optimizer = torch.optim.AdamW(parameters, lr=1e-3)

        def step(
            encoder: DualEncoder = encoder,
            loss_fn: tt.ContrastiveLoss = loss_fn,
            optimizer: torch.optim.Optimizer = optimizer,
        ) -> None:
            optimizer.zero_grad()
            loss_fn(*encoder(*batch), index).backward()
            optimizer.step()
            loss_fn.step()

        steps[name] = step
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in range(options.rounds + 2):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if turn > 1:
                seconds[name].append(time.perf_counter() - start)
    print(f"batch {options.batch}, medians of {options.rounds} rounds")
    for name, spent in seconds.items():
        ratio = statistics.median(a / b for a, b in zip(spent, seconds["constant"], strict=True))
        print(f"{name:22}{1000 * statistics.median(spent):8.1f} ms   x {ratio:.3f}")


if __name__ == "__main__":
    main()
