"""What a user's first minutes depend on."""

import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest

import tauten as tt
from lowest import lowest
from tauten import extras
from tauten.cli import main
from tauten.extras import explained

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


BARE = """
import sys
import tauten, tauten.cli, tauten.extras
for name in (*tauten.extras._TRAIN, *tauten.extras._EXTRAS):
    for loaded in [one for one in sys.modules if one.partition(".")[0] == name]:
        del sys.modules[loaded]
    sys.modules[name] = None
for line in sys.stdin.read().splitlines():
    print(">", line, file=sys.stderr)
    if line.startswith("import "):
        try:
            getattr(tauten, line.split()[1])
        except ImportError as error:
            print(error, file=sys.stderr)
    else:
        assert tauten.cli.main(line.split()) == 1, line
"""
COMMANDS = {
    "train": "train",
    "train emoji_infonce_mmts": "train",
    "recipes": "train",
    "demo": "train",
    "evaluate run": "train",
    "evaluate --x a.npy --y b.npy": "train",
    "embed run --output never": "train",
    "search never --text x": "train",
    "export run --output never": "train",
    "report run": "train",
    "data list": "train",
    "compare": "train",
    "compare --controls list": "train",
    "cluster a.csv -k 3 --output never.parquet": "structure",
    "import data": "train",
    "import inference": "train",
    "import load": "train",
    "import models": "train",
    "import training": "train",
    "import comparison": "train",
}


def test_with_torch_alone_every_command_says_what_to_install():
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", BARE],
        input="\n".join(COMMANDS),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    parts = done.stderr.split("> ")[1:]
    assert len(parts) == len(COMMANDS)
    for part, (command, extra) in zip(parts, COMMANDS.items(), strict=True):
        first, *lines = part.strip().splitlines()
        assert first == command
        assert len(lines) == 1, part
        assert lines[0].endswith(f"not installed: pip install 'tauten[{extra}]'"), part


def test_the_extras_that_messages_name_bring_the_modules():
    """A module of another name than its package is listed here."""
    packages = {"PIL": "pillow", "yaml": "pyyaml", "sklearn": "scikit-learn", "faiss": "faiss-cpu"}
    indirect = {"markupsafe", "tokenizers", "huggingface_hub", "cycler"}
    extras_of = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = [line for part in extras_of["optional-dependencies"].values() for line in part]
    wanted = [re.split(r"[ ;<>=]+", line.lower())[0] for line in lines]
    for name in (*extras._TRAIN, *extras._EXTRAS):
        package = packages.get(name, name).lower().replace("_", "-")
        assert name in indirect or package in [one.replace("_", "-") for one in wanted], name
    assert explained("x", ModuleNotFoundError(name="else.where")).name == "else.where"
    assert "x needs av," in str(explained("x", ModuleNotFoundError(name="av.video")))


def test_version(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"tauten {tt.__version__}\n"


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


def test_the_lowest_versions_are_read_from_the_metadata():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    pins = lowest(project, "train", "structure", "video", "pretrained", "peft")
    names = [line.split("==")[0] for line in pins]
    assert len(names) == len(set(names)) >= 18
    assert "accelerate==1.3" in pins
    assert "torch" not in names
    made = {"optional-dependencies": {"a": ["x>=1.9,<3"], "b": ["x>=1.10", "torch>=2"]}}
    assert lowest(made, "a", "b") == ["x==1.10"]
