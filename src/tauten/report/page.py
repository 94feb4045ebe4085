"""The page: numbers, sentences and plots put into one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tauten.outcome import ALL
from tauten.report import curves, knobs, plots, settings, words
from tauten.report.browse import browsed
from tauten.report.classes import by_class
from tauten.report.collect import collect
from tauten.report.folders import load_runs
from tauten.report.gallery import gallery
from tauten.report.markup import environment, save_page
from tauten.report.numbers import key
from tauten.report.place import places
from tauten.report.runs import Array, Run

LINEAR = "linear_lt"
TITLE = "Constant or controlled: temperature and margin compared"


def write(
    runs: Sequence[Path],
    output: Path,
    title: str | None = None,
    *,
    images: Any = None,
    notes: Sequence[str] = (),
    primary: str | None = None,
    examples: int = 2,
    bootstrap: int = 2000,
    seed: int = 0,
) -> Path:
    """Write one self-contained HTML page that compares finished runs.

    The runs are all of pairs or all of two views. All pictures are inlined and nothing is loaded
    from elsewhere. Within each family (loss) the
    runs are compared with the one of constant control, paired by test query and by seed; a
    difference whose 95 % interval contains 0 is called no measurable difference, and with one seed
    there is no verdict. A run that is part
    of a comparison links to the comparison's page.

    Args:
        runs: Run folders, or folders of seed*/ run folders. All tested on the same data.
        output: Folder for report.html, or a path that ends in .html.
        title: Heading of the page; default: that runs are compared, or which run it is of.
        images: (n, 3, H, W) uint8 test images in the order of x; default: test_images.npz of the
            first run that has one, else no examples are shown. Two views need the training images
            too, train_images.npz.
        notes: Sentences shown under the verdict, e.g. how settings were chosen.
        primary: The metric of the verdict and the plots: a hit@K, recall@K or mAP, default hit@1;
            of two views a knn@K, default the largest K.
        examples: Captions or test images per group whose retrieved images are shown.
        bootstrap: Replicates of the intervals computed here.
        seed: Seed of resampling and of the choice of examples.

    Returns:
        Path of the written page.

    Raises:
        ValueError: No run, a folder that holds no finished run, runs of pairs beside runs of two
            views, runs tested on different data, images of the wrong shape, or a primary metric
            that is not recorded.
    """
    loaded = load_runs([Path(run) for run in runs])
    path = Path(output)
    path = path if path.suffix == ".html" else path / "report.html"
    shown = _sections(loaded, _images(images, loaded), primary, examples, bootstrap, seed)
    numbers = shown["numbers"]
    page = (
        environment("tauten.report")
        .get_template("page.html.j2")
        .render(
            title=title or _title(loaded),
            notes=[
                *notes,
                *settings.missing_groups(loaded[0]),
                *numbers.notes,
                *curves.rarely_logged(numbers),
            ],
            places={run.name: places(run, path.parent) for run in loaded},
            **shown,
        )
    )
    return save_page(path, page)


def _title(loaded: Sequence[Run]) -> str:
    if len(loaded) > 1:
        return TITLE
    run = loaded[0]
    how = f"constant {run.knob}" if run.control == "constant" else run.control
    return f"{run.name}: {run.family}, {how}"


def _images(images: Any, loaded: Sequence[Run]) -> Array | None:
    """Return (n, H, W, 3) uint8 test images, or None."""
    n = len(loaded[0].first.test["test" if loaded[0].task == "views" else "x"])
    if images is not None:
        pixels: Array = np.asarray(images)
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[:2] != (n, 3):
            raise ValueError(
                f"images must be uint8 ({n}, 3, H, W), one per x, not {pixels.dtype} {pixels.shape}"
            )
        transposed: Array = pixels.transpose(0, 2, 3, 1)
        return transposed
    for run in loaded:
        for one in run.seeds:
            if one.images is None:
                continue
            pixels = one.images
            if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[::3] != (n, 3):
                raise ValueError(
                    f"{one.path / 'test_images.npz'} must hold images, uint8 ({n}, H, W, 3), not "
                    f"{pixels.dtype} {pixels.shape}"
                )
            return pixels
    return None


def _sections(
    loaded: Sequence[Run],
    pictures: Array | None,
    primary: str | None,
    examples: int,
    bootstrap: int,
    seed: int,
) -> dict[str, Any]:
    """Return what the template shows.

    Raises:
        ValueError: a primary metric that is not recorded.
    """
    numbers = collect(loaded, bootstrap, seed)
    metric = primary or numbers.main
    if metric not in numbers.fractions:
        raise ValueError(f"primary must be one of {', '.join(numbers.fractions)}, not {metric!r}")
    differing, common = settings.settings(numbers.runs)
    classes = by_class(numbers)
    knob_panels = knobs.over_time(numbers) + knobs.against_count(numbers)
    knob_panels += knobs.by_decile(numbers) + curves.force_by_group(numbers)
    bars = [metric, *(name for name in (LINEAR,) if name in numbers.metrics)]
    compared = [numbers.cells[run.name, "", ALL, name].difference for run, _ in numbers.compared()
                for name in numbers.metrics] if numbers.task == "views" else []  # fmt: skip
    data, left_out = browsed(numbers, pictures, seed)
    return {
        "numbers": numbers,
        "key": key,
        "primary": metric,
        "said": words.WORDING[numbers.task],
        "words": words,
        "verdicts": words.verdicts(numbers, metric),
        "false_alarms": words.false_alarms(numbers),
        "compared_in_part": any(gain is None for gain in compared),
        "describe": settings.describe,
        "differences": {name: plots.differences(numbers, name) for name in bars},
        "group_bars": [panel for name in bars for panel in plots.group_bars(numbers, name)]
        + plots.by_class_size(numbers, classes),
        "class_rows": classes.rows(numbers) if classes else [],
        "knob_panels": knob_panels + plots.tail(numbers.runs[0]),
        "training_panels": curves.panels_over_training(numbers, metric),
        "similarity_panels": plots.similarities(numbers),
        "geometry": settings.geometry_table(loaded),
        "queries": gallery(numbers, pictures, examples, seed),
        "browse": data,
        "browsed_in_part": left_out,
        "protocol": settings.protocol(numbers, bootstrap, seed),
        "differing": [(name, *values) for name, values in differing],
        "run_names": [run.name for run in loaded],
        "common": common,
        "versions": settings.versions(),
    }
