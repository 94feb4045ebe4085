"""Long-tailed Gaussian pairs whose best temperatures are known.

A concept (class) c of n_c pairs has a centre. A pair's latent vector is
z = (s·centre + e)/√(1 + s²) with e ~ N(0, I_d), and its two sides see it through noise of their
own,

    x = Q_x [z + σ_c·ε, nuisance],   y = Q_y [z + σ_c·ε', nuisance],

with fixed rotations Q. For isotropic z (s = 0) the ratio p(y|x)/p(y) that InfoNCE estimates is, up
to a constant, exp(cos(x, y)/τ*) with

    τ* = (1 − r²)/(r·d),   r = 1/(1 + σ²),

where d is large enough that lengths hardly vary; so noisier pairs want higher temperatures. Pairs
that share z are false negatives of each other: k of them in a batch cap the probability of the true
pair near 1/(1 + k), and a low temperature only amplifies the noise that tells them apart, so they
want a higher one, too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from tauten.comparison.features import Features, FeatureSplit
from tauten.training.stores.pair_data import SPLITS, Split


@dataclass(frozen=True)
class SyntheticConfig:
    """Settings of the synthetic pairs.

    Attributes:
        concepts: number of classes.
        pairs: training pairs.
        exponent: of the tail: class sizes fall like rank to the power of −exponent; 0 for equal.
        dim: d, of the latent vectors.
        width: width of the features, at least d; the rest is nuisance.
        spread: s, standard deviation of the centres relative to that within a class.
        noise: σ of a class of middle size.
        noise_gradient: g, σ_c = noise·exp(g·(share − 1/2)), where share goes from 0 for the rarest
            to 1 for the densest class, in log size: above 0 dense classes are noisier.
        false_negatives: chance that a training pair repeats the latent vector of an earlier pair of
            its class, by which dense classes have more false negatives.
        queries: validation and test pairs of each concept, none of them repeated.
        seed: seed of everything that is drawn.
    """

    concepts: int = 60
    pairs: int = 3000
    exponent: float = 1.0
    dim: int = 16
    width: int = 48
    spread: float = 1.0
    noise: float = 0.5
    noise_gradient: float = 0.0
    false_negatives: float = 0.0
    queries: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        if not 2 <= self.concepts <= self.pairs:
            raise ValueError(
                f"need 2 <= concepts <= pairs, got {self.concepts} concepts, {self.pairs} pairs"
            )
        if not 1 <= self.dim <= self.width:
            raise ValueError(f"need 1 <= dim <= width, got {self.dim} and {self.width}")
        if not 0 <= self.false_negatives < 1:
            raise ValueError(f"false_negatives must be in [0, 1), got {self.false_negatives}")
        if self.queries < 1 or self.exponent < 0 or self.spread < 0 or not self.noise > 0:
            raise ValueError(
                "need queries >= 1, exponent >= 0, spread >= 0 and noise > 0, got "
                f"{self.queries}, {self.exponent}, {self.spread} and {self.noise}"
            )

    def expected(self) -> str:
        """Return the classes that need the higher temperature in theory: dense, rare or neither."""
        if self.exponent == 0:
            return "neither"
        if self.noise_gradient != 0:
            return "dense" if self.noise_gradient > 0 else "rare"
        return "dense" if self.false_negatives > 0 else "neither"


def class_sizes(concepts: int, pairs: int, exponent: float) -> list[int]:
    """Return sizes that fall like rank^−exponent, each at least 1, that sum to ``pairs``."""
    weights = [(rank + 1) ** -exponent for rank in range(concepts)]
    spare = pairs - concepts
    exact = [spare * weight / math.fsum(weights) for weight in weights]
    sizes = [int(value) for value in exact]
    order = sorted(range(concepts), key=lambda c: (sizes[c] - exact[c], c))
    for c in order[: spare - sum(sizes)]:
        sizes[c] += 1
    return [size + 1 for size in sizes]


def best_temperature(noise: float, dim: int) -> float:
    """Return τ* of isotropic Gaussian pairs; see the module."""
    r = 1 / (1 + noise**2)
    return (1 - r**2) / (r * dim)


def synthetic(config: SyntheticConfig) -> Features:
    """Make the pairs, the same for the same configuration.

    ``truth`` has for the training pairs ``noise`` (N,), ``best_temperature`` (N,) and
    ``false_negatives`` (N,), the number of other pairs with the same latent vector; and the latent
    vectors themselves, ``latent`` (N, d).
    """
    generator = torch.Generator().manual_seed(config.seed)
    sizes = class_sizes(config.concepts, config.pairs, config.exponent)
    logs = torch.tensor(sizes, dtype=torch.float64).log()
    span = logs.max() - logs.min()
    share = (logs - logs.min()) / span if span > 0 else torch.full_like(logs, 0.5)
    noise_C = config.noise * (config.noise_gradient * (share - 0.5)).exp()
    centres = torch.randn(config.concepts, config.dim, generator=generator, dtype=torch.float64)
    rotations = [_rotation(config.width, generator) for _ in "xy"]
    splits: dict[Split, FeatureSplit] = {}
    truth: dict[str, Tensor] = {}
    for split in SPLITS:
        counts = sizes if split == "train" else [config.queries] * config.concepts
        member = torch.arange(config.concepts).repeat_interleave(torch.tensor(counts))
        e = torch.randn(len(member), config.dim, generator=generator, dtype=torch.float64)
        z = (config.spread * centres[member] + e) / math.sqrt(1 + config.spread**2)
        if split == "train":
            origin = _origins(counts, config.false_negatives, generator)
            z = z[origin]
            copies = torch.bincount(origin, minlength=len(origin))[origin] - 1
            truth = {
                "noise": noise_C[member],
                "best_temperature": torch.tensor(
                    [best_temperature(float(noise), config.dim) for noise in noise_C[member]],
                    dtype=torch.float64,
                ),
                "false_negatives": copies,
                "latent": z,
            }
        x, y = (_view(z, noise_C[member], rotation, generator).float() for rotation in rotations)
        splits[split] = FeatureSplit(
            x,
            y,
            y_of_x=[[i] for i in range(len(member))],
            labels=[f"concept {c}" for c in member.tolist()],
            same=torch.arange(len(member)),
        )
    return Features("synthetic", splits, truth)


def _rotation(width: int, generator: torch.Generator) -> Tensor:
    gaussian = torch.randn(width, width, generator=generator, dtype=torch.float64)
    rotation: Tensor = torch.linalg.qr(gaussian).Q
    return rotation


def _view(z: Tensor, noise: Tensor, rotation: Tensor, generator: torch.Generator) -> Tensor:
    """Return (N, width) what one side sees of the latent vectors."""
    drawn = torch.randn(len(z), len(rotation), generator=generator, dtype=torch.float64)
    dim = z.shape[1]
    seen = z + noise[:, None] * drawn[:, :dim]
    return torch.cat([seen, drawn[:, dim:]], dim=1) @ rotation.T


def _origins(counts: list[int], rate: float, generator: torch.Generator) -> Tensor:
    """Return (N,) long, for each pair the one whose latent vector it has: its own,
    or an earlier one's.
    """
    drawn = torch.rand(sum(counts), 2, generator=generator, dtype=torch.float64).tolist()
    origin: list[int] = []
    for count in counts:
        start = len(origin)
        for place in range(count):
            repeat, which = drawn[start + place]
            earlier = start + int(which * place)
            origin.append(origin[earlier] if place and repeat < rate else start + place)
    return torch.tensor(origin)


def groups_for(config: SyntheticConfig) -> tuple[int, int]:
    """Return the head and tail limits that make each group about a third of the concepts."""
    sizes = class_sizes(config.concepts, config.pairs, config.exponent)
    head, tail = sizes[config.concepts // 3], sizes[2 * config.concepts // 3]
    return head, min(tail + 1, head)
