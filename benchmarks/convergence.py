"""How SogCLR's averages, fed with small batches, approach the partitions over the whole data set.

    python benchmarks/convergence.py --output FILE.csv --figure FILE.svg

Embeddings are fixed: the names and the keywords of emoji. After 1, 2, 4, ... visits of each sample,
log u and gradients (at the embeddings; of an encoder, a matrix on each side; the latter averaged
over a window, the epochs since half of the visits) are compared with those over all negatives.
"""

import argparse
from collections import defaultdict
from itertools import product
from multiprocessing import get_context
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from matplotlib.figure import Figure

import tauten as tt
from tauten.data import emoji_lt
from tauten.structure import embed_captions

SAMPLES, TAU, SEEDS, BATCHES = 1792, 0.1, 3, (16, 64, 256)
#: gamma at the start and at the end, visits, colour, label
GAMMAS = {
    "1": (1.0, 1.0, 16, "k", "γ = 1, no memory"),
    "0.8": (0.8, 0.8, 16, "C1", "γ = 0.8"),
    "0.2": (0.2, 0.2, 32, "C2", "γ = 0.2"),
    "exact": (1e-9, 1e-9, 32, "C0", "exact u"),
}
for n, color in ((64, "C3"), (16, "C5"), (4, "C6")):
    GAMMAS[f"decay {n}"] = (1.0, 0.01, n, color, f"γ: 1 to 0.01 in {n} visits")
problem: dict[str, torch.Tensor] = {}


def embeddings() -> list[np.ndarray]:
    """(n, 384) of names and (n, 384) of keywords, n emoji drawn with a fixed seed."""
    concepts = {row["concept"]: row for row in emoji_lt("train").remove_columns("image")}
    order = torch.randperm(len(concepts), generator=torch.Generator().manual_seed(0))
    rows = [list(concepts.values())[i] for i in order[:SAMPLES].tolist()]
    texts = [row["caption"] for row in rows], [", ".join(row["keywords"]) for row in rows]
    return [embed_captions(side, progress=False).numpy() for side in texts]


def set_problem(x: np.ndarray, y: np.ndarray) -> None:
    """The log partitions over all negatives, (2, n), and their gradient, (2, n, d), in float64."""
    torch.set_num_threads(1)
    pair = torch.from_numpy(np.stack([x, y]))
    leaf = pair.double().requires_grad_()
    unit = leaf / leaf.norm(dim=2, keepdim=True)
    s, own = unit[0] @ unit[1].T, torch.eye(SAMPLES).bool()
    h = (torch.stack([s, s.T]) - s.diagonal()[:, None]) / TAU
    exact = h.masked_fill(own, -torch.inf).logsumexp(2) - np.log(SAMPLES - 1)
    (gradient,) = torch.autograd.grad(TAU * exact.mean(), leaf)
    problem.update(pair=pair, exact=exact.detach(), gradient=gradient)


def measure(batch: int, gamma: str, seed: int) -> list[tuple[object, ...]]:
    """The rows of one run."""
    ids, per_epoch, rows = torch.arange(SAMPLES), SAMPLES // batch, []
    start, end, epochs, *_ = GAMMAS[gamma]
    loss_fn = tt.SogCLR(SAMPLES, TAU, tt.Anneal(start, end, epochs * per_epoch))
    if gamma == "exact":  # the first visit sets u, here with all negatives
        loss_fn(*problem["pair"], ids)
        loss_fn.step()
    generator = torch.Generator().manual_seed(seed)
    window = torch.zeros_like(problem["gradient"])
    for epoch in range(1, epochs + 1):
        gradient = torch.zeros_like(window)
        for chosen in torch.randperm(SAMPLES, generator=generator).split(batch):
            part = problem["pair"][:, chosen].requires_grad_()
            (loss_fn(part[0], part[1], chosen) / per_epoch).backward()
            gradient[:, chosen] = part.grad.double()
            loss_fn.step()
        window += gradient
        if epoch & (epoch - 1) == 0:
            log_u = torch.stack([loss_fn.tables[d].read(ids)["log_u"] for d in ("x2y", "y2x")])
            found = compare(log_u, gradient, window / max(epoch // 2, 1))
            head = ("emoji_lt", batch, gamma, seed, epoch, epoch * per_epoch)
            rows += [(*head, metric, f"{value:.4g}") for metric, value in found.items()]
            window.zero_()
    return rows


def compare(log_u: torch.Tensor, gradient: torch.Tensor, window: torch.Tensor) -> dict[str, float]:
    """Mean error and bias of log u; 1 − cosine, ratio of norms, relative error of gradients."""
    error, exact, inputs = log_u - problem["exact"], problem["gradient"], problem["pair"].double()
    found = {"log_u_error": float(error.abs().mean()), "log_u_bias": float(error.mean())}
    gradients = gradient, gradient.mT @ inputs, window.mT @ inputs
    for name, g in zip(("embedding", "encoder", "window"), gradients, strict=True):
        e = exact if name == "embedding" else exact.mT @ inputs
        found[f"{name}_cosine"] = 1 - float((g * e).sum() / (g.norm() * e.norm()))
        found[f"{name}_norm"] = float(g.norm() / e.norm())
        found[f"{name}_error"] = float((g - e).norm() / e.norm())
    return found


def draw(values: dict[tuple[object, ...], np.ndarray], path: Path) -> None:
    mpl.rcParams.update({"svg.hashsalt": "tauten", "svg.fonttype": "none", "font.size": 9})
    panels = (
        ("u, batch 16", "log_u_error", (16,), GAMMAS),
        ("u, batch 16 (●), 64 (■), 256 (▲)", "log_u_error", BATCHES, ["1", "0.2", "decay 64"]),
        ("gradient from one epoch, batch 16", "encoder_error", (16,), list(GAMMAS)[:5]),
        ("mean gradient since half, batch 16", "window_error", (16,), list(GAMMAS)[:5]),
    )
    figure = Figure((8.5, 6.5), layout="constrained")
    axes = figure.subplots(2, 2, sharey=True).flatten()
    for ax, (title, metric, batches, gammas) in zip(axes, panels, strict=True):
        steps, y = batches == BATCHES, (0.02, 0.05, 0.1, 0.2, 0.5)
        for (batch, mark), gamma in product(zip(batches, "os^", strict=False), gammas):
            found, (*_, color, label) = values[batch, gamma, metric], GAMMAS[gamma]
            x = 2 ** np.arange(found.shape[1]) * (SAMPLES // batch if steps else 1)
            ax.loglog(x, found.mean(0), mark, ls="-", ms=3, c=color, label=label)
            ax.fill_between(x, found.min(0), found.max(0), color=color, alpha=0.2, lw=0)
        x = (10, 100, 1000, 10000) if steps else (1, 2, 4, 8, 16, 32, 64)
        ax.set(title=title, xlabel="steps" if steps else "visits of each sample", ylim=(0.02, 0.6))
        ax.set_ylabel("mean |log u − exact|" if "log_u" in metric else "‖g − exact‖ / ‖exact‖")
        ax.set(xticks=x, xticklabels=x, yticks=y, yticklabels=y)
        ax.minorticks_off()
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.savefig(path, metadata={"Date": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--figure", type=Path, required=True)
    options = parser.parse_args()
    tasks, values = product(BATCHES, GAMMAS, range(SEEDS)), defaultdict(list)
    with get_context("spawn").Pool(2, set_problem, embeddings()) as pool:
        rows = [row for run in pool.starmap(measure, tasks, chunksize=1) for row in run]
    table = [("data", "batch", "gamma", "seed", "epoch", "step", "metric", "value"), *rows]
    options.output.write_text("".join(",".join(map(str, row)) + "\n" for row in table))
    for _, batch, gamma, _, _, _, metric, value in rows:
        values[batch, gamma, metric].append(float(value))
    arrays = {key: np.reshape(found, (SEEDS, -1)) for key, found in values.items()}
    shown = "log_u_error", "log_u_bias", "embedding_error", "encoder_error", "window_error"
    print("batch gamma    visits  steps", *(f"{metric:>15}" for metric in shown))
    for batch, (gamma, (_, _, visits, *_)) in product(BATCHES, GAMMAS.items()):
        ends = [arrays[batch, gamma, metric][:, -1] for metric in shown]
        cells = (f"{end.mean():8.3f} ±{end.std(ddof=1):.3f}" for end in ends)
        print(f"{batch:5} {gamma:8} {visits:6} {visits * SAMPLES // batch:6}", *cells)
    draw(arrays, options.figure)


if __name__ == "__main__":
    main()
