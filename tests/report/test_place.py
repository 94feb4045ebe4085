"""Runs that are part of a comparison."""

import json
import re

import pytest

from tauten.report import write
from tauten.report.folders import load_runs
from tauten.report.place import places

CSV = """\
metric,a,b,group,value,low,high,p,corrected_low,corrected_high,corrected_p,effect,seeds,queries,verdict
mean_recall,mmts (default),constant (default),all,0.012,0.001,0.02,0.03,-0.004,0.028,0.2,,2,96,same
mean_recall,mmts (default),constant (default),tail,-0.05,-0.08,-0.02,0,-0.09,-0.01,0,,2,9,worse
mean_recall,mmts (tuned),constant (tuned),all,0.03,0.01,0.05,0.001,0.01,0.05,0.01,,2,96,better
mean_recall,mmts (default),ts (default),all,0.5,0.4,0.6,0.001,0.4,0.6,0.001,,2,96,better
"""


@pytest.fixture
def comparison(tmp_path):
    root = tmp_path / "my comparison"
    root.mkdir()
    (root / "comparison.html").write_text("the page")
    names = {
        "mmts (default)": "mmts",
        "mmts (tuned)": "mmts-tuned",
        "constant (default)": "constant",
    }
    (root / "comparison.json").write_text(json.dumps(names))
    (root / "differences.csv").write_text(CSV)
    return root


def cell(root, tiny, control, setting, seed):
    kind = "constant" if control == "constant" else "mmts"
    place = root / "cells" / control / f"{setting}-seed{seed}" / "run"
    return tiny(place, f"{control}-{setting}", control=kind, seed=seed)


def places_of(paths, page):
    (run,) = load_runs(paths)
    return places(run, page)


def test_a_cell_names_its_row_and_its_differences(comparison, tmp_path, tiny):
    path = cell(comparison, tiny, "mmts", "default", 3)
    (place,) = places_of([path], tmp_path / "report")
    assert place.name == "mmts, default, seed 3"
    assert place.link == "../my%20comparison/comparison.html#mmts"
    assert place.said == (
        "There, over all its seeds, it differs from constant (default) in mean_recall by, in "
        "points with simultaneous 95 % intervals: all +1.2 (−0.4 to +2.8), tail −5.0 (−9.0 to "
        "−1.0)."
    )


def test_seeds_share_a_row_and_tuned_cells_have_their_own(comparison, tiny):
    paths = [cell(comparison, tiny, "mmts", "tuned-3fa1b2", seed) for seed in (0, 1)]
    (place,) = places_of(paths, comparison / "cells")
    assert place.name == "mmts, tuned, seeds 0, 1"
    assert place.link == "../comparison.html#mmts-tuned"
    assert "from constant (tuned) in mean_recall" in place.said
    assert "all +3.0 (+1.0 to +5.0)." in place.said


def test_an_earlier_comparison_has_no_file_of_rows(comparison, tiny):
    (comparison / "comparison.json").unlink()
    (place,) = places_of([cell(comparison, tiny, "mmts", "tuned-3fa1b2", 0)], comparison)
    assert place.link == "comparison.html#mmts"


def test_the_baseline_has_a_row_and_no_difference(comparison, tiny):
    (place,) = places_of([cell(comparison, tiny, "constant", "default", 0)], comparison)
    assert (place.link, place.said) == ("comparison.html#constant", "")


def test_without_differences_there_is_the_link(comparison, tiny):
    (comparison / "differences.csv").unlink()
    (place,) = places_of([cell(comparison, tiny, "mmts", "default", 0)], comparison)
    assert (place.link, place.said) == ("comparison.html#mmts", "")


def test_other_folders_have_no_place(comparison, tmp_path, tiny):
    unfinished = cell(tmp_path / "other", tiny, "mmts", "default", 0)
    elsewhere = tiny(comparison / "tuning" / "mmts" / "trial-1" / "run", "t", control="mmts")
    plain = tiny(tmp_path / "run", "r", control="mmts")
    for path in (unfinished, elsewhere, plain):
        assert places_of([path], tmp_path) == []


def test_the_page_links_to_it(comparison, tmp_path, tiny):
    runs = [cell(comparison, tiny, name, "default", 0) for name in ("constant", "mmts")]
    page = write(runs, tmp_path / "report", bootstrap=20)
    text = page.read_text("utf-8")
    links = re.findall(r'Part of a comparison: <a href="([^"#]*)#([^"]*)">([^<]*)</a>', text)
    assert [link[1:] for link in links] == [
        ("constant", "constant, default, seed 0"),
        ("mmts", "mmts, default, seed 0"),
    ]
    for path, _, _ in links:
        assert (page.parent / path.replace("%20", " ")).resolve() == comparison / "comparison.html"
    assert "tail −5.0 (−9.0 to −1.0)" in text
