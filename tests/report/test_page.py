"""The written page: self-contained, complete, and true to the run folders."""

import json
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch

from tauten.report import write

SECTIONS = (
    "verdict",
    "groups",
    "control",
    "training",
    "similarity",
    "examples",
    "numbers",
    "classes",
    "protocol",
)
VOID = {"meta", "link", "img", "br", "hr", "input"}


class Page(HTMLParser):
    """Tags with their attributes, ids, and whether all is closed in order."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.open, self.text = [], [], []
        self.feed(text)
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def find(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


@pytest.fixture(scope="module")
def path(runs, tmp_path_factory):
    return write(runs, tmp_path_factory.mktemp("page"), bootstrap=100)


@pytest.fixture(scope="module")
def page(path):
    return Page(path.read_text("utf-8"))


def test_written_where_asked(path, runs, tmp_path):
    assert path.name == "report.html"
    assert [p.name for p in path.parent.iterdir()] == ["report.html"]
    named = write(runs[:1], tmp_path / "new" / "name.html", bootstrap=20)
    assert named == tmp_path / "new" / "name.html"
    assert named.exists()


def test_nothing_is_loaded_from_elsewhere(path):
    text = path.read_text("utf-8")
    assert "http" not in text
    assert "<script src" not in text
    text = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    for name in ("src", "href", "xlink:href"):
        for target in re.findall(rf'\b{name}="([^"]*)"', text):
            assert target.startswith(("#", "data:"))
    for target in re.findall(r"url\(([^)]*)\)", text):
        assert target.startswith("#")
    assert "@import" not in text


def test_ids_are_unique_and_every_reference_is_met(page):
    ids = [attrs["id"] for _, attrs in page.tags if "id" in attrs]
    assert len(ids) == len(set(ids))
    for _, attrs in page.tags:
        for name, value in attrs.items():
            if name == "href" and value.startswith("#"):
                assert value[1:] in ids
            for target in re.findall(r"url\(#([^)]*)\)", value or ""):
                assert target in ids


def test_sections_in_order_and_none_empty(page):
    assert tuple(a["id"] for a in page.find("section")) == SECTIONS
    assert not [a for a in page.find("p") if a.get("class") == "missing"]
    headings = " ".join(page.text)
    for words in (
        "What was compared",
        "temperature over time",
        "margin over time",
        "temperature against count",
        "infonce-mmts: temperature by class count",
        "maxmargin-mmts: margin by class count",
        "infonce-mmts: force on head, mid, tail",
        "The class tail",
        "InfoNCE: training loss",
        "MaxMargin: gradient norm",
        "validation hit@1, text to image",
        "Settings that differ",
        "Geometry of the embeddings",
        "Ties are counted pessimistically",
        "Published defaults",
        "matplotlib",
        "seed 0",
    ):
        assert words in headings, words


def test_table_equals_results(page, runs):
    recorded = {}
    for run in runs:
        results = json.loads((run / "results.json").read_text())["test"]
        recorded[run.name] = results
    cells = [a for a in page.find("td") if "data-key" in a]
    assert len(cells) == 4 * 2 * 4 * 9
    for cell in cells:
        metrics, key = recorded[cell["data-run"]], cell["data-key"]
        if "mean_recall" in key:
            hits = [metrics[key.replace("mean_recall", f"hit@{k}")] for k in (1, 5, 10)]
            assert float(cell["data-value"]) == pytest.approx(sum(hits) / 3)
            assert float(cell["data-low"]) < sum(hits) / 3 < float(cell["data-high"])
            continue
        if key.startswith("class/"):  # of runs that did not record it
            continue
        assert float(cell["data-value"]) == metrics[key]
        assert float(cell["data-low"]) == metrics[f"{key}/low"]
        assert float(cell["data-high"]) == metrics[f"{key}/high"]


def test_mean_recall_of_both_directions_is_told(page, runs):
    text = " ".join(page.text)
    for run in runs:
        metrics = json.loads((run / "results.json").read_text())["test"]
        hits = [metrics[f"{way}/hit@{k}"] for way in ("x2y", "y2x") for k in (1, 5, 10)]
        assert f"{run.name} {100 * sum(hits) / 6:.1f}" in text


def test_displayed_numbers_are_the_rounded_ones(path):
    rows = re.findall(
        r'data-key="([^"]*)" data-value="([^"]*)"[^>]*><b>([^<]*)', path.read_text("utf-8")
    )
    assert len(rows) == 288
    for key, value, shown in rows:
        if "rank" not in key:
            assert float(shown) == round(100 * float(value), 1)


def test_runs_of_one_seed_are_never_marked(page):
    for cell in page.find("td"):
        if "data-key" in cell:
            compared = not cell["data-run"].endswith("constant")
            assert cell["class"] == ("unknown" if compared else "")


def test_every_picture_has_words(page):
    plots = [a for a in page.find("svg")]
    assert len(plots) == 2 + 2 + 1 + 4 + 2 + 2 + 1 + 8 + 4
    assert all(a["role"] == "img" and len(a["aria-label"]) > 20 for a in plots)
    assert len({a["aria-label"] for a in plots}) == len(plots)
    assert all(a["alt"] for a in page.find("img"))


def test_plots_take_their_colours_from_the_page(path):
    text = path.read_text("utf-8")
    svgs = "".join(re.findall(r"<svg.*?</svg>", text, flags=re.DOTALL))
    assert "var(--ink)" in svgs
    assert not re.findall(r"(?:fill|stroke): #(?!none)[0-9a-f]{6}", svgs)
    style = text[text.index("<style>") : text.index("</style>")]
    light, dark = style.split("prefers-color-scheme: dark")[:2]
    for name in set(re.findall(r"var\(--(\w+)\)", text)):
        assert f"--{name}:" in light
        assert f"--{name}:" in dark


def test_examples_mark_right_and_wrong_by_border_and_symbol(path, runs):
    text = path.read_text("utf-8")
    marks = re.findall(
        r'<li class="(right|wrong)"><img [^>]*alt="rank \d, (\w+): [^"]+"[^>]*>'
        r'<span class="mark" aria-hidden="true">(.)</span></li>',
        text,
    )
    assert len(marks) == 3 * 2 * 4 * 5
    assert {(a, b, c) for a, b, c in marks} <= {("right", "right", "✓"), ("wrong", "wrong", "✗")}


def test_same_page_on_repeat(path, runs, tmp_path):
    again = write(runs, tmp_path, bootstrap=100)
    assert again.read_text("utf-8") == path.read_text("utf-8")


def test_user_text_is_escaped(path, tiny, tmp_path):
    assert "&lt;943&gt; drawings" in path.read_text("utf-8")
    run = tiny(tmp_path / "r", name="<b>&", test={"captions": ["<script>", "b", "c", "d"]})
    images = np.zeros((4, 3, 8, 8), np.uint8)
    page = Page(write([run], tmp_path, "<i>title", images=images, bootstrap=20).read_text("utf-8"))
    assert len(page.find("script")) == 2
    assert "<i>title" in "".join(page.text)


def test_several_seeds(seeded_runs, tmp_path):
    text = write(seeded_runs, tmp_path, bootstrap=100).read_text("utf-8")
    assert "2 seeds, paired: the interval covers test queries and seeds" in text
    assert "seeds 0, 1" in text
    values = re.findall(r'data-run="infonce-mmts" data-key="y2x/hit@10" data-value="([^"]*)"', text)
    recorded = [
        json.loads((seeded_runs[1] / f"seed{s}" / "results.json").read_text())["test"]["y2x/hit@10"]
        for s in (0, 1)
    ]
    assert float(values[0]) == pytest.approx(np.mean(recorded))


def test_least_run_leaves_out_what_was_not_recorded(tiny, tmp_path):
    paths = [tiny(tmp_path / "a", "a"), tiny(tmp_path / "b", "b", control="mmts")]
    page = Page(write(paths, tmp_path, bootstrap=20).read_text("utf-8"))
    missing = [a for a in page.find("p") if a.get("class") == "missing"]
    assert len(missing) == 3
    text = " ".join(page.text)
    for words in ("recorded no temperatures", "recorded no history", "recorded no classes"):
        assert words in text


def test_notes_stand_under_the_verdict(tiny, tmp_path):
    runs = [tiny(tmp_path / "a")]
    text = write(runs, tmp_path, notes=["Chosen <by> validation."], bootstrap=20).read_text("utf-8")
    verdict = text[text.index('id="verdict"') : text.index('id="groups"')]
    assert "Note: Chosen &lt;by&gt; validation." in verdict


def test_images_given_by_the_caller(tiny, tmp_path):
    images = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8)
    text = write([tiny(tmp_path / "a")], tmp_path, images=images, bootstrap=20).read_text("utf-8")
    assert text.count('class="right"') + text.count('class="wrong"') >= 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"primary": "hit@3"},
            "primary must be one of hit@1, hit@5, hit@10, mean_recall, mAP, not 'hit@3'",
        ),
        ({"primary": "mean_rank"}, "not 'mean_rank'"),
        ({"images": np.zeros((3, 3, 8, 8), np.uint8)}, r"images must be uint8 \(4, 3, H, W\)"),
        ({"images": np.zeros((4, 3, 8, 8))}, "one per x, not float64"),
    ],
)
def test_errors(tiny, tmp_path, options, message):
    with pytest.raises(ValueError, match=message):
        write([tiny(tmp_path / "a")], tmp_path, bootstrap=20, **options)
    assert not (tmp_path / "report.html").exists()


def test_error_of_stored_images(tiny, tmp_path):
    path = tiny(tmp_path / "a")
    np.savez(path / "test_images.npz", images=np.zeros((4, 8, 8), np.uint8))
    with pytest.raises(ValueError, match=r"must hold images, uint8 \(4, H, W, 3\)"):
        write([path], tmp_path, bootstrap=20)


def test_the_title_of_one_run_is_its_own(runs, tiny, tmp_path):
    one = write([tiny(tmp_path / "r", name="mine")], tmp_path / "one", bootstrap=20)
    assert "<title>mine: InfoNCE, constant temperature</title>" in one.read_text("utf-8")
    given = write([tmp_path / "r"], tmp_path / "given", title="Of birds", bootstrap=20)
    assert "<h1>Of birds</h1>" in given.read_text("utf-8")


def test_a_group_that_is_missing_is_explained(tiny, tmp_path):
    config = {"data": {"head": 100, "tail": 20}}
    without = {"test": {"group_of_x": ["mid", "mid", "tail", "tail"]}, "config": config}
    text = write([tiny(tmp_path / "r", **without)], tmp_path / "a", bootstrap=20).read_text("utf-8")
    assert "There is no head: no test query is of a class with 100 training samples or mo" in text
    assert '<code class="option">--data.groups</code> thirds' in text
    assert "There is no tail" not in text
    thirds = {"data": {"head": 100, "tail": 20, "groups": "thirds"}}
    path = tiny(tmp_path / "s", test=without["test"], config=thirds)
    assert "There is no" not in write([path], tmp_path / "b", bootstrap=20).read_text("utf-8")
