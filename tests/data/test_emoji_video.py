import csv

import pytest
import torch

from tauten.data.emoji_video import action_of, base_of, name_relevancy

NAMES = {
    "woman surfing: medium skin tone": ("surfing", {"woman", "medium skin tone"}),
    "man surfing: medium skin tone": ("surfing", {"man", "medium skin tone"}),
    "person surfing": ("surfing", {"person"}),
    "woman biking: medium skin tone": ("biking", {"woman", "medium skin tone"}),
    "woman: dark skin tone, blond hair": ("blond hair", {"woman", "dark skin tone"}),
    "couple with heart: man, man, light skin tone": (
        "couple with heart",
        {"man", "light skin tone"},
    ),
    "raised fist: light skin tone": ("raised fist", {"light skin tone"}),
    "woman’s boot": ("woman’s boot", set()),
    "taxi": ("taxi", set()),
    "cyclone": ("cyclone", set()),
}


@pytest.mark.parametrize("name", NAMES)
def test_actions(name):
    action, details = action_of(name)
    assert (action, set(details)) == NAMES[name]


def test_relevancy_by_literal_loops():
    found = name_relevancy(list(NAMES), list(reversed(NAMES))).dense()
    for i, (verb, details) in enumerate(NAMES.values()):
        for j, (other, others) in enumerate(reversed(NAMES.values())):
            either = details | others
            shared = len(details & others) / len(either) if either else float(verb == other)
            assert found[i, j] == pytest.approx(((verb == other) + shared) / 2)


@pytest.mark.parametrize(
    ("name", "rel"),
    [
        ("woman surfing: medium skin tone", 1.0),
        ("man surfing: medium skin tone", 2 / 3),
        ("woman biking: medium skin tone", 1 / 2),
        ("person surfing", 1 / 2),
        ("taxi", 0.0),
    ],
)
def test_values_of_the_documentation(name, rel):
    found = name_relevancy(["woman surfing: medium skin tone"], [name]).dense()
    assert float(found) == pytest.approx(rel)


def test_bases_and_names_of_the_set(shared_data):
    with (shared_data / "emoji_video.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert all(base_of(row["id"]) == row["base"].lower() for row in rows)
    names = [row["caption"] for row in rows if row["split"] == "val"]
    relevancy = name_relevancy(names, names).dense()
    assert torch.equal(relevancy == 1, torch.eye(len(names), dtype=torch.bool))
    assert torch.equal(relevancy, relevancy.T)
