"""Captions of MSCOCO 2017 validation as sentences, without the photos."""

from __future__ import annotations

import re
from pathlib import Path

from tauten.data.readers.checks import Figures, Reader
from tauten.data.readers.coco_captions import photos_and_captions
from tauten.data.readers.entries import Collection, Entry

#: words that a sentence may begin with and that say nothing of what it is about
_EMPTY = frozenset(
    word
    for line in (
        "a an the this that these those there is are was and of in on at to with from by for some",
        "several many few one two three four five six couple group bunch pair view close up",
        "very large small big little young old white black red blue green brown yellow",
    )
    for word in line.split()
)
_WORD = re.compile(r"[a-z']+")
#: photos for test and for validation, at the end of the file
_TEST, _VAL = 1000, 500


def read_coco_sentences(root: Path) -> Collection:
    """Read the captions of 3,500 photos for training, each a pair with itself.

    The last 1,000 photos are for test and 500 before them for validation: the first caption of a
    photo is to find its others among those of all photos. The class is the first word of the first
    caption that says what is shown, such as "man" or "train".

    Raises:
        FileNotFoundError: no captions_val2017.json(.gz) in the root or its folder annotations.
        ValueError: a file that does not parse.
    """
    rows, captions = photos_and_captions(root)
    sentences = {
        row["id"]: tuple(dict.fromkeys(" ".join(text.split()) for text in captions[row["id"]]))
        for row in rows
    }
    photos = [row["id"] for row in rows if len(sentences[row["id"]]) > 1]
    splits: dict[str, list[Entry]] = {"train": [], "val": [], "test": []}
    for place, photo in enumerate(photos):
        texts = sentences[photo]
        left = len(photos) - place
        if left > _TEST + _VAL:
            label = _subject(texts[0])
            splits["train"] += [
                Entry(f"{photo}-{k}", text, (text,), label) for k, text in enumerate(texts)
            ]
        else:
            entry = Entry(str(photo), texts[0], texts[1:], _subject(texts[0]))
            splits["test" if left <= _TEST else "val"].append(entry)
    return Collection("coco_sentences", "captions_val2017 without photos", splits)


def _subject(text: str) -> str:
    words = _WORD.findall(text.lower())
    return next((word for word in words if word not in _EMPTY), words[0] if words else "")


COCO_SENTENCES = Reader(
    name="coco_sentences",
    about="captions of MSCOCO 2017 validation as sentences, by what they begin with",
    source="cocodataset.org (annotations_trainval2017)",
    read=read_coco_sentences,
    figures={"train": Figures(), "val": Figures(_VAL), "test": Figures(_TEST)},
)
