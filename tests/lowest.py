"""Print the lowest versions that pyproject.toml allows: ``python lowest.py EXTRA ...``.

torch and triton are left out, which are pinned for all environments.
"""

import re
import sys
import tomllib
from pathlib import Path

_PINNED = ("torch", "triton")


def lowest(project: dict, *extras: str) -> list[str]:
    """Return requirements with == in the place of the lower bound."""
    lines = [line for extra in extras for line in project["optional-dependencies"][extra]]
    pins = {}
    for line in lines:
        name, bound = re.fullmatch(r"([\w.\[\]-]+)>=([\d.]+).*", line).groups()
        if name not in _PINNED:
            pins[name] = max(pins.get(name, bound), bound, key=_numbers)
    return [f"{name}=={version}" for name, version in pins.items()]


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".")]


if __name__ == "__main__":
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    print("\n".join(lowest(tomllib.loads(text)["project"], *sys.argv[1:])))
