"""What docs/evidence.md rests on: trains its studies, writes their files, tables and figures.

    python benchmarks/evidence.py train --output runs/evidence    # what is missing
    python benchmarks/evidence.py collect --output runs/evidence  # docs/evidence/*.csv
    python benchmarks/evidence.py synthetic                       # the pairs whose truth is known
    python benchmarks/evidence.py page                            # tables and figures from them
    python benchmarks/evidence.py grid --output runs/whole --name compare_emoji_end_to_end

A study is a data set, a recipe's towers, a length, and what is tried. First a grid of constants and
of each rule with one seed; settings are chosen on validation for each target: pairs, classes, and
the sum of both, or classes alone where two views of one picture are compared. Then the chosen ones
and the parts of a wide shift with more seeds. ``--only`` names studies: study (emoji_lt), icons
(which ``tauten data icons`` draws), clips (emoji_video), views (caltech98_lt). ``tauten compare
--rerun FOLDER`` trains one cell again. ``grid`` copies the tables of a ``tauten compare``.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path

import evidence_figures
import evidence_settings as tried
import evidence_synthetic
import evidence_tables
from evidence_job import OF_VIEWS, VIEWS, Study
from evidence_settings import Setting
from evidence_write import collect, write


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("step", choices=("train", "collect", "synthetic", "page", "grid"))
    parser.add_argument("--output", type=Path, default=Path("runs/evidence"))
    parser.add_argument("--icons", default="runs/icons", help="what tauten data icons wrote")
    parser.add_argument("--data", default="data", help="folder of emoji_video and caltech98_lt")
    parser.add_argument("--only", nargs="*", help="of these studies")
    parser.add_argument("--name", help="of the tables that grid writes")
    given = parser.parse_args()
    found = {study.name: study for study in studies(given.output, given.icons, given.data)}
    kept = [found[name] for name in given.only or found]
    if given.step == "train":
        for study in kept:
            train(study)
    elif given.step == "collect":
        for study in kept:
            if study.chosen():
                write(study)
            took = study.seconds()
            print(f"{study.name}: {len(took)} trainings, {sum(took) / 3600:.2f} hours")
    elif given.step == "synthetic":
        evidence_synthetic.main()
    elif given.step == "grid":
        collect(given.output, given.name)
    else:
        evidence_tables.main()
        evidence_figures.main()


def studies(output: Path, icons: str, data: str) -> list[Study]:
    """Return the studies: what they train, on what, for how long."""
    causes = tried.causes()
    return [
        Study("study", output / "emoji_lt", tried.searched(), causes),
        Study(
            "icons",
            output / "icons",
            tried.searched_on_icons(),
            causes,
            data=(icons, "label"),
            epochs=14.0,
        ),
        Study(
            "clips",
            output / "emoji_video",
            tried.searched_on_clips(),
            causes,
            data=(f"emoji_video:{data}", "label"),
            recipe="emoji_video_margin_mmts",
            seeds=(0, 1, 2),
        ),
        Study(
            "views",
            output / "caltech98_lt",
            tried.searched_on_views(),
            causes,
            data=(f"caltech98_lt:{data}", "label"),
            recipe="caltech98_lt_simclr",
            epochs=10.0,
            metrics=VIEWS,
            targets=OF_VIEWS,
        ),
    ]


def train(study: Study) -> None:
    """Train settings with the first seed, then the best of each rule, and the parts of a shift.

    Beside the best constants those between them are trained, as what is good for both must be
    better than these.

    What is finished is always whole: three seeds of all come before the fourth of any.
    """
    study.train(study.tried, study.seeds[:1])
    found = study.chosen()
    for (rule, target), setting in found.items():
        print(study.name, rule, target, setting.name, flush=True)
    kept = distinct([*found.values(), *study.between()])
    for seeds in (study.seeds[:3], study.seeds):
        study.train(kept, seeds)
        study.train(study.causes, seeds)


def distinct(settings: Iterable[Setting]) -> list[Setting]:
    """Return each setting once."""
    return list({setting.key: setting for setting in settings}.values())


if __name__ == "__main__":
    main()
