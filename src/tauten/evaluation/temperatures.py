"""Temperatures of the training samples, by group and by tenth of the class count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from tauten.evaluation.checks import integers
from tauten.evaluation.classification import THIRDS, thirds
from tauten.evaluation.correlation import spearman
from tauten.pairwise.exchange import gather_objects

#: samples that are read where a training of millions is watched
MOST = 65_536


def count_deciles(counts: Tensor) -> Tensor:
    """Return the tenth of the samples, sorted by class count, that each sample is in.

    All samples of one count are in one decile, that of the middle of their places: where they have
    the places a to b of N, counted from 0, it is ⌊10 · ((a + b) / 2 + ½) / N⌋. A decile in which
    no middle falls has no samples.

    Args:
        counts: (N,) long, training count of each sample's class.

    Returns:
        (N,) long, 0 (the rarest) to 9.
    """
    _, which, sizes = counts.unique(return_inverse=True, return_counts=True)
    twice_middle = 2 * sizes.cumsum(0) - sizes
    decile: Tensor = (10 * twice_middle // (2 * len(counts)))[which]
    return decile


class TauProbe:
    """Temperature or margin of the training samples, by count group and by decile of the count.

    Values that exist for a batch only (``strength.needs_batch``) are those of the last batch, of
    all processes.

    Args:
        loss_fn: the contrastive loss whose values are read.
        groups: "head", "mid" or "tail" of each training sample; None where there are no classes.
        counts: (N_train,) long, training count of each sample's class; None likewise.
        size: number of training samples; None where it is unknown, and the last batch is read.
    """

    def __init__(
        self,
        loss_fn: Any,
        groups: Sequence[str] | None,
        counts: Tensor | None,
        size: int | None,
    ) -> None:
        self.loss_fn = loss_fn
        self.of_batch = size is None or loss_fn.strength.needs_batch
        self.index = torch.arange(size or 0)
        self.counts = counts
        self.groups: dict[str, Tensor] = {}
        self.deciles: dict[str, Tensor] = {}
        if groups is not None:
            self.groups = {
                name: torch.tensor([group == name for group in groups]) for name in THIRDS
            }
        if counts is not None:
            decile = count_deciles(counts)
            self.deciles = {f"decile/{k}": decile == k for k in range(10)}

    @classmethod
    def of_labels(cls, loss_fn: Any, labels: Any = None) -> TauProbe:
        """Return a probe for samples of these classes, whose groups are thirds of the classes.

        Of more than 65,536 samples as many are read, evenly spaced.

        Args:
            loss_fn: the contrastive loss whose values are read.
            labels: (N,) the class of each training sample; None watches the last batch alone.

        Raises:
            ValueError: labels that are no vector of integers.
        """
        if labels is None:
            return cls(loss_fn, None, None, None)
        of = integers(labels, "labels")
        if of.ndim != 1 or not len(of):
            raise ValueError(
                f"labels must be (N,), the class of each sample, got {tuple(of.shape)}"
            )
        _, place, sizes = of.unique(return_inverse=True, return_counts=True)
        names = thirds(sizes) if len(sizes) >= len(THIRDS) else None
        groups = None if names is None else [names[c] for c in place.tolist()]
        probe = cls(loss_fn, groups, sizes[place], len(of))
        if len(of) > MOST:
            probe.index = torch.linspace(0, len(of) - 1, MOST, dtype=torch.float64).long()
        return probe

    def values(self) -> Tensor:
        """Return the values of the samples now; (0,) where those of a batch are read."""
        if self.of_batch:
            return torch.zeros(0)
        tau = self.loss_fn.tau(self.index)
        assert isinstance(tau, Tensor)
        return tau.detach().float().cpu()

    def summary(self) -> dict[str, float]:
        """Return the entries of a line of history, by key.

        Mean, min and max over all; mean, low and high of each group; the mean of each decile (see
        :func:`count_deciles`); Spearman's rank correlation with the count. Groups and deciles
        without a sample are left out, and so is a correlation with what is the same for all.
        Before the first batch there is nothing to tell of one.
        """
        if self.of_batch and self.loss_fn.last_tau is None:
            return {}
        index, tau = self._now()
        line = {
            "tau/mean": float(tau.double().mean()),
            "tau/min": float(tau.min()),
            "tau/max": float(tau.max()),
        }
        for name, members in self.groups.items():
            part = tau[members[index]]
            if len(part):
                line |= {
                    f"tau/{name}": float(part.double().mean()),
                    f"tau/{name}/low": float(part.min()),
                    f"tau/{name}/high": float(part.max()),
                }
        for name, members in self.deciles.items():
            part = tau[members[index]]
            if len(part):
                line[f"tau/{name}"] = float(part.double().mean())
        if self.counts is not None:
            counts = self.counts[index]
            if len(tau) > 2 and tau.min() < tau.max() and counts.min() < counts.max():
                rank = spearman(tau, counts, clusters=counts, bootstrap=0)
                line["tau/spearman"] = rank.value
        return line

    def _now(self) -> tuple[Tensor, Tensor]:
        """Return (n,) the samples whose values are known, and (n,) their values."""
        if not self.of_batch:
            return self.index, self.values()
        assert self.loss_fn.last_tau is not None
        ids, tau = self.loss_fn.last_tau
        parts = gather_objects((ids.cpu(), tau.detach().float().cpu()))
        return torch.cat([ids for ids, _ in parts]), torch.cat([tau for _, tau in parts])
