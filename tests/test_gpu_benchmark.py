"""The command for a GPU runs in small on the CPU, and its report says so."""

import json
import os
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[1] / "benchmarks" / "gpu.py"


def report(folder, *words):
    """Run the command in a fresh interpreter, since Triton asks at its import whether to interpret.

    Returns:
        The report and its page.
    """
    command = [sys.executable, SCRIPT, "--small", "--output", folder, *words]
    paths = [str(SCRIPT.parents[1] / "src"), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return json.loads((folder / "report.json").read_text()), (folder / "report.md").read_text()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return report(tmp_path_factory.mktemp("gpu"))


def test_every_part_has_run(whole):
    found, _ = whole
    assert found["left_out"] == []
    assert list(found["parts"]) == ["right", "times", "steps", "trainings", "graphs", "tests"]
    assert {line["step"] for line in found["parts"]["steps"]} == {"without us", "MM-TS", "iSogCLR"}
    assert all(line["ms"] > 0 for line in found["parts"]["steps"])
    assert found["parts"]["tests"][0]["exit"] == 0


def test_what_is_right_is_near_float64(whole):
    for line in whole[0]["parts"]["right"]:
        near = 1e-4 if line["type"] == "float32" else 3e-2
        assert line["value"] < near, line
        assert line["gradient"] < near, line


def test_sizes_have_all_contenders_and_name_the_fastest(whole):
    for line in whole[0]["parts"]["times"]:
        assert {"dense", "tiles", "auto", "four products"} <= line["found"].keys()
        fastest = line["found"][line["fastest"]]["ms"]
        assert line["auto"] == pytest.approx(line["found"]["auto"]["ms"] / fastest)
        if line["loss"] == "InfoNCE":
            assert {"plain torch", "open_clip"} <= line["found"].keys()


def test_trainings_say_why_one_was_not_made(whole):
    fp32, bf16, fp16 = whole[0]["parts"]["trainings"]
    assert fp32["steps"] == bf16["steps"] > 0
    assert fp16["score"] is None
    assert "fp16 needs a GPU" in fp16["reason"]


def test_the_page_says_that_nothing_was_measured_on_a_gpu(whole):
    found, page = whole
    assert not found["on_gpu"]
    assert "Nothing here was measured on a GPU" in page
    for said in ("four products", "no GPU", "/ without us", "steps left out", "pytest -m gpu"):
        assert said in page, said
    tables = [line for line in page.splitlines() if line.startswith("|")]
    for head, rule in pairwise(tables):
        if set(rule) <= set("|- "):
            assert head.count("|") == rule.count("|")


def test_a_run_without_time_keeps_its_report(tmp_path):
    found, page = report(tmp_path, "--minutes", "0", "--parts", "right", "steps")
    assert found["parts"] == {}
    assert found["left_out"] == ["right: no time left", "steps: no time left"]
    assert "steps: no time left" in page
