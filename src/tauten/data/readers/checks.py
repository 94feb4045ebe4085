"""Findings about a data set, compared with what was published, before anything is trained."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain, compress, islice
from pathlib import Path

from tqdm import tqdm

from tauten.data.check import Finding, Report, equal
from tauten.data.pixels import unreadable
from tauten.data.readers.entries import Collection, Entry, evenly, stored
from tauten.data.video import Clip, video_problem

_NAMED = 3
_CHUNK = 256


@dataclass(frozen=True)
class Figures:
    """Published numbers of one split; None where none is published.

    Attributes:
        samples: pictures or clips.
        captions: texts of all of them.
        classes: different labels.
        largest: samples of the largest class.
        smallest: samples of the smallest class.
    """

    samples: int | None = None
    captions: int | None = None
    classes: int | None = None
    largest: int | None = None
    smallest: int | None = None


@dataclass(frozen=True)
class Reader:
    """One data set.

    Attributes:
        name: what the command line calls it.
        about: one line.
        source: where to get it.
        read: makes a :class:`Collection` of a folder. It raises FileNotFoundError or ValueError
            with the file where the annotations are missing or do not parse.
        figures: published numbers by split. A split that is not named must not be there.
        exact: whether other numbers than the published ones speak against the data. Not so where
            samples come from links that die.
        needs_media: whether annotations alone are of no use. Of videos they are: with features
            that were computed elsewhere.
        usual: gives the folder where none is named, of what is installed; None where there is
            none.
    """

    name: str
    about: str
    source: str
    read: Callable[[Path], Collection]
    figures: Mapping[str, Figures] = field(default_factory=dict)
    exact: bool = True
    needs_media: bool = True
    usual: Callable[[], Path] | None = None

    def check(self, root: Path, *, everything: bool = False, progress: bool = True) -> Report:
        """Read the annotations, count, and look at the media.

        Args:
            root: folder of the data set.
            everything: decode all pictures and videos, not 64 evenly spaced ones.
            progress: show bars where it takes long.

        Returns:
            The report. Nothing is raised for what is wrong with the data.
        """
        try:
            collection = self.read(root)
        except (ValueError, OSError) as error:
            return self._unread(root, str(error))
        except (KeyError, TypeError, AttributeError) as error:
            kind = type(error).__name__
            return self._unread(root, f"annotations of another form than published: {kind} {error}")
        findings = [
            *self._counts(collection),
            *collection.notes,
            *_media(self, collection, everything, progress),
        ]
        return Report(
            self.name, root, collection.variant, tuple(findings), collection.fingerprint()
        )

    def _unread(self, root: Path, problem: str) -> Report:
        remedy = f"{problem}; get the data from {self.source}"
        finding = Finding("annotations", None, None, False, remedy)
        return Report(self.name, root, "not read", (finding,))

    def _counts(self, collection: Collection) -> Iterator[Finding]:
        splits, published = _names(collection.splits), _names(self.figures)
        yield equal("splits", splits, published or None, self._remedy(), fatal=self.exact)
        for split, entries in collection.splits.items():
            figures = self.figures.get(split, Figures())
            numbers = _numbers(entries, figures) if collection.held else _length(entries, figures)
            for name, count, expected in numbers:
                yield equal(f"{split} {name}", count, expected, self._remedy(), fatal=self.exact)
        if collection.held:
            twice, shared = _repeated(collection), _shared(collection)
            yield equal("ids twice in a split", twice, 0, "remove the repeated samples")
            yield equal("ids in two splits", shared, 0, "the splits must not share samples")

    def _remedy(self) -> str:
        return f"these are not the published splits: compare the annotations with {self.source}"


def _names(splits: Iterable[str]) -> str:
    return ", ".join(sorted(splits))


def _length(entries: Sequence[Entry], published: Figures) -> Iterator[tuple[str, int, int | None]]:
    yield "samples", len(entries), published.samples


def _numbers(entries: Sequence[Entry], published: Figures) -> Iterator[tuple[str, int, int | None]]:
    yield from _length(entries, published)
    captions = sum(len(entry.captions) for entry in entries)
    if captions or published.captions:
        yield "captions", captions, published.captions
    classes = Counter(entry.label for entry in entries if entry.label is not None)
    if classes or published.classes:
        yield "classes", len(classes), published.classes
        yield "largest class", max(classes.values(), default=0), published.largest
        yield "smallest class", min(classes.values(), default=0), published.smallest


def _repeated(collection: Collection) -> int:
    return sum(
        len(entries) - len({entry.id for entry in entries})
        for entries in collection.splits.values()
    )


def _shared(collection: Collection) -> int:
    splits = Counter(
        name for entries in collection.splits.values() for name in {entry.id for entry in entries}
    )
    return sum(count > 1 for count in splits.values())


def _media(
    reader: Reader, collection: Collection, everything: bool, progress: bool
) -> Iterator[Finding]:
    splits = [collection.splits[name] for name in sorted(collection.splits)]
    if not collection.held:
        tried = chain(*splits) if everything else chain(*map(evenly, splits))
        yield _readable(tried, progress, reader.exact)
        return
    entries = list(chain(*splits))
    files = _Files()
    bar = tqdm(entries, "looking for media", delay=2.0, disable=not progress)
    present = [files.has(_path(entry)) for entry in bar]
    there = list(compress(entries, present))
    missing = dict.fromkeys(
        str(_path(entry)) for entry, has in zip(entries, present, strict=True) if not has
    )
    names = ", ".join(list(missing)[:_NAMED])
    remedy = f"{len(missing):,} files are missing, such as {names}: see {reader.source}"
    fatal = reader.needs_media and (reader.exact or not there)
    yield equal("samples with media", len(there), len(entries), remedy, fatal=fatal)
    if there:
        yield _readable(there if everything else evenly(there), progress, reader.exact)


def _path(entry: Entry) -> Path | None:
    media = entry.media
    if isinstance(media, Clip):
        return media.path
    return media if isinstance(media, Path) else None


class _Files:
    """A cache of folder listings that tells whether files exist."""

    def __init__(self) -> None:
        self._names: dict[Path, set[str]] = {}

    def has(self, path: Path | None) -> bool:
        """Return whether the file exists; None, which is no file of its own, counts as there."""
        if path is None:
            return True
        folder = path.parent
        if folder not in self._names:
            self._names[folder] = set(os.listdir(folder)) if folder.is_dir() else set()  # noqa: PTH208
        return path.name in self._names[folder]


def _readable(entries: Iterable[Entry], progress: bool, exact: bool) -> Finding:
    """Decode media, several at a time."""
    name = "readable media of those tried"
    left, count, problems = iter(entries), 0, []
    try:
        with (
            ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool,
            tqdm(desc="decoding", unit=" media", delay=2.0, disable=not progress) as bar,
        ):
            while chunk := list(islice(left, _CHUNK)):
                for entry, text in zip(chunk, pool.map(_problem, chunk), strict=True):
                    problems += [f"{entry.id}: {text}"] if text is not None else []
                count += len(chunk)
                bar.update(len(chunk))
    except ImportError as error:
        return Finding(name, 0, None, False, str(error), fatal=False)
    remedy = f"unreadable: {'; '.join(problems[:_NAMED])}: get them again"
    fatal = exact or len(problems) == count
    return equal(name, count - len(problems), count, remedy, fatal=fatal)


def _problem(entry: Entry) -> str | None:
    if isinstance(entry.media, str):
        return None
    if isinstance(entry.media, Clip):
        return video_problem(entry.media.path)
    return unreadable(stored(entry.media))
