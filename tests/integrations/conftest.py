"""Stand-ins for frameworks that are not installed beside the tests."""

import importlib
import sys
from pathlib import Path

import pytest

STAND_INS = Path(__file__).parent / "stand_ins"


@pytest.fixture
def stand_ins(monkeypatch):
    """Return a function that imports a module of tauten.integrations against the stand-ins."""
    names = ("lightning", "open_clip_train", "webdataset", "pytorch_lightning")

    def forget():
        for name in [*sys.modules]:
            if name.partition(".")[0] in names or name == "tauten.integrations.lightning":
                del sys.modules[name]

    forget()
    monkeypatch.syspath_prepend(str(STAND_INS))
    yield lambda name: importlib.import_module(f"tauten.integrations.{name}")
    forget()
