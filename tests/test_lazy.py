"""The front answers before torch is loaded; names of lazy packages lead to what they name."""

import importlib
import subprocess
import sys

import pytest

import tauten

#: command lines, in the order of what they may load, and what had been loaded when each had ended
COMMANDS = [
    ("--help", set()),
    ("trian", set()),
    ("train emoji_infonce_mmst", set()),
    ("recipes", {"torch", "numpy"}),
    ("train emoji_infonce_mmts --help", {"torch", "numpy"}),
    ("train emoji_infonce_mmts --optim.epoch 1", {"torch", "numpy"}),
]
SAID = """
import sys
from tauten.cli import main
for line in sys.argv[1:]:
    try:
        main(line.split())
    except SystemExit:
        pass
    print("LOADED", *{"torch", "numpy", "transformers", "kornia", "datasets"} & {*sys.modules})
"""


def test_help_and_typos_load_no_more_than_they_need():
    lines = [line for line, _ in COMMANDS]
    done = subprocess.run(
        [sys.executable, "-c", SAID, *lines], capture_output=True, text=True, check=True
    )
    loaded = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("LOADED")]
    for (line, allowed), names in zip(COMMANDS, loaded, strict=True):
        assert {*names} <= allowed, line


@pytest.mark.parametrize("package", ["models", "training"])
def test_a_lazy_package_exports_what_it_lists(package):
    module = importlib.import_module(f"tauten.{package}")
    for name in module.__all__:
        found = getattr(module, name)
        assert found.__name__ == name
        assert found.__module__.startswith("tauten.")


def test_exported_names_are_no_names_of_modules():
    """Importing a module sets an attribute of its package, which would hide the exported name."""
    for package in ("tauten", "tauten.models", "tauten.outcome", "tauten.training"):
        module = importlib.import_module(package)
        exported = set(getattr(module, "__all__", dir(module))) - {*tauten._PACKAGES}
        for name in exported:
            value = getattr(module, name)
            assert not (type(value) is type(sys) and name in getattr(module, "__all__", ())), name
            assert importlib.util.find_spec(f"{package}.{name}") is None or package == "tauten"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'InfoNCe'"):
        _ = tauten.InfoNCe
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = tauten.models.nothing
