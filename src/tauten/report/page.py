"""The page: numbers, sentences and plots put into one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tauten.report import curves, knobs, plots, settings, view_page, words
from tauten.report.folders import load_runs
from tauten.report.gallery import gallery
from tauten.report.markup import environment, save_page
from tauten.report.numbers import Numbers, collect
from tauten.report.place import places
from tauten.report.runs import Array, Run

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
    pictures = _images(images, loaded)
    title = title or _title(loaded)
    notes = [*notes, *settings.missing_groups(loaded[0])]
    path = Path(output)
    path = path if path.suffix == ".html" else path / "report.html"
    parts = view_page.parts if loaded[0].task == "views" else _parts
    template, numbers, metric, own = parts(loaded, pictures, primary, examples, bootstrap, seed)
    own["places"] = {run.name: places(run, path.parent) for run in loaded}
    page = _render(template, title, numbers, notes, metric, own)
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


def _parts(
    loaded: Sequence[Run],
    pictures: Array | None,
    primary: str | None,
    examples: int,
    bootstrap: int,
    seed: int,
) -> tuple[str, Numbers, str, dict[str, Any]]:
    """Return the parts peculiar to a page on pairs: template, numbers, metric, variables."""
    numbers, metric = collect(loaded, bootstrap, seed), primary or "hit@1"
    fractions = [name for name in numbers.metrics if not name.endswith("rank")]
    if metric not in fractions:
        raise ValueError(f"primary must be one of {', '.join(fractions)}, not {metric!r}")
    own = {
        "differences": {metric: plots.differences(numbers, metric)},
        "group_bars": plots.group_bars(numbers, metric),
        "similarity_panels": plots.similarities(numbers, plots.cosines),
        "geometry": settings.geometry_table(loaded),
        "queries": [] if pictures is None else gallery(numbers, pictures, examples, seed),
        "pictures": "test",
        "protocol": settings.protocol(numbers, bootstrap, seed),
    }
    return "page.html.j2", numbers, metric, own


def _render(
    template: str,
    title: str,
    numbers: Numbers,
    notes: Sequence[str],
    primary: str,
    own: dict[str, Any],
) -> str:
    differing, common = settings.settings(numbers.runs)
    class_tail = plots.tail(numbers.runs[0])
    knob_panels = knobs.over_time(numbers) + knobs.against_count(numbers)
    knob_panels += knobs.by_decile(numbers) + curves.force_by_group(numbers)
    return (
        environment("tauten.report")
        .get_template(template)
        .render(
            title=title,
            numbers=numbers,
            notes=[*notes, *numbers.notes, *curves.rarely_logged(numbers)],
            primary=primary,
            words=words,
            verdicts=words.verdicts(numbers, primary),
            false_alarms=words.false_alarms(numbers),
            describe=settings.describe,
            knob_panels=knob_panels + ([class_tail] if class_tail else []),
            training_panels=curves.panels_over_training(numbers, primary),
            differing=differing,
            common=common,
            versions=settings.versions(),
            **own,
        )
    )
