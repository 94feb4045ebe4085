"""Captions that differ in one attribute."""

from tauten.data import emoji_lt
from tauten.data.emoji import APART
from tauten.data.emoji_attributes import one_apart


def test_one_word_of_an_attribute_differs():
    names = ["man surfing", "woman surfing", "man rowing", "red heart", "blue heart", "blue circle"]
    near = dict(zip(names, one_apart(names, names), strict=True))
    assert near["man surfing"] == ["woman surfing"]
    assert near["red heart"] == ["blue heart"]
    assert near["man rowing"] == near["blue circle"] == []


def test_emoji_lt_has_such_captions_on_demand():
    plain, apart = emoji_lt("test"), emoji_lt("test", apart=True)
    assert APART not in plain.column_names
    assert plain["caption"] == apart["caption"]
    rows = [(row["caption"], near) for row in apart for near in row[APART]]
    assert len({caption for caption, _ in rows}) == 160
    assert all(caption != near for caption, near in rows)
    assert all(
        len(caption.split()) == len(near.split()) for caption, near in rows if "!" not in caption
    )
