"""What ``family.py`` measures: one step of every objective and term, by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

import tauten as tt
from tauten.candidates import LabelMixer, Prototypes
from tauten.relations import Codes, Kernel, Teacher
from tauten.spec import Context
from tauten.training import specs

Step = Callable[[], object]
Maker = Callable[[int, int], Step]

#: the time of these grows faster than B²
SMALL = {"mannwhitney": 256, "gram, 3 modalities": 256, "term PixelConsistency": 128}
CLASSES, KINDS, RATE = 256, 32, 0.07


def sides(batch: int, dim: int, count: int = 2) -> list[Tensor]:
    """Return embeddings of so many sides, the later ones near the first."""
    generator = torch.Generator().manual_seed(0)
    first = torch.randn(batch, dim, generator=generator)
    others = (first + torch.randn(batch, dim, generator=generator) for _ in range(count - 1))
    return [first.requires_grad_(), *(side.requires_grad_() for side in others)]


def step_of(loss_fn: Callable[..., Tensor], *inputs: object, **known: object) -> Step:
    """Return one forward and backward pass, after which no gradient is kept."""
    leaves = [
        leaf
        for given in (*inputs, *known.values())
        for leaf in (given if isinstance(given, list) else [given])
        if isinstance(leaf, Tensor) and leaf.requires_grad
    ]

    def step() -> None:
        loss_fn(*inputs, **known).backward()
        for leaf in leaves:
            leaf.grad = None

    return step


def infonce(batch: int, dim: int) -> Step:
    return step_of(tt.InfoNCE(RATE), *sides(batch, dim))


def by_name(name: str, batch: int, dim: int) -> Step:
    """Return a step of the loss of this name, with its defaults and the control that it takes."""
    torch.manual_seed(0)
    spec = specs.loss(name)
    labels = torch.arange(batch) % max(1, min(CLASSES, batch // 4))
    context = Context(
        num_samples=batch,
        total_steps=100,
        per_epoch=10,
        dim=dim,
        counts=1 + torch.arange(batch),
        labels=[str(label) for label in labels.tolist()],
        relevancies=torch.eye(KINDS) + 0.25 * (1 - torch.eye(KINDS)),
    )
    loss_fn = spec.build(specs.control(spec.own_control() or "constant"), context)
    known: dict[str, object] = {}
    if spec.relevance == "pairs":
        known["relevancy"] = (torch.arange(batch) % KINDS, torch.arange(batch) % KINDS)
    if name == "supcon":
        known["labels"] = labels
    x, y = sides(batch, dim)
    return step_of(loss_fn, x, y, torch.arange(batch), **known)


def with_words(batch: int, dim: int, word: str) -> Step:
    """Return a step of InfoNCE with one of the words that a call says beside its pairs."""
    x, y = sides(batch, dim)
    u, v = (side.detach() for side in sides(batch, dim))
    kinds = torch.arange(batch) % KINDS
    options: dict[str, dict[str, object]] = {
        "label smoothing": {"label_smoothing": 0.1},
        "margin": {"margin": 0.1},
        "DRO over anchors": {"reduction": tt.DRO(1.0)},
    }
    known: dict[str, Callable[[], dict[str, object]]] = {
        "classes, mean of positives": lambda: {"labels": torch.arange(batch) % CLASSES},
        "targets of a teacher": lambda: {"targets": Teacher(u, v, RATE)},
        "targets of a kernel": lambda: {"targets": Kernel(u, v)},
        "targets of codes": lambda: {"targets": Codes(torch.eye(KINDS) + 0.1, kinds, kinds)},
        "weights of negatives": lambda: {"repulsion": Kernel(u, v)},
        "4 own negatives": lambda: {"negatives": own(batch, 4, dim)},
        "16 own negatives": lambda: {"negatives": own(batch, 16, dim)},
    }
    loss_fn = tt.InfoNCE(RATE, **options.get(word, {}))  # type: ignore[arg-type]
    return step_of(loss_fn, x, y, **known.get(word, dict)())


def own(batch: int, count: int, dim: int) -> Tensor:
    """Return negatives (batch, count, dim) of each row of x."""
    generator = torch.Generator().manual_seed(1)
    return torch.randn(batch, count, dim, generator=generator).requires_grad_()


def of_three(batch: int, dim: int, loss_fn: Callable[..., Tensor]) -> Step:
    return step_of(loss_fn, sides(batch, dim, 3))


def of_prototypes(batch: int, dim: int, loss: str) -> Step:
    """Return a step of SwAV, of two crops, or of PALM, with 256 prototypes."""
    if loss == "swav":
        return step_of(tt.SwAV(RATE, Prototypes(CLASSES, dim), "uniform"), sides(batch, dim))
    palm = tt.PALM(RATE, CLASSES // 4, dim, 4, "uniform")
    return step_of(palm, *sides(batch, dim, 1), torch.arange(batch) % (CLASSES // 4))


def gated(batch: int, dim: int) -> Step:
    """Return a step of SimLAP with 8 classes, each with its own and with the next."""
    torch.manual_seed(0)
    labels = torch.arange(batch) % 8
    partners = (labels + torch.arange(batch) // 8 % 2) % 8
    return step_of(tt.SimLAP(RATE, tt.PairGate(8, dim)), *sides(batch, dim, 1), labels, partners)


def remixed(batch: int, dim: int) -> Step:
    """Return a step of SupReMix with 8 mixtures of each sample, and their making."""
    labels = (torch.arange(batch) % min(KINDS, batch // 2)).float()
    loss_fn, mixer, generator = tt.SupReMix(RATE), LabelMixer(4, 4), torch.Generator()

    def mixed(z: Tensor) -> Tensor:
        return loss_fn(z, labels, mixer(z, labels, generator))

    return step_of(mixed, *sides(batch, dim, 1))


def heads(batch: int, dim: int) -> Step:
    """Return a step of AMCL with two heads."""
    torch.manual_seed(0)
    x, y, *others = sides(batch, dim, 4)
    return step_of(tt.AMCL(2, dim), [x, others[0]], [y, others[1]])


def of_classes(batch: int, dim: int) -> Step:
    """Return a step of SupCon of one set, each class with two samples."""
    z, *_ = sides(batch, dim, 1)
    return step_of(tt.SupCon(RATE), z, labels=torch.arange(batch) // 2)


def of_term(batch: int, dim: int, term: Callable[..., Tensor], count: int = 1) -> Step:
    return step_of(term, *sides(batch, dim, count))


def graded(batch: int, dim: int, term: Callable[..., Tensor]) -> Step:
    """Return a step of a term of pairs with a score each."""
    return step_of(term, *sides(batch, dim), (torch.arange(batch) % 6).float())


def pixels(batch: int, dim: int) -> Step:
    """Return a step of PixPro: two crops of each picture, of 7 x 7 pixels, propagated."""
    torch.manual_seed(0)
    propagate = tt.terms.PixelPropagation(torch.nn.Linear(dim, dim))
    boxes = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(batch, 4)
    centres = tuple(tt.terms.pixel_centres(box, 7, 7) for box in (boxes, boxes + 0.1))
    first, second = (z.reshape(batch, 49, dim) for z in sides(49 * batch, dim))
    term = tt.terms.PixelConsistency()
    leaves = [z.detach().requires_grad_() for z in (first, second)]

    def consistency(a: Tensor, b: Tensor) -> Tensor:
        return term((propagate(a), propagate(b)), (b.detach(), a.detach()), centres)

    return step_of(consistency, *leaves)


def other_terms() -> dict[str, Maker]:
    """Return terms that take more than embeddings."""
    terms, prototypes = tt.terms, Prototypes

    def area(batch: int, dim: int) -> Step:
        known = torch.arange(batch) % 4 == 0
        return step_of(lambda z: terms.PartialAUC()(z[:, 0], known), *sides(batch, dim, 1))

    def triplets(batch: int, dim: int) -> Step:
        queries = torch.stack([torch.arange(batch).roll(k) for k in range(3)], dim=1)
        return step_of(terms.TripletQueries(), *sides(batch, dim, 1), queries)

    def mixtures(batch: int, dim: int) -> Step:
        z, mixed = *sides(batch, dim, 1), own(batch, 4, dim)
        return step_of(terms.MixedPairs(), z, mixed, torch.full((batch, 4), 0.5))

    def hinge(batch: int, dim: int) -> Step:
        term, vectors = terms.PrototypeHinge(), prototypes(KINDS, dim).vectors
        return step_of(term, *sides(batch, dim, 1), vectors)

    def deviation(batch: int, dim: int) -> Step:
        return step_of(terms.Deviation(), *sides(batch, dim), prototypes(KINDS, dim).vectors)

    def constraint(batch: int, dim: int) -> Step:
        term = terms.Constraint([0.0] * min(KINDS, batch), 40.0)
        return step_of(lambda z: term(z[:KINDS, 0].square()), *sides(batch, dim, 1))

    return {
        "PartialAUC": area,
        "TripletQueries": triplets,
        "MixedPairs, 4 mixtures": mixtures,
        "PrototypeHinge": hinge,
        "Deviation": deviation,
        "Constraint": constraint,
        "PixelConsistency": pixels,
        **{
            name: partial(graded, term=getattr(terms, name)())
            for name in ("Pearson", "RankKL", "PreferenceOrder")
        },
    }


WORDS = (
    "label smoothing",
    "margin",
    "DRO over anchors",
    "classes, mean of positives",
    "targets of a teacher",
    "targets of a kernel",
    "targets of codes",
    "weights of negatives",
    "4 own negatives",
    "16 own negatives",
)


def contenders() -> dict[str, Maker]:
    """Return what is measured, by name."""
    return {
        **{name: partial(by_name, name) for name in sorted(specs.known_losses())},
        **{f"infonce, {word}": partial(with_words, word=word) for word in WORDS},
        "mvinfonce, 3 modalities": partial(of_three, loss_fn=tt.MVInfoNCE(RATE)),
        "mvdhel, 3 modalities": partial(of_three, loss_fn=tt.MVDHEL(RATE)),
        "gram, 3 modalities": partial(of_three, loss_fn=tt.GRAM(RATE)),
        "supcon, one set": of_classes,
        "swav, 2 crops": partial(of_prototypes, loss="swav"),
        "palm": partial(of_prototypes, loss="palm"),
        "simlap, 8 classes": gated,
        "supremix, 8 mixtures": remixed,
        "amcl, 2 heads": heads,
        "term KoLeo": partial(of_term, term=tt.terms.KoLeo()),
        "term Uniformity": partial(of_term, term=tt.terms.Uniformity()),
        **{
            f"term {name}": partial(of_term, term=getattr(tt.terms, name)(), count=2)
            for name in (
                "Alignment",
                "CrossCorrelation",
                "CrossUniformity",
                "Distillation",
                "JointEntropy",
            )
        },
        **{f"term {name}": make for name, make in other_terms().items()},
    }
