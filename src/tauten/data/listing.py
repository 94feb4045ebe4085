"""Files of a folder or a pattern, the same for whoever reads them."""

from __future__ import annotations

import glob
import os
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tauten.data.shards import is_shard
from tauten.structure.cells import some
from tauten.structure.tables import headed, table_kind

#: names of folders and of parts of tables that say which split they are
SPLITS = ("train", "val", "valid", "validation", "dev", "test")

_BRACES = re.compile(r"\{([^{}]+)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_PART = re.compile(r"(?:(.*?)[-_.])?(\d+)(-of-\d+)?")
#: what img2dataset writes about each shard
_STATISTICS = "_stats.json"
_NUMBERED = (".parquet", ".jsonl")


def is_visible(path: Path) -> bool:
    """Return whether no part of a path is hidden or left by macOS."""
    return not any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def matches(pattern: str | Path) -> list[Path]:
    """Return the files of a path or pattern: `*`, `?`, `[ab]`, `{000..012}` and `{a,b}`.

    Files come in the order of their names, those of braces as the braces list them. Square brackets
    stand for themselves where they match nothing otherwise.

    Raises:
        FileNotFoundError: there are none, or one that braces name is not there.
    """
    paths: list[Path] = []
    for text in _expanded(str(pattern)):
        escaped = text.replace("[", "[[]")
        files = (
            [text] if os.path.lexists(text) else sorted(glob.glob(text) or glob.glob(escaped))  # noqa: PTH207
        )
        if not files:
            raise FileNotFoundError(f"no such file or folder: {text}{_known(text)}")
        paths += [Path(file) for file in files]
    return paths


def _known(text: str) -> str:
    """Say how a known data set is given, where its name alone was."""
    from tauten.data.readers import READERS

    if text == "emoji_lt":
        return "; the embedded data are no file: in Python give tauten.data.emoji_lt(SPLIT)"
    return f"; it is a known data set: give {text}:FOLDER" if text in READERS else ""


def _expanded(text: str) -> list[str]:
    braces = None if os.path.lexists(text) else _BRACES.search(text)
    if braces is None:
        return [text]
    span = _RANGE.fullmatch(braces.group(1))
    if span is None:
        names = braces.group(1).split(",")
        if len(names) == 1:
            return [text]
    else:
        low, high = span.groups()
        names = [str(number).zfill(len(low)) for number in range(int(low), int(high) + 1)]
    start, end = text[: braces.start()], text[braces.end() :]
    return [one for name in names for one in _expanded(f"{start}{name}{end}")]


def files_in(folder: Path) -> list[Path]:
    """Return the visible files of a folder, by name."""
    return sorted(
        file for file in folder.iterdir() if file.is_file() and is_visible(Path(file.name))
    )


def shards_in(folder: Path) -> list[Path]:
    """Return the tars of a folder, by name; the tables beside them are about them."""
    return [file for file in files_in(folder) if is_shard(file)]


def tables_in(folder: Path) -> dict[str, list[Path]]:
    """Return the tables of a folder by name; parts of one table, numbered without a gap, are one.

    The name of a table in parts is what stands before the number: "train" for
    train-00000-of-00002.parquet.
    """
    parts: dict[tuple[str, str, str], list[tuple[int, Path]]] = defaultdict(list)
    tables: dict[str, list[Path]] = {}
    files = files_in(folder)
    names = {file.name for file in files}
    for file in files:
        kind = table_kind(file)
        if file.name.endswith(_STATISTICS):
            about = file.name.removesuffix(_STATISTICS)
            kind = None if names & {f"{about}.parquet", f"{about}.tar"} else kind
        if kind is None or (kind == ".txt" and headed(file) is None):
            continue
        part = _PART.fullmatch(file.name.partition(kind)[0])
        if part is not None and (part.group(3) or kind in _NUMBERED):
            key = part.group(1) or "", part.group(3) or "", kind
            parts[key].append((int(part.group(2)), file))
        else:
            stem = file.name.partition(".")[0]
            tables[stem if stem in SPLITS and stem not in tables else file.name] = [file]
    for (name, total, kind), numbered in parts.items():
        numbers = [number for number, _ in sorted(numbered)]
        whole = numbers == list(range(numbers[0], numbers[0] + len(numbers))) and numbers[0] < 2
        if total and whole:
            whole = len(numbers) == int(total.removeprefix("-of-"))
        if total and not whole:
            raise FileNotFoundError(
                f"{folder} has {len(numbers)} of the {int(total.removeprefix('-of-'))} parts of "
                f"{name or 'a table'}, numbers {some(numbers)}: copy the others or name the files"
            )
        if whole:
            title = name if name and name not in tables else f"{name}{kind}"
            tables[title] = [file for _, file in sorted(numbered)]
        else:
            tables |= {file.name: [file] for _, file in numbered}
    return tables


def split_names(names: Iterable[str]) -> list[str]:
    """Return the names if all are of splits, there are two or more, and train is one; else none."""
    ordered = sorted(names, key=lambda name: SPLITS.index(name) if name in SPLITS else -1)
    whole = len(ordered) > 1 and "train" in ordered and all(name in SPLITS for name in ordered)
    return ordered if whole else []


@dataclass
class Walk:
    """Contents of a folder at any depth.

    Attributes:
        files: visible ones, in order.
        broken: links that lead nowhere.
        linked: folders behind links, which are not looked into.
    """

    files: list[Path] = field(default_factory=list)
    broken: list[Path] = field(default_factory=list)
    linked: list[Path] = field(default_factory=list)


def walk(folder: Path) -> Walk:
    """List a folder at any depth; hidden files and folders are left out."""
    walked = Walk()
    for place, folders, files in os.walk(folder):
        base = Path(place)
        folders[:] = [name for name in folders if is_visible(Path(name))]
        walked.linked += [base / name for name in folders if (base / name).is_symlink()]
        for name in filter(lambda name: is_visible(Path(name)), files):
            path = base / name
            if path.is_file():
                walked.files.append(path)
            elif path.is_symlink():
                walked.broken.append(path)
    for paths in (walked.files, walked.broken, walked.linked):
        paths.sort()
    return walked


def left_out(kinds: Mapping[str, Sequence[Path]], folder: Path) -> str:
    """Say how many files of each kind were left out, with a few names; "" for none."""
    return "; ".join(
        f"{len(paths)} {kind} ({some((path.relative_to(folder) for path in paths), 3)})"
        for kind, paths in kinds.items()
        if paths
    )
