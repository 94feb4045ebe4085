"""Whatever users call their runs, classes, groups and captions, a page shows it as text."""

import re
import warnings
from html.parser import HTMLParser

import numpy as np
import pytest
import yaml

from tauten.report import write
from tauten.report.markup import all_printable, environment, identifier, options, printable
from tauten.report.theme import figure, shorten, svg
from tauten.structure.cells import counted

NAMES = [
    "\"><img src=x onerror=alert(1)> <script>alert('x')</script>",
    r"back\slash \1 \g<0> \u",
    r"$\frac{1}{$ and $x_1$ costs 5$",
    '(brackets) [of] {all} kinds; spaces, \'quotes\' "two" `three` url(#p) id="m0" #0a0b10',
    "control \x00\x01\x1b\x85 signs",
    "half \ud83d an emoji, 半角, עברית",
]


class Page(HTMLParser):
    """Tags, ids, references and texts of a page."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.ids, self.targets = set(), [], [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        assert not [name for name, _ in attrs if name.startswith("on")], (tag, attrs)
        for name, value in attrs:
            self.ids += [value] if name == "id" else []
            self.targets += re.findall(r"^#(.*)$", value) if name == "href" else []
            if name in ("clip-path", "style"):
                self.targets += re.findall(r"url\(#(.*?)\)", value)

    def handle_data(self, data):
        self.texts.append(data)


def check(text):
    page = Page(text)
    assert not page.tags & {"iframe", "object", "embed", "b:x"}
    assert text.count("<script") == (2 if "<html" in text else 0)
    assert len(page.ids) == len(set(page.ids))
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+", one) for one in page.ids)
    assert set(page.targets) <= set(page.ids)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]", text)
    return page


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_page_shows_names_as_text(tmp_path, tiny, name):
    # a schedule, so that force, schedule, decile and count are drawn too
    config = {"control": {"kind": "mmts", "oscillations": 1}}
    history = "\n".join(
        f'{{"step": {k}, "loss": 1.0, "grad_norm": 1.0, "tau/mean": 0.07, "tau/spearman": 0.5, '
        f'"tau/decile/0": 0.05, "tau/decile/9": 0.09, "force/attraction/head": 1.0, '
        f'"force/repulsion/head": 1.0, "val/x2y/hit@1": 0.5, "val/y2x/hit@1": 0.5}}'
        for k in (1, 2)
    )
    test = {"captions": [f"{name}{k}" for k in range(4)], "group_of_x": ["head", name, name, name]}
    test["label_of_x"] = [name, name, "b", "b"]
    runs = [
        tiny(tmp_path / "constant", name=f"{name} 0", test=test, **{"history.jsonl": history}),
        tiny(
            tmp_path / "mmts",
            name=f"{name} 1",
            test=test,
            config=config,
            **{"history.jsonl": history},
        ),
    ]
    for run in runs:
        np.savez(
            run / "samples.npz",
            counts=[2, 2, 1],
            label_names=[name, "b"],
            label_counts=[2, 1],
            tau_final=[0.05, 0.05, 0.09],
        )
    np.savez(runs[0] / "test_images.npz", images=np.zeros((4, 8, 8, 3), np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.simplefilter("ignore", ResourceWarning)  # files of earlier tests
        path = write(runs, tmp_path / "page", title=name, notes=[name], bootstrap=20)
    text = path.read_text("utf-8")
    page = check(text)
    shown = printable(name)
    drawn = set(page.texts)
    # a heading, a caption and a tick of an axis
    assert f"{shown} 0" in drawn
    assert any(text in drawn for text in [f"{shown}{k}" for k in range(4)])
    assert shorten(shown, 20) in drawn


def test_names_of_local_runs_give_valid_references(tmp_path, tiny):
    runs = [tiny(tmp_path / kind, name=f"emoji (local) {kind}") for kind in ("a", "b")]
    page = check(write(runs, tmp_path / "page", bootstrap=20).read_text("utf-8"))
    assert page.targets


def test_text_in_a_drawing_is_left_as_it_is():
    label = 'a <b> & "c" id="x" url(#y) #0a0b10 font-family: z; $x$'
    with figure() as drawing:
        axes = drawing.add_subplot()
        axes.plot([0, 1], [0, 1], label=label)
        axes.legend()
        page = check(str(svg(drawing, "n \\1", 'alt "quoted" <i>')))
    assert label in page.texts
    assert "i" not in page.tags


def test_identifiers_differ_where_names_do():
    names = ["plain-name_1.5", "a b", "a  b", "a-b", "a\\b", "\ud83d"]
    found = [identifier(name) for name in names]
    assert found[0] == names[0]
    assert len(set(found)) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_.-]+", one) for one in found)


def test_printable_spells_out_what_cannot_be_shown():
    assert printable("a\x00b\x1b\ud83dc\n\té") == "a\\x00b\\x1b\\ud83dc\n\té"
    tree = {"a\x01": ["b\x02", 3, None, np.array([["c\x03", "d"]])]}
    found = all_printable(tree)["a\\x01"]
    assert found[:3] == ["b\\x02", 3, None]
    assert found[3].tolist() == [["c\\x03", "d"]]


def test_options_of_the_command_line_are_not_broken_and_other_text_is_escaped():
    shown = options("give <b> with --data.head, or a --- b")
    assert shown == 'give &lt;b&gt; with <code class="option">--data.head</code>, or a --- b'


def test_one_is_counted_as_one():
    assert counted(1, "query", "queries") == "1 query"
    assert counted("1,000", "query", "queries") == "1,000 queries"
    assert counted("0.8", "step") == "0.8 steps"


def test_every_template_escapes(tmp_path):
    """Values of all templates are escaped: no filter turns that off."""
    templates = environment("tauten.comparison", "tauten.report")
    for name in templates.list_templates():
        source, _, _ = templates.loader.get_source(templates, name)
        assert "safe" not in re.findall(r"\|\s*(\w+)", source), name
        assert "autoescape" not in source, name
    assert templates.from_string("{{ x }}").render(x="<b>") == "&lt;b&gt;"


def test_a_name_in_the_folder_alone(tmp_path, tiny):
    run = tiny(tmp_path / "<img src=x onerror=alert(1)> $x")
    config = yaml.safe_load((run / "config.yaml").read_text())
    del config["name"]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    page = check(write([run], tmp_path / "page", bootstrap=20).read_text("utf-8"))
    assert run.name in page.texts
