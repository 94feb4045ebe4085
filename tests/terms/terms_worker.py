"""One of two processes: terms on its shard, compared with the whole batch.

Run as ``python terms_worker.py RANK STORE OUT``.
"""

import json
import sys
from pathlib import Path

import torch
from torch import distributed as dist

from tauten import terms

CUT = 5
SCORES = torch.tensor([5.0, 1.0, 3.0, 3.0, 0.0, 4.0, 1.0])


def graded(make):
    """Return the constructor of a term that knows the scores of its shard."""

    def constructor(**options):
        term = make(**options)
        shards = {7: SCORES, CUT: SCORES[:CUT], 7 - CUT: SCORES[CUT:]}
        return lambda x, y: term(x, y, shards[len(x)])

    return constructor


def queries(**options):
    """Return triplet queries of the shard, each among its own rows and those of its process."""
    term = terms.TripletQueries(0.5, **options)
    first = torch.tensor([[0, 1, 2], [3, 4, 0], [2, 4, 1]])
    last = torch.tensor([[0, 1, 1]])
    shards = {7: torch.cat([first, last + CUT]), CUT: first, 7 - CUT: last}
    return lambda x: term(x, shards[len(x)])


PROTOTYPES = torch.randn(4, 3, generator=torch.Generator().manual_seed(9), dtype=torch.float64)
VIEWS = torch.tensor([0, 1, 0, 2, 1, 0, 1])


def shared(make):
    """Return the constructor of a term of queries and prototypes, which all processes have."""

    def constructor(**options):
        term = make(**options)
        vectors = PROTOTYPES.clone().requires_grad_()
        return lambda *given: term(*given, vectors) + 0 * sum(side.sum() for side in given)

    return constructor


def of_views(**options):
    """Return uniformity of views, of which those of one sample are no pair."""
    term = terms.Uniformity(**options)
    shards = {7: VIEWS, CUT: VIEWS[:CUT], 7 - CUT: VIEWS[CUT:]}
    return lambda x: term(x, shards[len(x)])


def area(**options):
    """Return partial AUC of the first component of each row."""
    term = terms.PartialAUC(0.5, 0.8, **options)
    shards = {7: VIEWS > 0, CUT: VIEWS[:CUT] > 0, 7 - CUT: VIEWS[CUT:] > 0}
    return lambda x: term(x[:, 0], shards[len(x)])


def mixed(**options):
    """Return pair losses of mixtures of each row with its own of the other side."""
    term = terms.MixedPairs(**options)
    shares = torch.stack([0.3 * VIEWS, 1 - 0.4 * VIEWS], dim=1).clamp(0, 1)
    shards = {7: shares, CUT: shares[:CUT], 7 - CUT: shares[CUT:]}
    return lambda x, y: term(x, torch.stack([y, x + y], dim=1), shards[len(x)])


def pixels(**options):
    """Return the agreement of two pixels of each picture, made of its rows."""
    term = terms.PixelConsistency(**options)
    right = torch.linspace(1.0, 4.0, 7, dtype=torch.float64)
    boxes = torch.stack([0 * right, 0 * right, right, right], dim=1)
    shards = {7: boxes, CUT: boxes[:CUT], 7 - CUT: boxes[CUT:]}

    def on(x, y):
        box = shards[len(x)]
        crops = terms.pixel_centres(box, 1, 2), terms.pixel_centres(box + 0.3, 1, 2)
        first, second = torch.stack([x, y], dim=1), torch.stack([x * y, y - x], dim=1)
        return term((first, second), (second.cos(), first.sin()), crops)

    return on


TERMS = {
    "mixed": (mixed, 2),
    "pixels": (pixels, 2),
    "area": (area, 1),
    "hinge": (shared(terms.PrototypeHinge), 1),
    "deviation": (shared(terms.Deviation), 2),
    "views": (of_views, 1),
    "triplet": (queries, 1),
    "uniformity": (terms.Uniformity, 1),
    "cross": (terms.CrossUniformity, 2),
    "correlation": (terms.CrossCorrelation, 2),
    "alignment": (terms.Alignment, 2),
    "koleo": (terms.KoLeo, 1),
    "joint": (terms.JointEntropy, 2),
    "pearson": (graded(terms.Pearson), 2),
    "rank-kl": (graded(terms.RankKL), 2),
    "preference": (graded(terms.PreferenceOrder), 2),
}


def main(rank, store, out):
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    own = slice(0, CUT) if rank == 0 else slice(CUT, None)
    whole = [
        torch.randn(7, 3, generator=torch.Generator().manual_seed(k), dtype=torch.float64)
        for k in range(2)
    ]
    found = {}
    for name, (make, sides) in TERMS.items():
        every = [v.clone().requires_grad_() for v in whole[:sides]]
        expected = make(ranks="local")(*every)
        told = torch.autograd.grad(expected, every)
        mine = [v[own].clone().requires_grad_() for v in whole[:sides]]
        value = make()(*mine)
        # data parallelism takes the mean over both processes
        parts = [grad / 2 for grad in torch.autograd.grad(value, mine)]
        errors = [abs(float(value - expected))]
        errors += [
            float((part - grad[own]).abs().max()) for part, grad in zip(parts, told, strict=True)
        ]
        gathered = [None, None]
        dist.all_gather_object(gathered, errors)
        found[name] = [max(pair) for pair in zip(*gathered, strict=True)]
    if rank == 0:
        Path(out).write_text(json.dumps(found))
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2], sys.argv[3])
