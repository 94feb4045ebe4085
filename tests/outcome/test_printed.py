"""The main metrics of an evaluation as a table of plain text."""

import pytest

from tauten.outcome.printed import everything, number, table

PAIRS = {
    f"{way}/{name}{group}": value
    for way in ("x2y", "y2x")
    for name, value in {"hit@1": 0.25, "hit@10": 1.0, "recall@1": 0.125, "n": 8.0}.items()
    for group in ("", "/tail", "/head")
}
PAIRS |= {"x2y/hit@1/low": 0.0712, "x2y/hit@1/high": 0.591, "mean_recall": 0.625}


def cells(text, name):
    """Cells of a row by column, where no cell but the second has spaces that stand alone."""
    lines = text.splitlines()
    start = {word: lines[0].index(word) for word in lines[0].split("  ") if word.strip()}
    row = next(line for line in lines if line.split("  ")[0].strip() == name)
    ends = [*sorted(start.values())[1:], len(row)]
    named = sorted(start, key=start.get)
    return {
        word.strip(): row[start[word] : end].strip() for word, end in zip(named, ends, strict=True)
    }


def test_pairs_have_hits_both_ways_with_interval_and_groups_from_head_to_tail():
    text = table(PAIRS)
    assert text.splitlines()[0].split() == ["percent", "all", "head", "tail"]
    row = cells(text, "x2y/hit@1")
    assert row == {
        "percent": "x2y/hit@1",
        "all": "25.0 [7.1, 59.1]",
        "head": "25.0",
        "tail": "25.0",
    }
    assert cells(text, "y2x/n") == {"percent": "y2x/n", "all": "8", "head": "8", "tail": "8"}
    assert cells(text, "mean_recall")["head"] == "–"
    assert "recall@1" not in text


def test_graded_pairs_have_ndcg_and_map():
    graded = {f"multi_instance/{m}/x2y": 0.5 for m in ("nDCG", "mAP_official", "mAP_textbook")}
    text = table(PAIRS | graded)
    assert cells(text, "multi_instance/nDCG/x2y")["all"] == "50.0"
    assert "mAP_official" in text
    assert "mAP_textbook" not in text


def test_two_views_have_accuracies_over_images_and_over_classes():
    views = {"knn@1": 0.75, "knn@1/class_mean": 0.5, "knn@1/class_mean/tail": 0.0, "knn@1/n": 4.0}
    text = table(views)
    row = {"percent": "knn@1", "all": "75.0", "class mean": "50.0", "tail": "0.0"}
    assert cells(text, "knn@1") == row
    assert "knn@1/n" not in text


def test_other_metrics_have_no_table():
    assert table({}) == table({"loss": 1.0}) == ""


def test_everything_is_each_metric_on_a_line_and_is_counted():
    lines = everything(PAIRS).splitlines()
    assert number(PAIRS) == len(lines) == 25
    assert lines[0].split() == ["x2y/hit@1", "0.2500", "[0.0712,", "0.5910]"]
    assert [float(line.split()[1]) for line in lines][-1] == pytest.approx(0.625)
