"""Folders of pairs: with a table, shards, texts beside pictures, splits, or saved data sets."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from tauten.data.listing import (
    Walk,
    files_in,
    left_out,
    matches,
    shards_in,
    split_names,
    tables_in,
    walk,
)
from tauten.data.saved import is_hub, read_hub, read_saved
from tauten.data.sources import Request, Sample, dotted, read_files, with_members
from tauten.files import expanded
from tauten.structure.cells import some
from tauten.structure.tables import table_kind

logger = logging.getLogger("tauten.data")

_METADATA = tuple(f"metadata.{kind}" for kind in ("jsonl", "csv", "parquet", "json"))
_SIDECARS = (".txt", ".json", ".caption")
#: files that systems and repositories put beside data, by their names in small letters
_ABOUT = ("thumbs.db", "ehthumbs.db", "desktop.ini", "license", "licence", "readme")


def find_samples(path: str | Path, request: Request) -> tuple[Iterator[Sample], list[str]]:
    """Find out what `path` is and read it.

    Returns:
        The samples, read lazily, and warnings, filled while reading.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: nothing that can be read is there, or several things and it is not clear which.
    """
    warnings: list[str] = []
    if is_hub(path):
        return read_hub(str(path), request), warnings
    place = expanded(path)
    if place.is_dir():
        return _read_folder(place, request, warnings), warnings
    files = [place] if place.is_file() else matches(place)
    return read_files(files, request, warnings), warnings


def _read_folder(folder: Path, request: Request, warnings: list[str]) -> Iterator[Sample]:
    names = {file.name for file in files_in(folder)}
    if "dataset_dict.json" in names or {"dataset_info.json", "state.json"} <= names:
        return read_saved(folder, request)
    metadata = [file for file in files_in(folder) if file.name.lower() in _METADATA]
    shards, pictures = shards_in(folder), _Pictures(folder, request)
    if len(metadata) > 1:
        raise ValueError(f"{folder} holds several tables ({some(metadata)}): name one of them")
    if shards and pictures.texts and not metadata:
        raise ValueError(
            f"{folder} holds tar files as well as pictures with captions beside them: name the tar "
            f"files ({folder / '*.tar'}) or move one kind away"
        )
    if metadata or shards:
        return read_files(metadata or shards, request, warnings)
    if pictures.texts:
        parts = split_names({file.relative_to(folder).parts[0] for file in pictures.texts})
        return pictures.read(split_of_folder=bool(parts))
    tables, hub = tables_in(folder), folder / "data"
    if not any(file.suffix == ".parquet" for part in tables.values() for file in part):
        inside = tables_in(hub) if hub.is_dir() else {}
        if any(file.suffix == ".parquet" for part in inside.values() for file in part):
            tables = inside
    if splits := split_names(tables):
        return _splits({name: read_files(tables[name], request, warnings) for name in splits})
    if len(tables) > 1:
        files = [file.name for part in tables.values() for file in part]
        raise ValueError(f"{folder} holds several tables ({some(files)}): name one of them")
    if tables:
        return read_files(next(iter(tables.values())), request, warnings)
    folders = [file for file in folder.iterdir() if file.is_dir() and file.name[0] != "."]
    if splits := split_names(file.name for file in folders):
        return _splits({name: _read_folder(folder / name, request, warnings) for name in splits})
    if request.class_folders and len({file.parent for file in pictures.files} - {folder}) > 1:
        return pictures.read_classes()
    if request.bare and pictures.files:
        return pictures.read()
    raise ValueError(
        f"no pairs found in {folder}: {len(pictures.files)} files of kind "
        f"{dotted(request.extensions)}, none with a .txt or .json of the same name, no "
        "metadata.csv or .jsonl, no .tar, no table"
        + (_CLASSES if len({file.parent for file in pictures.files}) > 1 else "")
        + (_BARE if request.class_folders and pictures.files else "")
    )


_CLASSES = (
    ". Pictures in folders of their class have no captions to train pairs on: two views of one "
    "picture need none (for example 'tauten train caltech98_lt_simclr --data.label=label')"
)

_BARE = (
    ". Two views are judged by classes: put the pictures into a folder for each class, or give a "
    "table with their paths (file_name) and a class column. Without classes they are trained on "
    "with data.label=None evaluation.metric=last"
)


def _splits(parts: dict[str, Iterator[Sample]]) -> Iterator[Sample]:
    for name, samples in parts.items():
        for sample in samples:
            sample.fields.setdefault("split", name)
            yield sample


class _Pictures:
    """The pictures of a folder, at any depth, with the texts beside them.

    Attributes:
        files: the pictures.
        texts: the files beside each picture that has any.
    """

    def __init__(self, folder: Path, request: Request) -> None:
        self.folder, self.request = folder, request
        self.found: Walk = walk(folder)
        self.files = [f for f in self.found.files if f.suffix[1:].lower() in request.extensions]
        beside: dict[Path, dict[str, Path]] = defaultdict(dict)
        for file in self.found.files:
            if file.suffix.lower() in _SIDECARS:
                beside[file.with_suffix("")][file.suffix.lower()] = file
        self.texts: dict[Path, Sequence[Path]] = {}
        for picture in self.files:
            texts = beside.get(picture.with_suffix("")) or beside.get(picture)
            if texts:
                self.texts[picture] = [texts[kind] for kind in _SIDECARS if kind in texts]

    def read(self, split_of_folder: bool = False) -> Iterator[Sample]:
        """Yield every picture with what stands beside it; the log says what is left out.

        Args:
            split_of_folder: whether the first folder on the way to a picture names its split.
        """
        self._log()
        for picture in self.files:
            files = self.texts.get(picture, ())
            members = {file.suffix[1:].lower(): file.read_bytes() for file in files}
            sample = self._sample(picture)
            sample = with_members(sample, self._name(picture), members)
            if split_of_folder:
                sample.fields.setdefault("split", picture.relative_to(self.folder).parts[0])
            yield sample

    def read_classes(self) -> Iterator[Sample]:
        """Yield every picture with the name of its folder as label."""
        self._log()
        for picture in self.files:
            sample = self._sample(picture)
            sample.fields |= {"id": self._name(picture), "label": picture.parent.name}
            if picture.parent == self.folder:
                if self.request.bare:
                    sample.fields["label"] = None
                else:
                    sample.problem = "not in the folder of a class"
            yield sample

    def _sample(self, picture: Path) -> Sample:
        stored = {"bytes": None, "path": str(picture.absolute())}
        media = stored if self.request.media == "image" else stored["path"]
        return Sample(str(picture), media)

    def _name(self, picture: Path) -> str:
        return picture.relative_to(self.folder).with_suffix("").as_posix()

    def _log(self) -> None:
        used = {file for files in self.texts.values() for file in files}
        texts = [
            file
            for file in self.found.files
            if file.suffix.lower() in (".txt", ".caption") and file not in used
        ]
        pictures = set(self.files)
        unknown = [f for f in self.found.files if f not in pictures and _is_other(f)]
        elsewhere = {file.with_suffix("") for file in (*self.found.broken, *unknown)}
        alone = [text for text in texts if text.with_suffix("") not in elsewhere]
        kinds = {
            "of a kind that is not read": unknown,
            "texts without a picture": alone,
            "broken links": self.found.broken,
            "linked folders": self.found.linked,
        }
        if text := left_out(kinds, self.folder):
            logger.warning("left out in %s: %s", self.folder, text)


def _is_other(file: Path) -> bool:
    """Return whether a file is neither text nor table, nor one that is about the folder itself."""
    name = file.name.lower()
    about = name in _ABOUT or name.partition(".")[0] in _ABOUT
    return not about and file.suffix.lower() not in _SIDECARS and table_kind(file) is None
