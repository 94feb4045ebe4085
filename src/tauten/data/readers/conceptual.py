"""Conceptual Captions (CC3M) and CC12M, downloaded from links of which many have died.

Either WebDataset shards, as img2dataset writes them, or one table of local pictures with captions,
as open_clip reads it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from tauten.data.catalogue import Catalogue
from tauten.data.check import Finding
from tauten.data.listing import files_in, shards_in
from tauten.data.readers.checks import Reader
from tauten.data.readers.entries import Collection, Entry
from tauten.data.shard_index import index_shards
from tauten.data.sources import IMAGE_EXTENSIONS
from tauten.data.tar_index import read_members
from tauten.structure.cells import some
from tauten.structure.csv_text import read_separated

_PICTURE = ("filepath", "file_name", "image")
_CAPTION = ("title", "caption")
_INDEX = "catalogue.jsonl"


class ShardSamples(Sequence[Entry]):
    """Samples of a catalogue of tars, each read when it is asked for."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue

    def __len__(self) -> int:
        return len(self.catalogue)

    def __getitem__(self, index: int) -> Entry:  # type: ignore[override]
        shard, place = self.catalogue.locate(index)
        with shard.path.open("rb") as file:
            file.seek(int(shard.bounds[place]))
            key, members = read_members(
                file.read(int(shard.bounds[place + 1] - shard.bounds[place]))
            )
        picture = next((members[name] for name in IMAGE_EXTENSIONS if name in members), b"")
        caption = members.get("txt", b"").decode("utf-8", "replace").strip()
        return Entry(f"{shard.path.name}/{key}", picture, (caption,) if caption else ())


def conceptual(name: str, links: str, published: int) -> Callable[[Path], Collection]:
    """Make a reader of pictures that were downloaded from a published list of links.

    Args:
        name: name of the data set.
        links: the published table, counted if it is there.
        published: its number of lines.
    """

    def read(root: Path) -> Collection:
        notes = _listed(root / links, published)
        folders = sorted(file for file in root.iterdir() if file.is_dir() and file.name[0] != ".")
        shards = _tars(root) or [shard for folder in folders for shard in _tars(folder)]
        if shards:
            catalogue = _index(root, shards)
            samples = ShardSamples(catalogue)
            share = _share(len(samples), published)
            variant = f"{len(shards)} shards"
            return Collection(
                name, variant, {"train": samples}, (share, *notes), catalogue.fingerprint
            )
        table = _table(root, links)
        entries = list(_rows(table))
        share = _share(len(entries), published)
        return Collection(name, f"table {table.name}", {"train": entries}, (share, *notes))

    return read


def _tars(folder: Path) -> list[Path]:
    return [shard for shard in shards_in(folder) if shard.suffix.lower() == ".tar"]


def _index(root: Path, shards: list[Path]) -> Catalogue:
    """Return the index of the shards, kept in a file beside them where that can be written."""
    stored = root / _INDEX
    if stored.exists() or os.access(root, os.W_OK):
        return index_shards(shards, stored)
    with TemporaryDirectory() as folder:
        return index_shards(shards, Path(folder) / _INDEX)


def _share(here: int, published: int) -> Finding:
    text = f"{here / published:.1%} of the published links; results depend on which are left"
    return Finding("pairs that are left", here, published, here == published, text, fatal=False)


def _listed(file: Path, published: int) -> tuple[Finding, ...]:
    if not file.is_file():
        return ()
    with file.open("rb") as lines:
        count = sum(1 for _ in lines)
    remedy = f"{file} is cut or of another release"
    return (Finding("links listed", count, published, count == published, remedy, fatal=False),)


def _table(root: Path, links: str) -> Path:
    tables = [
        file
        for kind in ("tsv", "csv")
        for file in files_in(root)
        if file.suffix.lower() == f".{kind}" and file.name != links
    ]
    if len(tables) != 1:
        raise FileNotFoundError(
            f"{root} has neither *.tar shards nor one table (.csv, .tsv) with columns filepath and "
            f"title; tables: {', '.join(file.name for file in tables) or 'none'}"
        )
    return tables[0]


def _rows(table: Path) -> Iterator[Entry]:
    content = table.read_bytes()
    delimiter = "\t" if b"\t" in content.partition(b"\n")[0] else ","
    cells = read_separated(table, content, delimiter, (*_PICTURE, *_CAPTION))
    columns = cells.column_names
    picture = next((name for name in _PICTURE if name in columns), None)
    caption = next((name for name in _CAPTION if name in columns), None)
    if picture is None or caption is None:
        raise ValueError(
            f"{table}: need one of the columns {', '.join(_PICTURE)} and one of "
            f"{', '.join(_CAPTION)}; found {some(columns, 20)}"
        )
    for row in cells.select([picture, caption]).to_pylist():
        path, text = row[picture], (row[caption] or "").strip()
        yield Entry(path, table.parent / path, (text,) if text else ())


CC3M = Reader(
    name="cc3m",
    about="Conceptual Captions: WebDataset shards, or a table of pictures and captions",
    source="ai.google.com/research/ConceptualCaptions (Train_GCC-training.tsv), img2dataset",
    read=conceptual("cc3m", "Train_GCC-training.tsv", 3_318_333),
    exact=False,
)

CC12M = Reader(
    name="cc12m",
    about="Conceptual 12M: WebDataset shards, or a table of pictures and captions",
    source="github.com/google-research-datasets/conceptual-12m (cc12m.tsv), img2dataset",
    read=conceptual("cc12m", "cc12m.tsv", 12_423_374),
    exact=False,
)
