"""Errors of differences between trainings with few seeds: their size, and how large they get.

The variance over seeds of one difference is known with S − 1 degrees of freedom, so that with 2 or
3 seeds and many comparisons nothing could ever be shown. Controls trained alike spread much alike:
a difference is therefore taken to vary as much as its own seeds say, and at least as much as those
of the median comparison say. The largest |T| that chance alone gives is simulated with exactly this
rule: independent normal runs, of which each control has a spread of its own between a third and
three times the typical one, independent in every group (dependence makes the largest |T| smaller).

Shape suffixes: P pairs of controls, V controls, S seeds, R simulations.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

SIMULATIONS = 5000
#: largest factor between a control's spread over seeds and the typical one
UNEVEN = 3.0

#: of each pair the numbers of both controls and the seeds that they have in common
Plan = tuple[tuple[int, int, tuple[int, ...]], ...]


def seed_variance(difference_PS: Sequence[Tensor]) -> Tensor:
    """Return (P,) variances of the mean differences due to seeds, NaN for one seed.

    Args:
        difference_PS: for each pair the differences (..., S) of its seeds.
    """
    own_P = torch.stack([d.var(dim=-1) if d.shape[-1] > 1 else d[..., 0] * torch.nan
                         for d in difference_PS], dim=-1)  # fmt: skip
    seeds_P = own_P.new_tensor([d.shape[-1] for d in difference_PS])
    typical = own_P.nanquantile(0.5, dim=-1, keepdim=True)
    return torch.maximum(own_P, typical) / seeds_P


@lru_cache(maxsize=32)
def simulated(plan: Plan, groups: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Return what |T| over seeds is where there is no difference, ascending.

    Args:
        plan: the pairs that are compared, each with 2 or more seeds.
        groups: number of groups in which each pair is compared.
        seed: seed of the simulation.

    Returns:
        (R, P) of each pair by itself, and (R,) the largest over all pairs and groups.
    """
    generator = torch.Generator().manual_seed(seed)
    controls = 1 + max(max(a, b) for a, b, _ in plan)
    seeds = sorted({number for _, _, common in plan for number in common})
    columns = [torch.tensor([seeds.index(number) for number in common]) for *_, common in plan]
    log_RV = torch.rand(SIMULATIONS, controls, 1, generator=generator, dtype=torch.float64) * 2 - 1
    spread_RV = torch.exp(log_RV * math.log(UNEVEN))
    own_RP, most_R = torch.empty(0), torch.zeros(SIMULATIONS, dtype=torch.float64)
    for group in range(groups):
        size = (SIMULATIONS, controls, len(seeds))
        run_RVS = spread_RV * torch.randn(size, generator=generator, dtype=torch.float64)
        difference_PRS = [
            run_RVS[:, a, column] - run_RVS[:, b, column]
            for (a, b, _), column in zip(plan, columns, strict=True)
        ]
        mean_RP = torch.stack([d.mean(dim=1) for d in difference_PRS], dim=1)
        t_RP = mean_RP.abs() / seed_variance(difference_PRS).sqrt()
        most_R = torch.maximum(most_R, t_RP.amax(dim=1))
        if group == 0:
            own_RP = t_RP.sort(dim=0).values
    return own_RP, most_R.sort().values
