"""Global contrastive loss whose log-partitions a network predicts, in the place of a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tauten.checks import whole
from tauten.controls import Control, Direction, Individual, as_control
from tauten.controls.anchors import DIRECTIONS
from tauten.losses.base import ContrastiveLoss
from tauten.losses.batch import Batch
from tauten.losses.composition import NO_RADIUS, Composition, Refused, radius
from tauten.losses.options import SharedOptions
from tauten.losses.partition import (
    Partition,
    filled,
    need_negatives,
    negatives_lse,
    report,
    robust_gradients,
)
from tauten.losses.weighting import SizeWeighted
from tauten.messages import gather_equal, own_device, several_processes
from tauten.pairwise.exchange import Ranks
from tauten.pairwise.sides import within_range
from tauten.spec import Context, ControlSpec, Range

if TYPE_CHECKING:
    from typing_extensions import Unpack

#: batches of which the keys are noted
_MOST = 64


class Normalizer(nn.Module):
    """A network that predicts log E_j exp(s_ij/τ) from an embedding: that of M prototypes.

    N(z, τ) = log Σ_m exp(⟨z, w_m⟩/τ + c_m)

    Prototypes start at the first keys that it is shown, so that it begins as their partition.
    """

    ready: Tensor

    def __init__(self, dim: int, prototypes: int) -> None:
        super().__init__()
        self.prototypes = nn.Parameter(F.normalize(torch.randn(prototypes, dim), dim=1))
        self.weights = nn.Parameter(torch.full((prototypes,), -math.log(prototypes)))
        self.register_buffer("ready", torch.zeros((), dtype=torch.bool))
        self._started = False

    @property
    def started(self) -> bool:
        """True once the prototypes have had their start; from then on no number is read."""
        self._started = self._started or bool(self.ready)
        return self._started

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._started = False

    def forward(self, rows: Tensor, scale: Tensor) -> Tensor:
        """Return (n,) log-partitions of unit rows (n, d), with 1/τ (n,) or ()."""
        dtype = self.prototypes.dtype
        logits = rows.to(dtype) @ self.prototypes.T
        scale = scale.to(dtype)
        scale = scale.unsqueeze(1) if scale.dim() else scale
        return (logits * scale + self.weights).logsumexp(1)

    @torch.no_grad()
    def start(self, keys: Tensor) -> None:
        """Set the prototypes to keys (n, d), in turn, a little apart where they repeat."""
        count = len(self.prototypes)
        rows = keys[torch.arange(count, device=keys.device) % len(keys)].to(self.prototypes)
        generator = torch.Generator().manual_seed(0)
        apart = torch.randn(rows.shape, generator=generator).to(rows)
        again = torch.arange(count, device=rows.device).unsqueeze(1) >= len(keys)
        self.prototypes.copy_(rows + 0.01 * apart * again)
        self.ready.fill_(True)


class FirstKeys:
    """Keys of the first batches, of each side, until the networks have started from them."""

    def __init__(self) -> None:
        self._seen: list[tuple[Direction, Tensor]] = []

    def add(self, direction: Direction, keys: Tensor) -> None:
        """Note what the anchors of a direction met: (m, d); the first batches are enough."""
        if len(self._seen) < _MOST:
            self._seen.append((direction, keys.detach()))

    def take(self) -> list[tuple[Direction, Tensor]]:
        """Take what all processes noted, the same on each."""
        seen, self._seen = self._seen, []
        if not several_processes():
            return seen
        return [(d, _of_all([keys for of, keys in seen if of == d])) for d in DIRECTIONS]


def _of_all(keys: list[Tensor]) -> Tensor:
    """Return (M, d) the keys of all processes, of which each may have none."""
    held = torch.cat(keys) if keys else torch.zeros(0, 0)
    shapes = gather_equal(torch.tensor(held.shape, device=own_device())).tolist()
    width = max(width for _, width in shapes)
    held = held.to(own_device(), torch.float64).reshape(len(held), width)
    counts = [count for count, _ in shapes]
    return Ranks(len(held), len(held), held.device).gather(held, counts)


class NeuCLIP(ContrastiveLoss):
    """Global contrastive loss with predicted log-partitions (Wei et al., ICLR 2026).

    F = mean_i τ_i·( exp(log g_i − α_i) + α_i − 1 + ρ ),  α_i = N_φ(x_i, τ_i) − s_ii/τ_i

    g_i = mean_{j≠i} exp((s_ij − s_ii)/τ_i) of the batch. Over α the least value is that of
    :class:`SogCLR`, τ_i·(log E g_i + ρ), so that φ and the encoders minimise one function together.
    A network of prototypes predicts α from the embedding, which is detached: samples of any number
    share it, nothing is stored for each, and no ``index`` is needed. One network for each side.
    Before the first :meth:`step`, which sets the prototypes to keys of the batch, α_i is log g_i.

    The paper's own network and its schedule (several steps of φ for one of the encoders, restarts)
    could not be read; here both move once a step. Give φ a learning rate of its own.

    Args:
        dim: width of the embeddings.
        temperature: a control or a number; must stay > 0.
        rho: ρ, >= 0; a control that brings its own (Individual, TempNet) sets it.
        prototypes: M.

    The other arguments are those of :class:`InfoNCE`, without ``force``.

    Raises:
        ValueError: a value outside its range, an unknown option, a learned temperature without ρ.
    """

    no_keys = "its network already stands for the negatives of earlier batches"

    def __init__(
        self,
        dim: int,
        temperature: Control | float = 0.1,
        rho: float = 0.0,
        *,
        prototypes: int = 256,
        **options: Unpack[SharedOptions],
    ) -> None:
        control = as_control(temperature)
        self.rho = radius(control, rho)
        self.composition = Composition(
            learned=None if self.rho else NO_RADIUS,
            learned_anchor=None if self.rho else NO_RADIUS,
            pair=Refused("its partition has one τ for each anchor"),
        )
        super().__init__(control, **options)
        self.width = width = whole("dim", dim, 1)
        count = whole("prototypes", prototypes, 1)
        sides = ("x2y", "y2x") if self.directions == "both" else (self.directions,)
        self.normalizers = nn.ModuleDict({side: Normalizer(width, count) for side in sides})
        self._first = FirstKeys()

    def step(self, *, controls: bool = True) -> None:
        """Advance by one optimiser step; the first one starts the networks."""
        super().step(controls=controls)
        waiting = {
            side: network
            for side, network in self.normalizers.items()
            if isinstance(network, Normalizer) and not network.started
        }
        if waiting:
            keys = self._first.take()
            for side, network in waiting.items():
                shown = [rows.to(network.prototypes) for d, rows in keys if d == side and len(rows)]
                if shown:
                    network.start(torch.cat(shown))

    def anchor_losses(self, batch: Batch, directions: Sequence[Direction]) -> list[Tensor]:
        if batch.x.shape[1] != self.width:
            raise ValueError(
                f"NeuCLIP(dim={self.width}) was given embeddings of width {batch.x.shape[1]}: its "
                "dim must be theirs"
            )
        need_negatives(self, batch, directions)
        taus = [batch.values(self.strength, d) for d in directions]
        sums = negatives_lse(batch, batch.scales(self.strength, directions), directions)
        losses, parts = [], {}
        for (partition, alone), tau, d in zip(sums, taus, directions, strict=True):
            log_negatives = batch.log_negatives(d)
            positives = batch.positives(d)
            log_g = partition - positives / tau - log_negatives
            alpha = self._predicted(batch, tau.detach(), positives.detach(), log_g, d)
            value = tau * (torch.exp(log_g - alpha) + alpha - 1 + self.rho)
            losses.append(filled(value, alone))
            log_u = alpha.detach()
            parts[d] = Partition(log_g, log_u, log_u, alone, tau, log_negatives)
        if isinstance(self.strength, Individual) and self.training and torch.is_grad_enabled():
            report(self.strength, batch, parts, robust_gradients(batch, parts, self.rho))
        return losses

    def _predicted(
        self, batch: Batch, tau: Tensor, positives: Tensor, log_g: Tensor, direction: Direction
    ) -> Tensor:
        """Return (n,) α of the anchors of a direction."""
        known = batch.known_as(direction)
        network = self.normalizers[known]
        assert isinstance(network, Normalizer)
        predicted: Tensor = network(self._units(batch, direction), 1 / tau)
        alpha = predicted.to(batch.dtype) - positives / tau
        if network.started:
            return alpha
        if self.training and torch.is_grad_enabled():
            other: Direction = "y2x" if direction == "x2y" else "x2y"
            batch.notes.append(partial(self._first.add, known, self._units(batch, other)))
        return log_g.detach() + (alpha - alpha.detach()) * 0.0  # its parameters get zeros

    def _units(self, batch: Batch, direction: Direction) -> Tensor:
        rows = within_range(batch.sides[direction].detach())
        return F.normalize(rows, dim=1) if self.normalize else rows


@dataclass
class NeuCLIPSpec(SizeWeighted):
    """Global contrastive loss whose partitions a network predicts (NeuCLIP)."""

    kind: ClassVar[str] = "neuclip"
    title: ClassVar[str] = "NeuCLIP"
    views: ClassVar[bool] = True

    rho: Annotated[float, Range(0.0, 1e6)] = 0.0
    """radius of the uncertainty set, which a τ learned by gradient needs; 0 for none"""
    prototypes: Annotated[int, Range(1)] = 256
    """of the network that predicts log-partitions; optim.loss_lr is its learning rate"""

    def build(self, control: ControlSpec, context: Context) -> NeuCLIP:
        return NeuCLIP(
            context.dim,
            control.build(context),
            self.rho,
            prototypes=self.prototypes,
            **self.keywords(control, context),
        )
