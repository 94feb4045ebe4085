"""What a user's first minutes depend on."""

import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import tauten as tt

ROOT = Path(__file__).resolve().parents[1]
CORE = "tauten torch numpy typing_extensions sympy mpmath networkx jinja2 markupsafe filelock"


def test_import_needs_torch_alone():
    """Nothing is loaded that ``import torch`` does not load, besides the package itself."""
    code = (
        "import sys, torch; before = set(sys.modules); import tauten; "
        "print(*sorted({m.split('.')[0] for m in set(sys.modules) - before}))"
    )
    loaded = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    ).stdout.split()
    foreign = set(loaded) - set(sys.stdlib_module_names) - set(CORE.split())
    assert foreign == set()
    assert "tauten" in loaded


def test_lazy_parts_are_found_and_unknown_ones_are_not():
    assert callable(tt.evaluation.retrieval)
    assert "structure" in dir(tt)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        tt.nothing  # noqa: B018


def test_torchvision_is_required_by_nothing():
    wanted = [
        line.split("==")[0].lower()
        for line in (ROOT / "constraints.txt").read_text().splitlines()
        if line
    ]
    assert "torch" in wanted
    assert "torchvision" not in wanted
    assert not any("torchvision" in r for r in metadata.requires("tauten") or [])


def test_the_tested_torch_is_pinned_and_the_typing_marker_ships():
    assert "torch==2.13.0" in (ROOT / "constraints.txt").read_text().splitlines()
    assert (Path(tt.__file__).parent / "py.typed").is_file()
    assert metadata.version("tauten") == tt.__version__


def test_ci_calls_the_readme_test_command_and_nothing_else():
    lines = (ROOT / ".ci" / "run").read_text().splitlines()
    assert lines[-1] == "make test"
    assert "make test" in (ROOT / "README.md").read_text()
