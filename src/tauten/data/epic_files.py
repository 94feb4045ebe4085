"""The annotation files of EPIC-KITCHENS-100 retrieval, as rows."""

from __future__ import annotations

import ast
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

from tauten.files import expanded
from tauten.structure.tables import column_names, read_rows

Split = Literal["train", "test"]
Nouns = tuple[int, ...]

SOURCE = (
    "get it from https://github.com/epic-kitchens/epic-kitchens-100-annotations, folder "
    "retrieval_annotations (classes and tails: the folder above)"
)
#: a list of clips for where the official training file is missing; it has one noun per clip
SUBSTITUTE = "train_segments_67217.csv"

_FOLDERS = ("", "retrieval_annotations", "epic-kitchens-100-annotations/retrieval_annotations")
_SUBSTITUTE_FPS = 30.0


@dataclass
class ClipRow:
    """One clip as annotated.

    `whole` says whether `nouns` has all its nouns, `frames` are the official start and stop frame
    or None.
    """

    narration_id: str
    video_id: str
    seconds: tuple[float, float]
    narration: str | None
    verb: int
    nouns: Nouns
    whole: bool
    frames: tuple[int, int] | None = None


@dataclass
class SentenceRow:
    """One sentence with the clip that stands for it, `narration_id`, and that clip's classes."""

    narration_id: str
    text: str
    verb: int
    nouns: Nouns


def read_clips(root: Path, split: Split) -> list[ClipRow]:
    """Read the clips of a split, from the official file or the substitute."""
    file = present(root, f"EPIC_100_retrieval_{split}.csv")
    substitute = present(root, SUBSTITUTE) if file is None and split == "train" else None
    if substitute is not None:
        return _substitute(substitute)
    file = file or find(root, f"EPIC_100_retrieval_{split}.csv")
    times = ("start_timestamp", "stop_timestamp")
    names = ("narration_id", "video_id", "narration", "verb_class", "all_noun_classes")
    return [
        ClipRow(
            narration_id=row["narration_id"],
            video_id=row["video_id"],
            seconds=(_second(row[times[0]], file, n), _second(row[times[1]], file, n)),
            narration=row["narration"],
            verb=whole_number(row["verb_class"], file, n),
            nouns=_nouns(row["all_noun_classes"], file, n),
            whole=True,
            frames=_frames(row),
        )
        for n, row in enumerate(rows_of(file, *names, *times))
    ]


def _substitute(file: Path) -> list[ClipRow]:
    frames = ("start_frame_30fps", "stop_frame_30fps")
    clips = []
    for n, row in enumerate(
        rows_of(file, "narration_id", "video_id", "verb_class", "noun_class", *frames)
    ):
        start, stop = (whole_number(row[name], file, n) / _SUBSTITUTE_FPS for name in frames)
        verb, noun = (whole_number(row[f"{kind}_class"], file, n) for kind in ("verb", "noun"))
        clips.append(
            ClipRow(row["narration_id"], row["video_id"], (start, stop), None, verb, (noun,), False)
        )
    return clips


def read_sentences(root: Path, split: Split, clips: list[ClipRow]) -> list[SentenceRow]:
    """Read the sentences of a split.

    Clips that stand for one get its nouns if they lack them. For test the text is that clip's
    narration.
    """
    file = find(root, f"EPIC_100_retrieval_{split}_sentence.csv")
    known = {clip.narration_id: clip for clip in clips}
    sentences, lost = [], []
    for n, row in enumerate(rows_of(file, "narration_id", "narration")):
        clip = known.get(row["narration_id"])
        if clip is None:
            lost.append(row["narration_id"])
            continue
        if "noun_classes" in row and not clip.whole:
            clip.nouns, clip.whole = _nouns(row["noun_classes"], file, n), True
        text = row["narration"]
        if split == "test" and clip.narration is not None:
            text = clip.narration
        sentences.append(SentenceRow(clip.narration_id, text, clip.verb, clip.nouns))
    if lost:
        raise ValueError(
            f"{file}: {len(lost)} sentences stand for clips that the {split} split does not have, "
            f"first: {lost[0]}"
        )
    return sentences


@dataclass(frozen=True)
class EpicClasses:
    """Names of the classes by number, and the classes of the tail.

    Attributes:
        verbs: 97 names.
        nouns: 300 names.
        tail_verbs: verb classes that the benchmark counts as tail.
        tail_nouns: the same of nouns.
    """

    verbs: tuple[str, ...]
    nouns: tuple[str, ...]
    tail_verbs: frozenset[int]
    tail_nouns: frozenset[int]


def epic_classes(root: str | Path) -> EpicClasses:
    """Read the class and tail files.

    Raises:
        FileNotFoundError: a file is missing, with where to get it.
        ValueError: class numbers are not 0, 1, ... in order.
    """
    folder = expanded(root)
    names = {}
    for kind in ("verb", "noun"):
        file = find(folder, f"EPIC_100_{kind}_classes.csv", f"EPIC_100_{kind}_classes_v2.csv")
        rows = rows_of(file, "id", "key")
        numbers = [whole_number(row["id"], file, n) for n, row in enumerate(rows)]
        if numbers != list(range(len(rows))):
            raise ValueError(f"{file}: class numbers are not 0 .. {len(rows) - 1} in order")
        names[kind] = tuple(row["key"] for row in rows)
    tails = {}
    for kind in ("verb", "noun"):
        file = find(folder, f"EPIC_100_tail_{kind}s.csv")
        tails[kind] = frozenset(
            whole_number(row[kind], file, n) for n, row in enumerate(rows_of(file, kind))
        )
    return EpicClasses(names["verb"], names["noun"], tails["verb"], tails["noun"])


def rows_of(file: Path, *columns: str) -> list[dict[str, Any]]:
    """Return the rows of a csv file, cells as text.

    Raises:
        ValueError: a column is missing, with those that are there.
    """
    rows = read_rows(file, text=(*columns, "noun_classes"))
    missing = [name for name in columns if rows and name not in rows[0]]
    if missing or not rows:
        names = ", ".join(column_names(rows)) or "none"
        raise ValueError(f"{file}: no rows with a column {', '.join(missing)}; columns: {names}")
    return rows


def find(root: Path, *names: str) -> Path:
    """Return the first of these files that is there, as it is or gzipped.

    Raises:
        FileNotFoundError: none is, with where to get it.
    """
    for name in names:
        path = present(root, name)
        if path is not None:
            return path
    raise FileNotFoundError(f"no {names[0]} or {names[0]}.gz in {root}: {SOURCE}")


def present(root: Path, name: str) -> Path | None:
    """Return the file of that name in one of the usual folders, or None."""
    for folder in _FOLDERS:
        for suffix in ("", ".gz"):
            file = root / folder / f"{name}{suffix}"
            if file.is_file():
                return file
    return None


def whole_number(cell: str, file: Path, row: int) -> int:
    """Return the cell as a number >= 0."""
    if not cell.isascii() or not cell.isdigit():
        raise ValueError(f"{file}, row {row}: {cell!r} is not a whole number")
    return int(cell)


def _frames(row: dict[str, Any]) -> tuple[int, int] | None:
    """Return the official frame numbers, if the file has them."""
    start, stop = row.get("start_frame"), row.get("stop_frame")
    if type(start) is int and type(stop) is int and start >= 0:
        return start, stop
    return None


def _nouns(cell: str, file: Path, row: int) -> Nouns:
    try:
        return _parsed(cell)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(
            f"{file}, row {row}: {cell!r} is not a list of noun classes such as [2, 49]"
        ) from error


@lru_cache(maxsize=1 << 14)
def _parsed(cell: str) -> Nouns:
    value = ast.literal_eval(cell)
    if not isinstance(value, list) or not value or any(type(n) is not int or n < 0 for n in value):
        raise ValueError(cell)
    return tuple(dict.fromkeys(value))


def _second(cell: str, file: Path, row: int) -> float:
    """Convert hours, minutes and seconds, "00:01:02.53", to seconds."""
    try:
        hours, minutes, seconds = cell.split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    except ValueError as error:
        raise ValueError(
            f"{file}, row {row}: {cell!r} is not a time such as 00:01:02.53"
        ) from error
