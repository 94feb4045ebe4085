"""Fixtures shared by all tests."""

import gc
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

# tests import cases.py, the registry of losses and controls
sys.path.append(str(Path(__file__).resolve().parent))

#: files that take longest; the last to begin would leave the other processes without work
LONGEST = (
    "parity/test_parity.py",
    "training/test_launch.py",
    "comparison/test_end_to_end.py",
    "test_plugin.py",
    "training/stores/test_clip_training.py",
    "recipes/test_published.py",
    "comparison/test_pool.py",
    "pairwise/test_triton.py",
    "losses/test_transforms.py",
    "training/test_train.py",
    "parity/test_chunked.py",
    "training/test_resume.py",
    "training/checkpoints/test_sharded.py",
    "test_state_survives.py",
)
SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_configure(config):
    """Let pytest-xdist begin with the longest files, not with those of the most tests."""
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(items):
    """Put the longest files first."""
    tests = Path(__file__).parent
    places = {tests / name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path, len(places)))


def pytest_collection_finish():
    """Keep what imports and collection made out of sight of the collector of garbage.

    It looks at a million objects otherwise, at the end of every training.
    """
    gc.collect()
    gc.freeze()


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


@pytest.fixture(autouse=True)
def plugins_stay_with_their_test(monkeypatch):
    """Forget the controls and losses that a test has brought."""
    from tauten.spec import ControlSpec, LossSpec

    monkeypatch.setenv("TAUTEN_PLUGINS", "")
    known = [(sort.known, dict(sort.known)) for sort in (ControlSpec, LossSpec)]
    modules = set(sys.modules)
    yield
    for now, before in known:
        for name in now.keys() - before.keys():
            if not now[name].__module__.startswith("tauten."):
                del now[name]
    for name in sys.modules.keys() - modules:
        if name.startswith("tauten_plugin_"):
            del sys.modules[name]
