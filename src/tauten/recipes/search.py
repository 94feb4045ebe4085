"""A small search for the settings of the demo, on the validation split only.

Three stages for each loss: constants; MM-TS around the best constant, and the two parts of the best
one alone; then the best of each, the constant matched to that MM-TS, and the published settings
again with further seeds, which shows how large the noise is. Learned temperatures have two: six
settings for each method; the best of them again with further seeds.
"""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tauten.files import replace_text
from tauten.recipes.emoji import EPOCHS, PUBLISHED, Learned, Schedule, emoji
from tauten.spec import ControlSpec, LossSpec
from tauten.training import specs

CONSTANTS: dict[str, tuple[float, ...]] = {
    "infonce": (0.03, 0.05, 0.07, 0.1, 0.15),
    "maxmargin": (0.1, 0.2, 0.4),
}
# with a constant τ the two forces are the same; with a constant margin they are not
CONSTANT_FORCES: dict[str, tuple[str, ...]] = {
    "infonce": ("plain",),
    "maxmargin": ("plain", "equalized"),
}
# MM-TS settings to try: amplitude and spread over classes as shares of the best constant, periods
# over the training, force
CANDIDATES: tuple[tuple[float, float, float, str], ...] = (
    (1.0, 0.3, 1.0, "plain"),
    (0.3, 0.9, 1.0, "plain"),
    (1.0, 0.6, 2.5, "equalized"),
    (1.0, 0.6, 5.0, "equalized"),
    (0.6, 0.6, 1.0, "equalized"),
    (0.3, 0.3, 0.5, "equalized"),
    (0.6, 0.3, 0.5, "equalized"),
    (0.3, 0.3, 5.0, "equalized"),
)
# learned temperatures to try: ρ, learning rate, bounds, γ
LEARNED_CANDIDATES: dict[str, tuple[Learned, ...]] = {
    "isogclr": (
        Learned("isogclr", "individual", 1.0, 0.01),
        Learned("isogclr", "individual", 1.5, 0.01),
        Learned("isogclr", "individual", 2.0, 0.01),
        Learned("isogclr", "individual", 2.5, 0.01),
        Learned("isogclr", "individual", 2.0, 0.03),
        Learned("isogclr", "individual", 2.0, 0.01, gamma=0.5),
    ),
    "tempnet": (
        Learned("sogclr", "tempnet", 1.5, 0.003, (0.02, 0.2)),
        Learned("sogclr", "tempnet", 2.0, 0.003, (0.02, 0.2)),
        Learned("sogclr", "tempnet", 2.5, 0.003, (0.02, 0.2)),
        Learned("sogclr", "tempnet", 2.0, 0.01, (0.02, 0.2)),
        Learned("sogclr", "tempnet", 2.0, 0.003, (0.05, 0.15)),
        Learned("sogclr", "tempnet", 2.0, 0.003, (0.02, 0.2), gamma=0.5),
    ),
    "fastclip": (
        Learned("fastclip", "learnable", 1.5, 0.003),
        Learned("fastclip", "learnable", 2.0, 0.003),
        Learned("fastclip", "learnable", 2.5, 0.003),
        Learned("fastclip", "learnable", 2.0, 0.01),
        Learned("fastclip", "learnable", 2.0, 0.003, gamma=0.2),
        Learned("fastclip", "learnable", 2.0, 0.003, gamma=0.5),
    ),
}
Searched = Literal["infonce", "maxmargin", "isogclr", "tempnet", "fastclip"]
METRICS = ("mean_recall", "x2y/hit@1", "y2x/hit@1", "x2y/hit@1/tail")


@dataclass(frozen=True)
class Trial:
    """One training of the search.

    Attributes:
        stage: "constant", "mmts", "learned" or "confirm".
        name: tells settings apart, also the folder's name.
        control: temperature or margin.
        loss: what it drives.
        seed: of the run.
        loss_lr: learning rate of the loss's own parameters.
    """

    stage: str
    name: str
    control: ControlSpec
    loss: LossSpec
    seed: int
    loss_lr: float | None = None


#: options of the controls that are recorded
_COLUMNS = ("value", "alpha", "shift_low", "shift_high", "oscillations", "low", "high")
#: runs trials and returns their scores
Runner = Callable[[Sequence[Trial]], list[float]]


def search(
    output: Path,
    families: Sequence[Searched] = ("infonce", "maxmargin"),
    epochs: float = EPOCHS,
    candidates: int = len(CANDIDATES),
    seeds: Sequence[int] = (0, 1),
    progress: bool = True,
) -> Path:
    """Run the search; started again, it goes on where it was interrupted.

    Args:
        output: folder for trials.csv, trials.json and a run folder for each trial.
        families: losses, or ways to learn a temperature, to search for.
        epochs: of each training.
        candidates: MM-TS or learned settings tried for each, at most.
        seeds: the first for the search, all for the confirmation.
        progress: show bars.

    Returns:
        Path of ``trials.csv``.

    Raises:
        ValueError: no seed, candidates < 1, or see :func:`tauten.training.session`.
    """
    if not seeds or candidates < 1:
        raise ValueError(f"search needs seeds and candidates >= 1, got {seeds} and {candidates}")
    output = Path(output)
    rows: list[dict[str, Any]] = []

    def run(trials: Sequence[Trial]) -> list[float]:
        scores = []
        for trial in trials:
            rows.append(_run(trial, output, epochs, progress))
            _write(output, rows)
            scores.append(rows[-1]["val/mean_recall"])
        return scores

    for family in families:
        if family == "infonce" or family == "maxmargin":
            _search_schedules(family, candidates, seeds, run)
        else:
            _search_learned(family, candidates, seeds, run)
    return output / "trials.csv"


def _search_schedules(family: str, candidates: int, seeds: Sequence[int], run: Runner) -> None:
    constants = [
        _constant(family, value, force, seeds[0])
        for value in CONSTANTS[family]
        for force in CONSTANT_FORCES[family]
    ]
    constant = constants[_argmax(run(constants))]
    schedules = [
        _mmts(family, schedule, "mmts", seeds[0])
        for schedule in candidates_around(vars(constant.control)["value"], candidates)
    ]
    best = schedules[_argmax(run(schedules))]
    run([_mmts(family, part, "mmts", seeds[0]) for part in parts_of(_schedule(best))])
    run(_confirmations(constant, best, seeds))


def _search_learned(method: str, candidates: int, seeds: Sequence[int], run: Runner) -> None:
    trials = [
        _learned(method, learned, seeds[0]) for learned in LEARNED_CANDIDATES[method][:candidates]
    ]
    best = trials[_argmax(run(trials))]
    run([dataclasses.replace(best, stage="confirm", seed=seed) for seed in seeds])


def candidates_around(level: float, number: int) -> list[Schedule]:
    """Return the first ``CANDIDATES`` with this middle of the shift; none reaches 0."""
    return [
        Schedule(
            alpha=round(level * amplitude, 6),
            shift=(round(level * (1 - spread / 2), 6), round(level * (1 + spread / 2), 6)),
            oscillations=oscillations,
            force=force,
        )
        for amplitude, spread, oscillations, force in CANDIDATES[:number]
    ]


def _constant(family: str, value: float, force: str, seed: int) -> Trial:
    name = f"{family}-constant-{value:g}-{force}"
    loss = specs.loss(family, force=force)
    return Trial("constant", name, specs.control("constant", value=value), loss, seed)


def _mmts(family: str, schedule: Schedule, kind: str, seed: int) -> Trial:
    low, high = schedule.shift
    name = (
        f"{family}-{kind}-{schedule.alpha:g}-{low:g}-{high:g}-{schedule.oscillations:g}"
        f"-{schedule.force}"
    )
    return Trial("mmts", name, schedule.control(kind), schedule.loss(family), seed)


def _learned(method: str, learned: Learned, seed: int) -> Trial:
    low, high = learned.bounds
    name = f"{method}-{learned.rho:g}-{learned.rate:g}-{low:g}-{high:g}-{learned.gamma:g}"
    control, loss = learned.control(), learned.loss()
    return Trial("learned", name, control, loss, seed, learned.rate)


def parts_of(schedule: Schedule) -> list[Schedule]:
    """Return the schedule's oscillation alone, and its shift by class size alone."""
    middle = round(sum(schedule.shift) / 2, 6)
    return [
        dataclasses.replace(schedule, shift=(middle, middle)),
        dataclasses.replace(schedule, alpha=0.0),
    ]


def _schedule(trial: Trial) -> Schedule:
    options = vars(trial.control)
    shift = (options["shift_low"], options["shift_high"])
    force = vars(trial.loss)["force"]
    return Schedule(options["alpha"], shift, options["oscillations"], force)


def _confirmations(constant: Trial, best: Trial, seeds: Sequence[int]) -> list[Trial]:
    family = constant.loss.kind
    kinds = [
        constant,
        best,
        _mmts(family, _schedule(best), "matched", seeds[0]),
        _mmts(family, PUBLISHED[family], "mmts", seeds[0]),
    ]
    return [
        dataclasses.replace(kind, stage="confirm", seed=seed) for kind in kinds for seed in seeds
    ]


def _run(trial: Trial, output: Path, epochs: float, progress: bool) -> dict[str, Any]:
    config = emoji(epochs, trial.control, trial.loss, trial.loss_lr)
    config.name, config.seed = trial.name, trial.seed
    config.output = output / "trials" / f"{trial.name}-seed{trial.seed}"
    config.progress, config.tensorboard = progress, False
    config.evaluation.bootstrap = 0
    from tauten.training import train

    result = train(config)
    control, loss = dataclasses.asdict(trial.control), dataclasses.asdict(trial.loss)
    return {
        "stage": trial.stage,
        "name": trial.name,
        "family": trial.loss.kind,
        "seed": trial.seed,
        "force": loss.get("force", "plain"),
        "epochs": epochs,
        "kind": trial.control.kind,
        **{name: control.get(name) for name in _COLUMNS},
        "rho": control.get("rho", loss.get("rho")),
        "gamma": loss.get("gamma"),
        "rate": trial.loss_lr,
        **{f"val/{name}": result.val[name] for name in METRICS if name in result.val},
        "wall_s": round(result.wall_s, 1),
    }


def _argmax(scores: Sequence[float]) -> int:
    return max(range(len(scores)), key=lambda i: scores[i])


def _write(output: Path, rows: Sequence[dict[str, Any]]) -> None:
    output.mkdir(parents=True, exist_ok=True)
    replace_text(output / "trials.json", json.dumps({"summary": summary(rows), "trials": rows}))
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, fieldnames=list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    replace_text(output / "trials.csv", file.getvalue())


def summary(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return mean and standard deviation over seeds of each confirmed setting."""
    confirmed: dict[str, list[float]] = {}
    for row in rows:
        if row["stage"] == "confirm":
            confirmed.setdefault(row["name"], []).append(row["val/mean_recall"])
    return [
        {
            "name": name,
            "seeds": len(scores),
            "val/mean_recall": statistics.fmean(scores),
            "std": statistics.stdev(scores) if len(scores) > 1 else None,
        }
        for name, scores in confirmed.items()
    ]
