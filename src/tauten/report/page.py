"""The page: numbers, sentences and plots put into one HTML file that needs nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined

from tauten.report import curves, plots, settings, words
from tauten.report.folders import load_runs
from tauten.report.gallery import Query, gallery
from tauten.report.numbers import DIRECTIONS, Numbers, collect
from tauten.report.runs import Array, Run

TITLE = "Constant or controlled: temperature and margin compared"


def write(
    runs: Sequence[Path],
    output: Path,
    title: str = TITLE,
    *,
    images: Any = None,
    notes: Sequence[str] = (),
    primary: str = "hit@1",
    examples: int = 2,
    bootstrap: int = 2000,
    seed: int = 0,
) -> Path:
    """Write one self-contained HTML page that compares finished runs.

    All pictures are inlined and nothing is loaded from elsewhere. Within each family (loss) the
    runs are compared with the one of constant control, paired by test query and by seed; a
    difference whose 95 % interval contains 0 is called no measurable difference.

    Args:
        runs: Run folders, or folders of seed*/ run folders. All tested on the same pairs.
        output: Folder for report.html, or a path that ends in .html.
        title: Heading of the page.
        images: (n, 3, H, W) uint8 test images in the order of x; default: test_images.npz of the
            first run that has one, else no examples are shown.
        notes: Sentences shown under the verdict, e.g. how settings were chosen.
        primary: The metric of the verdict and the plots: a hit@K, recall@K or mAP.
        examples: Captions per group whose retrieved images are shown.
        bootstrap: Replicates of the intervals computed here.
        seed: Seed of resampling and of the choice of examples.

    Returns:
        Path of the written page.

    Raises:
        ValueError: No run, a folder that holds no finished run, runs tested on different pairs,
            images of the wrong shape, or a primary metric that is not recorded.
    """
    loaded = load_runs([Path(run) for run in runs])
    pictures = _images(images, loaded)
    numbers = collect(loaded, bootstrap, seed)
    fractions = [name for name in numbers.metrics if not name.endswith("rank")]
    if primary not in fractions:
        raise ValueError(f"primary must be one of {', '.join(fractions)}, not {primary!r}")
    queries = [] if pictures is None else gallery(numbers, pictures, examples, seed)
    page = _render(title, numbers, notes, primary, queries, bootstrap, seed)
    path = Path(output)
    path = path if path.suffix == ".html" else path / "report.html"
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".part")
    draft.write_text(page, "utf-8")
    return draft.replace(path)


def _images(images: Any, loaded: Sequence[Run]) -> Array | None:
    """(n, H, W, 3) uint8 test images, or None."""
    n = len(loaded[0].first.test["x"])
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


def _render(
    title: str,
    numbers: Numbers,
    notes: Sequence[str],
    primary: str,
    queries: list[Query],
    bootstrap: int,
    seed: int,
) -> str:
    environment = Environment(
        loader=PackageLoader("tauten.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    differing, common = settings.settings(numbers.runs)
    class_tail = plots.tail(numbers.runs[0])
    knob_panels = curves.over_time(numbers) + curves.against_count(numbers)
    knob_panels += curves.by_decile(numbers) + curves.force_by_group(numbers)
    return environment.get_template("page.html.j2").render(
        title=title,
        numbers=numbers,
        notes=[*notes, *numbers.notes],
        directions=DIRECTIONS,
        primary=primary,
        words=words,
        verdicts=words.verdicts(numbers, primary),
        false_alarms=words.false_alarms(numbers),
        describe=settings.describe,
        differences=plots.differences(numbers, primary),
        group_bars=plots.group_bars(numbers, primary),
        knob_panels=knob_panels + ([class_tail] if class_tail else []),
        training_panels=curves.panels_over_training(numbers, primary),
        similarity_panels=plots.similarities(numbers),
        geometry=settings.geometry_table(numbers.runs),
        queries=queries,
        protocol=settings.protocol(numbers, bootstrap, seed),
        differing=differing,
        common=common,
        versions=settings.versions(),
    )
