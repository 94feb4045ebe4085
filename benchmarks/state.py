"""What a control or a table costs per training step, against a constant temperature.

    python benchmarks/state.py [--model default|emoji] [--batch 512] [--rounds 40] [--only "MM-TS"]

The default model of a training configuration (d = 256), or the small one of the emoji recipes
(d = 512): augmentation, forward, backward, AdamW step and step of the loss on the same real pairs.
Every round times one step of each contender, in an order drawn for the round. Printed are medians
over rounds, and the median and quartiles of a contender's time over that of its base in the same
round: InfoNCE with a constant temperature for all, and for losses with moving averages also SogCLR
with a constant temperature; MaxMargin has a constant margin too.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable, Sequence

import torch

import tauten as tt
from tauten.data import class_counts, emoji_lt, images
from tauten.models import BagTokenizer, DualEncoder
from tauten.recipes.emoji import emoji_infonce_constant
from tauten.training.encoders import build_encoder
from tauten.training.options.config import ModelConfig

WARMUP = 3
INFONCE, SOGCLR, MARGIN = "InfoNCE, constant", "SogCLR, constant", "MaxMargin, constant"


def losses(counts: torch.Tensor, dim: int) -> dict[str, tuple[tt.ContrastiveLoss, Sequence[str]]]:
    """Every contender with the names of what it is compared to."""
    size = len(counts)
    schedule = tt.mmts(counts, alpha=0.03, shift=(0.085, 0.115), period=100)
    metadata = torch.randn(size, 4, generator=torch.Generator().manual_seed(0))

    def individual() -> tt.Individual:
        return tt.Individual(size, 2.0, 0.1, (0.02, 1.0), 0.01)

    def tempnet() -> tt.TempNet:
        return tt.TempNet(dim, 2.0, (0.02, 0.2))

    infonce = {
        INFONCE: tt.InfoNCE(0.1),
        "learnable": tt.InfoNCE(tt.Learnable(0.1, 0.01, 1.0)),
        "cosine (TS)": tt.InfoNCE(tt.Cosine(0.05, 0.2, 100)),
        "MM-TS": tt.InfoNCE(schedule),
        "MM-TS, equalized": tt.InfoNCE(schedule, force="equalized"),
        "DySTreSS": tt.InfoNCE(tt.DySTreSS(0.1, 0.2)),
        "TeMo": tt.InfoNCE(tt.TeMo(0.05, 0.1)),
        "MACL": tt.InfoNCE(tt.MACL(0.1), force="reweighted"),
        "TaU": tt.InfoNCE(tt.TaU(dim, 0.07)),
        "PairDistance": tt.InfoNCE(tt.PairDistance(metadata, 0.1)),
        "TempNet, InfoNCE": tt.InfoNCE(tempnet()),
        "Individual, DCL": tt.DCL(individual()),
    }
    averages = {
        SOGCLR: tt.SogCLR(size, 0.1, 0.8),
        "iSogCLR": tt.SogCLR(size, individual(), 0.8),
        "TempNet, SogCLR": tt.SogCLR(size, tempnet(), 0.8),
        "FastCLIP-v2": tt.FastCLIP(size, "v2", 0.8, rho=2.0),
        "FastCLIP-v3": tt.FastCLIP(size, "v3", 0.8, rho=2.0),
        "NUCLR": tt.NUCLR(size, 0.1, 0.8),
    }
    margins = {MARGIN: tt.MaxMargin(0.2), "MaxMargin, MM-TS": tt.MaxMargin(schedule)}
    return (
        {name: (loss, [INFONCE]) for name, loss in infonce.items()}
        | {name: (loss, [INFONCE, SOGCLR]) for name, loss in averages.items()}
        | {name: (loss, [INFONCE, MARGIN]) for name, loss in margins.items()}
    )


def stepper(
    loss_fn: tt.ContrastiveLoss,
    encoder: DualEncoder,
    batch: Sequence[torch.Tensor],
    index: torch.Tensor,
) -> Callable[[], None]:
    """One optimiser step of this model with this loss."""
    parameters = [*encoder.parameters(), *loss_fn.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=1e-3, fused=True)

    def step() -> None:
        optimizer.zero_grad()
        loss_fn(*encoder(*batch), index).backward()
        optimizer.step()
        loss_fn.step()

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--model", choices=["default", "emoji"], default="default")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--only", nargs="+", default=[], help="contenders, beside the bases")
    options = parser.parse_args()
    data = emoji_lt("train")
    captions = list(data["caption"])
    tokenizer = BagTokenizer.fit(captions, "words")
    generator = torch.Generator().manual_seed(0)
    index = torch.randperm(len(data), generator=generator)[: options.batch]
    batch = images(data)[index], tokenizer([captions[i] for i in index.tolist()])
    model = ModelConfig() if options.model == "default" else emoji_infonce_constant().model
    contenders = losses(class_counts(data["label"]), model.dim)
    if unknown := set(options.only) - set(contenders):
        parser.error(f"no contender {sorted(unknown)}; there are {list(contenders)}")
    kept = {*options.only, INFONCE, SOGCLR, MARGIN} if options.only else set(contenders)
    contenders = {name: found for name, found in contenders.items() if name in kept}
    steps = {}
    for name, (loss_fn, _) in contenders.items():
        torch.manual_seed(0)
        encoder = build_encoder(model, tokenizer.vocabulary_size)
        steps[name] = stepper(loss_fn, encoder, batch, index)
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    order, draw = list(steps), random.Random(0)
    for turn in range(WARMUP + options.rounds):
        draw.shuffle(order)
        for name in order:
            start = time.perf_counter()
            steps[name]()
            if turn >= WARMUP:
                seconds[name].append(time.perf_counter() - start)
    print(
        f"batch {options.batch}, {options.model} model, d = {model.dim}, "
        f"{torch.get_num_threads()} threads, {options.rounds} rounds; "
        "x: median of the ratios within a round [quartiles]"
    )
    for name, (_, bases) in contenders.items():
        line = f"{name:20}{1000 * statistics.median(seconds[name]):8.1f} ms"
        for base in bases:
            if base != name:
                line += f"   x {ratio(seconds[name], seconds[base])} {base}"
        print(line)


def ratio(ours: Sequence[float], base: Sequence[float]) -> str:
    """Median and quartiles of the ratios of the rounds."""
    ratios = [a / b for a, b in zip(ours, base, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"{middle:.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
