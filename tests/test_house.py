"""Imports among the modules of tauten: no circles, and arrows between rooms in one direction."""

from pathlib import Path

import pytest

from by_path import load

house = load(Path(__file__).resolve().parents[1] / "benchmarks" / "house.py", "house")

#: a room imports rooms of later lines only; rooms of one line know nothing of each other
ORDER = (
    ("__main__",),
    ("cli",),
    ("experiments",),
    ("comparison",),
    ("report",),
    ("recipes", "inference"),
    ("training", "integrations"),
    ("data", "models"),
    ("structure",),
    ("outcome",),
    ("evaluation", "extend"),
    ("losses",),
    ("terms", "relations", "candidates", "controls"),
    ("pairwise", "state", "observations"),
)
#: what every room may use
TOOLS = {
    "checks",
    "extras",
    "files",
    "ids",
    "lazy",
    "messages",
    "modules",
    "reads",
    "spec",
    "tauten",
}
#: imports against the arrows, each with its reason
EXCEPTIONS = {
    # the demo ends in a report, which it imports when it runs
    ("tauten.recipes.demo", "tauten.report"),
}


def level(room):
    return next(i for i, rooms in enumerate(ORDER) if room in rooms)


def test_every_room_has_its_place():
    rooms = {house.room(module) for module in house.modules()}
    assert rooms - TOOLS <= {room for rooms in ORDER for room in rooms}


def test_one_dense_loss_goes_a_short_way():
    entered = house.way()
    assert len(set(entered)) <= 9
    assert len(entered) <= 30


def test_no_modules_import_each_other_in_a_circle():
    assert house.circle() == []


def test_a_circle_is_found(monkeypatch):
    edges = {"tauten.a": {"tauten.b"}, "tauten.b": {"tauten.c"}, "tauten.c": {"tauten.b"}}
    monkeypatch.setattr(house, "modules", lambda: dict.fromkeys(edges))
    monkeypatch.setattr(house, "imported", edges.get)
    assert {*house.circle()} == {"tauten.b", "tauten.c"}


def test_imports_are_read_as_python_runs_them():
    found = house.imported("tauten.comparison.grid")
    assert {"tauten.comparison.cells", "tauten.training.options.config"} <= found
    assert "tauten.comparison.catalogue" in found  # a module, by ``from package import module``
    assert "tauten.comparison.grid" not in house.imported("tauten.comparison.shared")
    assert "tauten.comparison.grid" in house.imported("tauten.comparison.shared", everywhere=True)


@pytest.mark.parametrize("module", house.modules())
def test_arrows_between_rooms_run_one_way(module):
    room = house.room(module)
    if room == "tauten":  # the package's own file offers all rooms
        return
    against = {
        (module, target)
        for target in house.imported(module, everywhere=True)
        if (there := house.room(target)) not in TOOLS | {room}
        and (room in TOOLS or level(there) <= level(room))
    }
    assert against <= EXCEPTIONS


def test_exceptions_are_needed():
    for module, target in EXCEPTIONS:
        assert target in house.imported(module, everywhere=True)
