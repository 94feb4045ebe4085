"""Every loss and control, small and ready for use.

A test that walks them covers a new loss or control as soon as it has a spec, or a line in
``FURTHER``: losses that take more than pairs. What those are given beside embeddings is a number of
each sample, found by its position, so that a shard or another order of a batch has its own.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

import tauten as tt
from tauten.candidates import LabelMixtures, Prototypes
from tauten.spec import Context
from tauten.training import specs

N, DIM = 6, 4
COUNTS = torch.tensor([1, 3, 9, 9, 27, 81])
LABELS = ["a", "b", "c", "c", "d", "e"]
INDEX = torch.arange(N)
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


def classes(index):
    """Return the class of each sample, of three, of which the first is frequent."""
    return (index % 5 - 2).clamp(min=0)


def partners(index):
    """Return the class that each sample is to agree with: its own, or the frequent one."""
    return classes(index) * (index % 2)


def others(index, like):
    """Return further embeddings of each sample, without a gradient, of the type of others."""
    generator = torch.Generator().manual_seed(5)
    table = torch.randn(100, DIM, generator=generator, dtype=torch.float64)
    return table[index.cpu()].to(like)


def mixtures(index, like):
    """Return three mixtures of each sample, of which one is a positive and some are missing."""
    vectors = torch.stack([others(index + 30 * k, like) for k in range(3)], dim=1)
    labels = torch.stack([index % 5, index % 2, classes(index)], dim=1).double()
    missing = torch.stack([index % 4 == 1, index % 2 == 0, index % 3 == 2], dim=1)
    positive = torch.tensor([False, False, True], device=index.device)
    return LabelMixtures(vectors, labels, positive, missing)


@dataclass(frozen=True)
class Further:
    """A loss that takes more than pairs.

    Attributes:
        build: of a control, or a number, and the options ``tile`` and ``ranks``.
        call: the loss of x, y and the positions of samples.
        constant: whether it takes no control, but numbers of its own.
    """

    build: Callable[..., Any]
    call: Callable[..., Tensor]
    constant: bool = False


def only(make, *names):
    """Return a constructor that hands on these of the options ``tile`` and ``ranks``."""

    def build(control, **options):
        kept = {name: value for name, value in options.items() if name in names}
        if "tile" not in names and kept.get("ranks") == "ring":  # there is one way over processes
            del kept["ranks"]
        loss_fn = make(control, **kept)
        if "ranks" not in names:
            loss_fn.ranks = options.get("ranks", "auto")
        return loss_fn

    return build


def several_heads(control, **options):
    """Return the loss of two heads; a number is the least temperature."""
    return tt.AMCL(2, DIM, low=control, hidden=5, **options)


def of_three(loss_fn, x, y, index):
    """Return the loss of three views of each sample."""
    return loss_fn([x, y, others(index, x)], index)


def of_rows(call):
    """Return the call of a loss of one set of embeddings, in which a sample has two rows."""
    return lambda loss_fn, x, y, index: call(loss_fn, torch.cat([x, y]), index.repeat(2))


FURTHER = {
    "amcl": Further(
        only(several_heads, "ranks"),
        lambda loss_fn, x, y, index: loss_fn([x, others(index, x)], [y, others(index + 50, x)]),
        constant=True,
    ),
    "gram": Further(only(tt.GRAM), of_three),
    "mvdhel-views": Further(tt.MVDHEL, of_three),
    "mvinfonce-views": Further(tt.MVInfoNCE, of_three),
    "palm": Further(
        lambda control, **k: tt.PALM(control, 3, DIM, 2, torch.arange(1.0, 7.0), top=1, **k),
        of_rows(lambda loss_fn, z, index: loss_fn(z, classes(index), index)),
    ),
    "simlap": Further(
        lambda control, **k: tt.SimLAP(control, tt.PairGate(3, DIM, 5), **k),
        of_rows(lambda loss_fn, z, index: loss_fn(z, classes(index), partners(index), index)),
    ),
    "supcon": Further(
        lambda control, **k: tt.SupCon(control, directions="x2y", **k),
        of_rows(lambda loss_fn, z, index: loss_fn(z, None, index, labels=classes(index))),
    ),
    "supremix": Further(
        tt.SupReMix,
        of_rows(
            lambda loss_fn, z, index: loss_fn(z, classes(index).double(), mixtures(index, z), index)
        ),
    ),
    "swav": Further(
        lambda control, **k: tt.SwAV(control, Prototypes(3, DIM), torch.arange(1.0, 4.0), **k),
        of_three,
    ),
}
LOSSES = sorted({*specs.known_losses(), *FURTHER})

#: kinds of controls: learned by gradient, for each sample, by the robust objective, for each pair
LEARNED, EACH = ("learnable",), ("tau_uncertainty",)
ROBUST, PAIR = ("individual", "tempnet"), ("dystress", "temo")
OF_BATCH = (*EACH, *PAIR, "macl", "glate")


def because(*reasons):
    """Return controls with a part of the reason why a loss refuses each, of (kinds, reason)."""
    return {control: reason for kinds, reason in reasons for control in kinds}


_SINKS = "once pairs are separated the loss falls without bound"
_HINGE = because(
    (ROBUST, "hinges have no partition"), ((*LEARNED, *EACH), "a learned margin only shrinks")
)
_PARTITION = because((PAIR, "with one τ for each anchor"))
_RHO = because(((*LEARNED, *EACH), "without ρ·τ the loss falls with τ without bound"))
_OF_VIEWS = because(
    (ROBUST, "does not implement the robust objective"), (PAIR, "one temperature for all pairs")
)
_DECOUPLED = because((ROBUST, "each positive has a partition of its own"))
_ALONE = because((ROBUST, "each pair is judged alone"))
_SEVERAL = because(((*ROBUST, *PAIR), "labels give several"))
_PROTOTYPES = because(
    (("individual",), "each prototype has a share of a sample"),
    ((*OF_BATCH, "tempnet"), "it follows from the pairs of a batch"),
)
#: what means nothing, and why; all other controls drive a loss
REFUSED = {
    "amcl": because((CONTROLS, "AMCL's low: it predicts a temperature of each pair")),
    "cacr": because(
        (ROBUST, "no partition to learn"),
        ((*LEARNED, *EACH), "a learned one only loses its effect"),
    ),
    "dcl": because((LEARNED, _SINKS)),
    "dclw": because((LEARNED, _SINKS), (ROBUST, "has no weights of positives")),
    "decoupled": _DECOUPLED,
    "fastclip": because((set(CONTROLS) - {"learnable"}, "it needs control.kind=learnable")),
    "gram": because(((*OF_BATCH, "tempnet"), "GRAM's temperature: it follows from embeddings")),
    "isogclr": because((set(CONTROLS) - {"individual"}, "it needs control.kind=individual")),
    "mannwhitney": because(
        (ROBUST, "no partition to learn τ from"), (PAIR, "τ divides the difference of two scores")
    ),
    "maxmargin": _HINGE,
    "mvdhel": _OF_VIEWS | because((LEARNED, _SINKS)),
    "mvdhel-views": _OF_VIEWS | because((LEARNED, _SINKS)),
    "mvinfonce": _OF_VIEWS,
    "mvinfonce-views": _OF_VIEWS,
    "neuclip": _RHO | because((PAIR, "one τ for each anchor")),
    "nuclr": _PARTITION
    | because((ROBUST, "has no ρ"), ((*LEARNED, *EACH), "the loss falls with τ without bound")),
    "palm": _PROTOTYPES,
    "relativesiglip": _ALONE,
    "siglip": _ALONE,
    "simlap": because(
        (("individual",), "SimLAP's temperature: each positive has a partition of its own"),
        ((*OF_BATCH, "tempnet"), "each pair of classes has its own"),
    ),
    "sms": _HINGE,
    "softtopk": because(
        (ROBUST, "no partition to learn τ from"),
        ((*LEARNED, *EACH), "no temperature of a likelihood"),
    ),
    "sogclr": _PARTITION | _RHO,
    "supcon": _SEVERAL,
    "supremix": _SEVERAL,
    "swav": _PROTOTYPES,
    "zloss": because(
        (ROBUST, "it has no temperature"),
        ((*LEARNED, *EACH), "a learned margin only shrinks"),
        (PAIR, "measured together, by one mean"),
    ),
}


def control_for(name):
    """Return the kind of a control that this loss takes; "" where it takes none."""
    if name in FURTHER:
        return "" if FURTHER[name].constant else "constant"
    return specs.loss(name).own_control() or "constant"


def driven(name, control, seed=0, tile="dense"):
    """Return the loss of this name, with its defaults, under the control of this name.

    Raises:
        ValueError: a control that means nothing to it.
    """
    torch.manual_seed(seed)
    if name not in FURTHER:
        spec = specs.loss(name)
        spec.check(specs.control(control))
        loss_fn = spec.build(specs.control(control), context())
        loss_fn.tile = tile
        return loss_fn
    strength = specs.control(control).build(context()) if control else 0.1
    return FURTHER[name].build(strength, tile=tile)


def make_loss(name, *, tile="dense", seed=0):
    """Return the loss of this name with its defaults, and a control that it takes."""
    return driven(name, control_for(name), seed, tile)


def make_control(name, seed=0):
    """Return the control of this name with its defaults."""
    torch.manual_seed(seed)
    return specs.control(name).build(context())


def value(name, loss_fn, x, y, index=INDEX):
    """Return what a loss of this name gives for samples at these positions."""
    if name in FURTHER:
        return FURTHER[name].call(loss_fn, x, y, index)
    graded = {"pairs": {"relevancy": (index % 5, index % 5)}}
    return loss_fn(x, y, index, **graded.get(specs.loss(name).relevance, {}))


def embeddings(seed=0, dtype=torch.float64):
    """Return x and y, (N, DIM), of which each y lies towards its x."""
    generator = torch.Generator().manual_seed(seed)
    x, y = torch.randn(2, N, DIM, generator=generator, dtype=dtype)
    return x, 0.5 * x + y
