"""What docs/evidence.md rests on: trains its study, writes its files, tables and figures.

    python benchmarks/evidence.py train --output runs/evidence    # what is missing
    python benchmarks/evidence.py collect --output runs/evidence  # docs/evidence/*.csv
    python benchmarks/evidence.py synthetic                       # the pairs whose truth is known
    python benchmarks/evidence.py page                            # tables and figures from them
    python benchmarks/evidence.py grid --output runs/whole --name compare_emoji_end_to_end

All trainings are of the demo's towers, end to end, 20 epochs on emoji_lt and as many steps, 14
epochs, on the icons that ``tauten data icons`` draws. First a grid of constants and of each rule
with seed 0; settings are chosen on validation for each of three targets: pairs, classes, and the
sum of both. Then the chosen ones and the parts of a wide shift with up to five seeds. ``tauten
compare --rerun FOLDER`` trains one cell again. ``grid`` copies the tables of a ``tauten compare``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import evidence_figures
import evidence_settings as tried
import evidence_synthetic
import evidence_tables
from evidence_job import Study
from evidence_settings import Setting
from evidence_write import TARGETS, collect, write

SEARCH_SEED = 0
SEEDS = (0, 1, 2, 3, 4)
FIRST_SEEDS = SEEDS[:3]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("step", choices=("train", "collect", "synthetic", "page", "grid"))
    parser.add_argument("--output", type=Path, default=Path("runs/evidence"))
    parser.add_argument("--icons", default="runs/icons", help="what tauten data icons wrote")
    parser.add_argument("--name", help="of the tables that grid writes")
    given = parser.parse_args()
    emoji = Study(given.output / "emoji_lt")
    icons = Study(given.output / "icons", (given.icons, "label"), epochs=14.0)
    if given.step == "train":
        train(emoji, icons)
    elif given.step == "collect":
        for study, name, settings in (
            (emoji, "study", tried.searched()),
            (icons, "icons", tried.searched_coarsely()),
        ):
            found = chosen(study, settings)
            if found:
                write(study, name, settings, SEEDS, found)
    elif given.step == "synthetic":
        evidence_synthetic.main()
    elif given.step == "grid":
        collect(given.output, given.name)
    else:
        evidence_tables.main()
        evidence_figures.main()


def train(emoji: Study, icons: Study) -> None:
    """Train in an order in which what is finished is always whole."""
    robust = {s.key for s in (*tried.predicted(), *tried.global_ones())}
    first = [s for s in tried.searched() if s.key not in robust]
    whole(emoji, first, FIRST_SEEDS)
    shifts = ("constant", "MM-TS", "MM-TS reversed")
    core = [s for (rule, _), s in chosen(emoji, first).items() if rule in shifts]
    emoji.train(distinct([*core, *tried.causes()]), SEEDS)
    whole(icons, tried.searched_coarsely(), FIRST_SEEDS, tried.causes()[:-2])
    whole(emoji, tried.searched(), SEEDS)
    whole(icons, tried.searched_coarsely(), SEEDS)


def whole(
    study: Study,
    settings: Sequence[Setting],
    seeds: Sequence[int],
    parts: Sequence[Setting] | None = None,
) -> None:
    """Train settings with the first seed, then the best of each rule, and the parts of a shift."""
    study.train(settings, [SEARCH_SEED])
    found = chosen(study, settings)
    for (rule, target), setting in found.items():
        print(rule, target, setting.name, flush=True)
    study.train(distinct(found.values()), seeds)
    study.train(tried.causes() if parts is None else parts, seeds)


def chosen(study: Study, settings: Sequence[Setting]) -> dict[tuple[str, str], Setting]:
    """Return the best of these settings on validation by (rule, target)."""
    done = study.finished(settings, SEARCH_SEED)
    found = {s.key: study.metrics(s, SEARCH_SEED, "val")["all"] for s in done}

    def score(setting: Setting, target: str) -> float:
        recall, class_map = found[setting.key]
        return {"instances": recall, "classes": class_map, "both": recall + class_map}[target]

    return {
        (rule, target): max((s for s in done if s.rule == rule), key=lambda s: score(s, target))
        for rule in dict.fromkeys(s.rule for s in done)
        for target in TARGETS
    }


def distinct(settings: Iterable[Setting]) -> list[Setting]:
    """Return each setting once."""
    return list({setting.key: setting for setting in settings}.values())


if __name__ == "__main__":
    main()
