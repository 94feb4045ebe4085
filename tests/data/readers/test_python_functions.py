"""Documented functions of a folder of Python files, and of the standard library."""

import pytest

from tauten.data.readers import READERS, read, to_dataset
from tauten.data.readers.python_functions import standard_library

MODULE = '''
class Stack:
    def push_item(self, newItem):
        """Put an item on top.

        More about it.
        """
        self.items.append(newItem)  # at the end

    def __len__(self):
        """Return how many there are."""
        return len(self.items)

    def bare(self):
        """There is nothing here."""

def short():
    """Too short."""
    return 1
'''


@pytest.fixture
def library(tmp_path):
    (tmp_path / "pack" / "test").mkdir(parents=True)
    (tmp_path / "pack" / "stack.py").write_text(MODULE)
    (tmp_path / "pack" / "test" / "more.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("def broken(:")
    twice = '"""Say the same thing twice."""\n    return {}'
    (tmp_path / "twice.py").write_text(
        f"def a():\n    {twice.format(1)}\n\ndef b():\n    {twice.format(2)}\n"
    )
    return tmp_path


def test_functions_of_a_folder(library):
    collection = read("python_functions", library)
    (entry,) = [entry for split in collection.splits.values() for entry in split]
    assert entry.media == "Put an item on top."
    assert entry.captions == ("def push item(self, new Item):\n    self.items.append(new Item)",)
    assert (entry.id, entry.label) == ("pack/stack.py:3", "pack")
    assert {note.name: note.found for note in collection.notes} == {
        "functions left out, there twice": 2,
        "files that do not parse": 1,
    }


def test_a_folder_without_functions(tmp_path):
    with pytest.raises(ValueError, match="no Python file with documented functions"):
        read("python_functions", tmp_path)


def test_first_texts_are_the_first_side(library):
    split = next(
        entries for entries in read("python_functions", library).splits.values() if entries
    )
    dataset = to_dataset(split)
    assert dataset["image"][0] == b"Put an item on top."
    assert READERS["python_functions"].check(library, progress=False).usable


def test_the_standard_library_has_a_long_tail():
    collection = read("python_functions", standard_library())
    splits = collection.splits
    docs = [{entry.media for entry in splits[name]} for name in ("train", "val", "test")]
    assert min(map(len, docs)) > 100
    assert not docs[0] & docs[1]
    assert not docs[2] & (docs[0] | docs[1])
    sizes = sorted(
        sum(entry.label == label for entry in splits["train"])
        for label in {entry.label for entry in splits["train"]}
    )
    assert len(sizes) > 50
    assert sizes[-1] > 20 * sizes[len(sizes) // 2]
