"""Every loss and control that has a spec, small and ready for use.

A test that walks them covers a new loss or control as soon as its spec is registered.
"""

import torch

from tauten.spec import Context
from tauten.training import specs

N, DIM = 6, 4
COUNTS = torch.tensor([1, 3, 9, 9, 27, 81])
LABELS = ["a", "b", "c", "c", "d", "e"]
INDEX = torch.arange(N)
LOSSES = sorted(specs.known_losses())
CONTROLS = sorted(specs.known_controls())


def context():
    """Return what a small training knows: sizes, classes and graded relevancies."""
    kinds = len(set(LABELS))
    return Context(
        num_samples=N,
        total_steps=20,
        per_epoch=5,
        dim=DIM,
        counts=COUNTS,
        labels=LABELS,
        relevancies=torch.eye(kinds) + 0.25 * (1 - torch.eye(kinds)),
    )


def control_for(loss):
    """Return the spec of a control that this loss takes: its own, or a constant."""
    return specs.control(loss.own_control() or "constant")


def make_loss(name, *, tile="dense", seed=0):
    """Return the loss of this name with its defaults."""
    torch.manual_seed(seed)
    spec = specs.loss(name)
    loss_fn = spec.build(control_for(spec), context())
    loss_fn.tile = tile
    return loss_fn


def make_control(name, seed=0):
    """Return the control of this name with its defaults."""
    torch.manual_seed(seed)
    return specs.control(name).build(context())


def arguments(name):
    """Return what a loss is given beside the embeddings: positions, and relevancies if it asks."""
    spec = specs.loss(name)
    return {"pairs": {"relevancy": (INDEX % 5, INDEX % 5)}}.get(spec.relevance, {})


def embeddings(seed=0, dtype=torch.float64):
    """Return x and y, (N, DIM), of which each y lies towards its x."""
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, N, DIM, generator=generator, dtype=dtype)
    return x, 0.5 * x + y
