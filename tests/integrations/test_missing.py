"""A framework that is missing is named with the command that installs it."""

import importlib
import re
import sys
from pathlib import Path

import pytest

import tauten as tt
from tauten import integrations

DOCS = Path(__file__).resolve().parents[2] / "docs" / "frameworks.md"
MISSING = {
    "lightning": "pip install lightning",
    "accelerate": r"pip install 'tauten\[train\]'",
    "transformers": r"pip install 'tauten\[train\]'",
    "sentence_transformers": r"pip install 'tauten\[structure,train\]'",
}


@pytest.mark.parametrize(("name", "command"), MISSING.items())
def test_a_missing_framework_is_named(name, command, monkeypatch):
    module = f"tauten.integrations.{name}"
    monkeypatch.delitem(sys.modules, module, raising=False)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr("tauten.extras.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=f"^{module} needs .*not installed: {command}$"):
        importlib.import_module(module)


def test_open_clip_is_needed_by_its_training_alone(monkeypatch):
    from tauten.integrations.open_clip import main

    monkeypatch.setattr("tauten.extras.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'open_clip_torch\[training\]'$"):
        main([], tt.InfoNCE(0.07))


def test_parts_are_found_by_name():
    assert tt.integrations is integrations
    assert integrations.open_clip.ControlledClipLoss.__module__ == "tauten.integrations.open_clip"
    with pytest.raises(AttributeError, match="no attribute 'keras'"):
        _ = integrations.keras


def test_the_page_shows_python_and_names_that_exist():
    code = re.findall(r"^```py\n(.*?)^```$", DOCS.read_text("utf-8"), re.MULTILINE | re.DOTALL)
    assert len(code) >= 4
    for block in code:
        compile(block, str(DOCS), "exec")
        for name, names in re.findall(r"from tauten\.integrations\.(\w+) import ([\w, ]+)", block):
            text = (Path(integrations.__file__).parent / f"{name}.py").read_text("utf-8")
            for imported in names.split(", "):
                assert re.search(rf'__all__ = \[.*"{imported}"', text), imported
