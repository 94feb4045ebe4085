"""How often `compare` calls a difference that is not there, and how often it finds one that is.

    python benchmarks/null.py                                           # 20 minutes
    python benchmarks/null.py --parts error power --kinds 1 --better 1  # 2 minutes
    python benchmarks/null.py --quick                                   # a minute, rough

Made scores stand for trained runs: score of query q in run r of a control = hardness(q) +
taste(control, q) + N(0, sd_seed) of the run + N(0, sd_query) of run and query, in head, mid and
tail (60, 25 and 15 %). "ratio" is sd_seed over sd_query/√N, that of the spread over seeds to that
over queries; "taste" adds what other test queries would change. Nothing differs in truth.

* family-wise error: the share of simulations in which *any* of K comparisons × 4 groups gets a
  verdict; 5 % is promised. A run's luck is one number ("shared") or one for each group ("own");
  "uneven": one control spreads three times as much over seeds as the others.
* power: one control is better by 1, 2 or 4 standard deviations of a run, that is of the score over
  all queries of one control between trainings, √(sd_seed² + sd_query²/N); share of simulations in
  which its difference over all queries gets a verdict.
* coverage: how often the 95 % intervals of `bootstrap_mean` and `retrieval` hold the truth.

Error and power are printed for 2, 3, 5 and 10 seeds and ratios of 0.5 to 12, the error for six
kinds of made scores, of which `--kinds` takes the first so many.
"""

from __future__ import annotations

import argparse
import itertools
import math
import time
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tauten.comparison.contrasts import Contrast, contrasts
from tauten.evaluation import bootstrap_mean
from tauten.evaluation.bootstrap import percentile_interval, resample
from tauten.evaluation.intervals import share_interval
from tauten.outcome import Outcome, Queries

SHARES = {"head": 0.6, "mid": 0.25, "tail": 0.15}
RATIOS = (0.5, 1.0, 2.0, 4.0, 12.0)
SEEDS = (2, 3, 5, 10)
#: options of an experiment without a difference, by what is printed; the usual one first
KINDS: dict[str, dict[str, Any]] = {
    f"N={queries} K={k} {luck}": {"queries": queries, "comparisons": k, "luck": luck}
    for queries, k, luck in (
        (300, 3, "own"), (300, 1, "shared"), (300, 5, "own"), (900, 5, "shared"),
    )
} | {
    "N=300 K=3 own uneven": {"luck": "own", "uneven": True},
    "N=300 K=3 own taste": {"luck": "own", "taste": 1.0},
}  # fmt: skip
PARTS = ("error", "power", "coverage")


def _made(score_N: Tensor, groups: list[str]) -> Outcome:
    """Return scores as given, in the place of a metric of pairs."""
    sides = {"x2y": Queries(groups, [""] * len(groups))}
    return Outcome("pairs", sides, whole={"hit@1": score_N})


def experiment(
    rng: np.random.Generator,
    *,
    seeds: int,
    ratio: float,
    queries: int = 300,
    comparisons: int = 3,
    luck: str = "shared",
    uneven: bool = False,
    taste: float = 0.0,
    better: float = 0.0,
    replicates: int = 400,
) -> list[Contrast]:
    """Compare one control after another with a baseline in made scores, see above."""
    groups = [name for name, share in SHARES.items() for _ in range(round(share * queries))]
    group_of = np.array([list(SHARES).index(name) for name in groups])
    hardness = rng.normal(size=queries)
    sd_seed = ratio / math.sqrt(queries)
    variants = {}
    for control in range(comparisons + 1):
        lift = better * math.sqrt(sd_seed**2 + 1 / queries) if control == 1 else 0.0
        own = hardness + taste * rng.normal(size=queries) + lift
        wide = 3.0 if uneven and control == comparisons else 1.0
        variants[f"c{control}"] = {
            seed: _made(
                torch.from_numpy(
                    own
                    + wide
                    * sd_seed
                    * rng.normal(size=1 if luck == "shared" else 3)[
                        0 if luck == "shared" else group_of
                    ]
                    + rng.normal(size=queries)
                ),
                groups,
            )
            for seed in range(seeds)
        }
    pairs = [(f"c{control}", "c0") for control in range(1, comparisons + 1)]
    return contrasts(variants, pairs, "hit@1", replicates, seed=int(rng.integers(2**31)))


def differs(contrast: Contrast) -> bool:
    """Whether it has got a verdict."""
    return contrast.verdict in ("better", "worse")


def family_wise_error(simulations: int, seed: int = 0, **options: Any) -> float:
    """Share of simulations with any verdict."""
    rng = np.random.default_rng(seed)
    return float(
        np.mean([any(map(differs, experiment(rng, **options))) for _ in range(simulations)])
    )


def power(simulations: int, seed: int = 0, **options: Any) -> float:
    """Share of simulations in which the better control is called better over all queries."""
    rng = np.random.default_rng(seed)
    found = [experiment(rng, **options)[0] for _ in range(simulations)]
    return float(np.mean([one.verdict == "better" for one in found]))


def mean_coverage(simulations: int, seeds: int, ratio: float, queries: int = 300) -> float:
    """Coverage of `bootstrap_mean` over seeds and queries; both vary."""
    rng, inside = np.random.default_rng(1), 0
    for number in range(simulations):
        scores = rng.normal(size=(1, queries)) + rng.normal(size=(seeds, queries))
        scores += ratio * math.sqrt(2 / queries) * rng.normal(size=(seeds, 1))
        found = bootstrap_mean(scores, bootstrap=400, seed=number)
        inside += found.low <= 0 <= found.high
    return inside / simulations


def share_coverage(
    simulations: int, p: float, queries: int, captions: int = 1, same: float = 0.0
) -> tuple[float, float, float]:
    """Coverage of hit@K with `captions` of each image that go together with probability `same`:
    Wilson's interval, the percentile bootstrap of whole images, and that of captions alone."""
    generator = torch.Generator().manual_seed(2)
    images = queries // captions
    owner = torch.arange(images).repeat_interleave(captions)
    inside = [0, 0, 0]
    for _ in range(simulations):
        image = (torch.rand(images, generator=generator) < p)[owner]
        each = torch.rand(len(owner), generator=generator) < p
        together = torch.rand(len(owner), generator=generator) < math.sqrt(same)
        hit = torch.where(together, image, each).double()[:, None]
        drawn = [weight[:, owner] @ hit / len(owner) for weight in resample(images, 400, generator)]
        alone = [weight @ hit / len(owner) for weight in resample(len(owner), 400, generator)]
        intervals = [
            share_interval(hit, owner),
            percentile_interval(torch.cat(drawn)),
            percentile_interval(torch.cat(alone)),
        ]
        for place, (low, high) in enumerate(intervals):
            inside[place] += bool(low <= p <= high)
    a, b, c = (count / simulations for count in inside)
    return a, b, c


def row(name: str, values: list[float]) -> None:
    """Print percentages."""
    print(f"{name:34s}" + "".join(f"{100 * value:8.1f}" for value in values), flush=True)


def print_errors(kinds: int, simulations: int, replicates: int) -> None:
    """Print the family-wise error of the first kinds of made scores, by seeds and ratio."""
    print(f"family-wise error in %, {simulations} simulations each, by ratio")
    print(f"{'':34s}" + "".join(f"{ratio:8g}" for ratio in RATIOS))
    worst = 0.0
    for (name, kind), seeds in itertools.product(list(KINDS.items())[:kinds], SEEDS):
        options = {"seeds": seeds, "replicates": replicates, **kind}
        errors = [family_wise_error(simulations, ratio=ratio, **options) for ratio in RATIOS]
        worst = max(worst, *errors)
        row(f"{name}, {seeds} seeds", errors)
    error = math.sqrt(0.05 * 0.95 / simulations)
    print(f"largest {100 * worst:.1f} %; one number is known to ± {100 * error:.1f} (1 sd)")


def print_power(better: list[float], simulations: int, replicates: int) -> None:
    """Print the power at differences of so many standard deviations, by seeds and ratio."""
    shown = ", ".join(f"{each:g}" for each in better)
    print(f"\npower in %, K=3, N=300, {simulations} simulations, difference of {shown} sd of a run")
    print(f"{'':34s}" + "".join(f"{ratio:8g}" for ratio in RATIOS))
    for seeds, lift in itertools.product(SEEDS, better):
        options = {"seeds": seeds, "better": lift, "replicates": replicates}
        row(f"{seeds} seeds, {lift:g} sd", [power(simulations, ratio=r, **options) for r in RATIOS])


def print_coverage(simulations: int) -> None:
    """Print how often intervals hold the truth."""
    print(f"\ncoverage in % of bootstrap_mean, {simulations} simulations, by ratio")
    for seeds in (1, *SEEDS):
        ratios = (0.0,) if seeds == 1 else RATIOS
        row(f"{seeds} seeds", [mean_coverage(simulations, seeds, ratio) for ratio in ratios])
    print(
        f"\ncoverage in % of hit@K, {simulations} simulations: Wilson, percentile, captions alone"
    )
    for p, queries in itertools.product((0.02, 0.3), (10, 30, 100, 300)):
        row(f"p={p}, {queries} queries", list(share_coverage(simulations, p, queries)[:2]))
    for same in (0.0, 0.2, 0.5, 0.8):
        shares = share_coverage(simulations, 0.3, 500, 5, same)
        row(f"p=0.3, 500 captions of 100, r={same}", list(shares))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="a tenth of the simulations")
    parser.add_argument("--simulations", type=int, default=200, help="for each number (200)")
    parser.add_argument("--replicates", type=int, default=400, help="of the bootstrap (400)")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS, help="what to print")
    parser.add_argument(
        "--kinds", type=int, choices=range(1, len(KINDS) + 1), default=len(KINDS),
        help="kinds of made scores for the error, the first so many (all)",
    )  # fmt: skip
    parser.add_argument(
        "--better", nargs="+", type=float, default=[1.0, 2.0, 4.0],
        help="differences for the power, in standard deviations of a run (1 2 4)",
    )  # fmt: skip
    options = parser.parse_args()
    torch.set_num_threads(1)
    n = max(1, options.simulations // (10 if options.quick else 1))
    start = time.perf_counter()
    if "error" in options.parts:
        print_errors(options.kinds, n, options.replicates)
    if "power" in options.parts:
        print_power(options.better, n, options.replicates)
    if "coverage" in options.parts:
        print_coverage(5 * n)
    print(f"\n{time.perf_counter() - start:.0f} s")


if __name__ == "__main__":
    main()
