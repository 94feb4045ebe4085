"""The page of systems names what is there: classes, tests, and how many of each state."""

import re
from collections import Counter
from pathlib import Path

import pytest

import tauten as tt
import tauten.pairwise.nearest
from tauten import candidates, relations

HOMES = (tt, candidates, relations)
TESTS = Path(__file__).resolve().parent
PAGE = (TESTS.parent / "docs" / "systems.md").read_text(encoding="utf-8")
ROWS = [
    [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if re.match(r"\| \d+ \|", line)
]


def test_each_system_has_a_row_and_the_counts_are_those_of_the_rows():
    assert [int(row[0]) for row in ROWS] == list(range(1, 87))
    states = Counter(row[2] for row in ROWS)
    told = [int(number) for number in re.findall(r"\b\d+\b", PAGE.split("| |")[0])]
    assert told == [
        sum(states.values()) - states["out"],
        *(states[name] for name in ("whole", "partly", "no", "out")),
    ]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_what_a_row_names_exists(row):
    _, _, state, what, test, _ = row
    assert bool(test) == (state in ("whole", "partly"))
    if test:
        path, _, name = test.strip("`").partition("::")
        assert f"def {name}" in (TESTS / path).read_text(encoding="utf-8")
    for named in re.findall(r"\b(?:[a-z]+\.)*[A-Z]\w+(?=[`(])|\b[a-z]+\.[\w.]+(?=[`(])", what):
        found = [reached(home, named.split(".")) for home in HOMES]
        assert any(found), named


def reached(home, names):
    for name in names:
        home = getattr(home, name, None)
    return home
