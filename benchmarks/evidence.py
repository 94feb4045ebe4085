"""What docs/evidence.md rests on: trains its study, writes its files, tables and figures.

    python benchmarks/evidence.py train --output runs/evidence    # what is missing
    python benchmarks/evidence.py collect --output runs/evidence  # docs/evidence/study_*.csv
    python benchmarks/evidence.py page                            # tables and figures from them
    python benchmarks/evidence.py grid --output runs/whole --name compare_emoji_end_to_end

All trainings are of the demo's towers on emoji_lt, 20 epochs, end to end. First a grid of
constants, then each rule around them, with seed 0; settings are chosen on validation for each of
two targets. Then the best constants, the rules that were better on validation than the constant for
their target, and the parts of a wide shift, with three seeds; then the other rules, and then two
seeds more. ``tauten compare --rerun FOLDER`` trains one cell again. ``grid`` copies
the tables of a ``tauten compare``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from pathlib import Path

import evidence_figures
import evidence_settings as tried
import evidence_tables
from evidence_job import Study
from evidence_settings import Setting
from evidence_write import collect, write

SEARCH_SEED = 0
SEEDS = (0, 1, 2, 3, 4)
FIRST_SEEDS = SEEDS[:3]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("step", choices=("train", "collect", "page", "grid"))
    parser.add_argument("--output", type=Path, default=Path("runs/evidence"))
    parser.add_argument("--name", help="of the tables that grid writes")
    given = parser.parse_args()
    study = Study(given.output / "emoji_lt")
    if given.step == "train":
        train(study)
    elif given.step == "collect":
        write(study, SEEDS, chosen(study))
    elif given.step == "grid":
        collect(given.output, given.name)
    else:
        evidence_tables.main()
        evidence_figures.main()


def chosen(study: Study) -> dict[tuple[str, str], Setting]:
    """Return the best setting on validation by (rule, target)."""
    done = study.finished(tried.searched(), SEARCH_SEED)
    score = {s.key: study.metrics(s, SEARCH_SEED, "val")["all"] for s in done}
    return {
        (rule, target): max((s for s in done if s.rule == rule), key=lambda s: score[s.key][place])
        for rule in dict.fromkeys(s.rule for s in done)
        for place, target in enumerate(("instances", "classes"))
    }


def train(study: Study) -> None:
    """Train the study in an order in which what is finished is always whole."""
    study.train(tried.searched(), [SEARCH_SEED])
    found = chosen(study)
    for (rule, target), setting in found.items():
        print(rule, target, setting.name, flush=True)
    first = distinct([*better(study, found), *tried.causes()])
    study.train(first, FIRST_SEEDS)
    others = distinct(found[key] for key in sorted(found, key=lambda key: key[1] != "instances"))
    for setting in others:
        study.train([setting], FIRST_SEEDS)
    study.train(distinct([*first, *others]), SEEDS)


def better(study: Study, found: Mapping[tuple[str, str], Setting]) -> list[Setting]:
    """Return the best constants, and rules that are better on validation for their target."""

    def score(setting: Setting, target: str) -> float:
        return study.metrics(setting, SEARCH_SEED, "val")["all"][target == "classes"]

    return [
        setting
        for (rule, target), setting in found.items()
        if rule == "constant" or score(setting, target) > score(found["constant", target], target)
    ]


def distinct(settings: Iterable[Setting]) -> list[Setting]:
    """Return each setting once."""
    return list({setting.key: setting for setting in settings}.values())


if __name__ == "__main__":
    main()
