"""Fixtures shared by all tests."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real test data beside the repository; without it the test is skipped."""
    if not SHARED.is_dir():
        pytest.skip(f"real test data not found at {SHARED}")
    return SHARED


@pytest.fixture(scope="session")
def oracles() -> ModuleType:
    """The literal transcriptions of the published formulas."""
    spec = importlib.util.spec_from_file_location(
        "oracles", Path(__file__).resolve().parent / "oracles.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
