"""What lies on disk, as samples: a folder, tables, WebDataset shards."""

import glob
import io
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tauten.data.shards import is_shard, read_shard
from tauten.structure.tables import column_names, read_rows, table_kind

Media = Literal["image", "raw"]

IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm")
_METADATA = tuple(f"metadata.{kind}" for kind in ("jsonl", "csv", "parquet", "json"))


@dataclass
class Sample:
    """One sample as found, before anything is checked.

    Attributes:
        where: file, row or member, for messages.
        media: the picture as {"bytes", "path"}, or anything else that was found for it; None:
            nothing.
        fields: all other columns.
        problem: why it cannot be used, if the reader knows already.
    """

    where: str
    media: Any
    fields: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None


@dataclass(frozen=True)
class Request:
    """What to look for: names of the two columns, kind of the first, tolerance for cut shards."""

    image: str = "image"
    caption: str = "caption"
    media: Media = "image"
    allow_truncated: bool = False

    @property
    def extensions(self) -> tuple[str, ...]:
        """File extensions of the first modality."""
        return IMAGE_EXTENSIONS if self.image == "image" else (self.image.lower(),)


def find_samples(path: str | Path, request: Request) -> tuple[Iterator[Sample], list[str]]:
    """Find out what `path` is and read it.

    Returns:
        The samples, read lazily, and warnings, filled while reading.

    Raises:
        FileNotFoundError: nothing is there.
        ValueError: nothing that can be read is there, or several things and it is not clear which.
    """
    warnings: list[str] = []
    found = Path(path).expanduser()
    if found.is_dir():
        return _read_folder(found, request, warnings), warnings
    if found.is_file():
        return _read_files([found], request, warnings), warnings
    files = sorted(Path(match) for match in glob.glob(str(found)))  # noqa: PTH207
    if not files:
        raise FileNotFoundError(f"no such file or folder: {path}")
    return _read_files(files, request, warnings), warnings


def _read_folder(folder: Path, request: Request, warnings: list[str]) -> Iterator[Sample]:
    files = sorted(f for f in folder.iterdir() if f.is_file() and not f.name.startswith("."))
    metadata = [file for file in files if file.name.lower() in _METADATA]
    shards = [file for file in files if is_shard(file)]
    pictures = _pictures(folder, request)
    sidecars = any(_sidecars(picture) for picture in pictures)
    tables = [file for file in files if table_kind(file) not in (None, ".txt")]
    if len(metadata) > 1 or (not metadata and not shards and not sidecars and len(tables) > 1):
        names = ", ".join(file.name for file in metadata or tables)
        raise ValueError(f"{folder} holds several tables ({names}): name one of them")
    if shards and sidecars and not metadata:
        raise ValueError(
            f"{folder} holds tar files as well as pictures with captions beside them: name the tar "
            f"files ({folder / '*.tar'}) or move one kind away"
        )
    if metadata or shards:
        return _read_files(metadata or shards, request, warnings)
    if sidecars:
        return _read_pictures(folder, pictures, request)
    if tables:
        return _read_files(tables, request, warnings)
    raise ValueError(
        f"no pairs found in {folder}: {len(pictures)} files of kind {dotted(request.extensions)}, "
        "none with a .txt or .json of the same name, no metadata.csv or .jsonl, no .tar, no table"
    )


def _read_files(files: list[Path], request: Request, warnings: list[str]) -> Iterator[Sample]:
    for file in files:
        if is_shard(file):
            yield from _read_shard(file, request, warnings)
        elif table_kind(file) not in (None, ".txt"):
            yield from _read_table(file, request)
        else:
            raise ValueError(
                f"{file}: cannot read pairs from this kind of file; expected .tar, .tar.gz, "
                ".parquet, .json, .jsonl, .csv, .tsv, or a folder"
            )


def _read_table(file: Path, request: Request) -> Iterator[Sample]:
    rows = read_rows(file, text=[request.image, request.caption, "file_name"])
    columns = column_names(rows)
    image = request.image
    if image == "image" and "image" not in columns and "file_name" in columns:
        image = "file_name"
    if rows and image not in columns:
        raise ValueError(f"{file}: no column {image!r}; columns: {', '.join(columns)}")
    for number, row in enumerate(rows):
        fields = {name: value for name, value in row.items() if name != image}
        media, problem = row.get(image), None
        if request.media == "image":
            media, problem = stored_picture(media, file.parent)
        yield Sample(f"{file}, row {number}", media, fields, problem)


def stored_picture(value: Any, base: Path) -> tuple[Any, str | None]:
    """Bring a cell of an image column to {"bytes", "path"}."""
    if value is None or value == "":
        return None, "no image"
    if isinstance(value, bytes):
        return {"bytes": value, "path": None}, None
    if isinstance(value, dict):
        if value.get("bytes") is not None:
            return {"bytes": value["bytes"], "path": None}, None
        value = value.get("path")
    if not isinstance(value, str):
        kind = type(value).__name__
        return None, f"the image is neither path nor bytes: {kind} (features need media='raw')"
    if "://" in value:
        return None, f"the image is an address: {value} (download it first)"
    return {"bytes": None, "path": str((base / value).absolute())}, None


def _read_pictures(folder: Path, pictures: list[Path], request: Request) -> Iterator[Sample]:
    for picture in pictures:
        name = picture.relative_to(folder).with_suffix("").as_posix()
        stored = {"bytes": None, "path": str(picture.absolute())}
        members = {file.suffix[1:].lower(): file.read_bytes() for file in _sidecars(picture)}
        sample = Sample(str(picture), stored if request.media == "image" else stored["path"])
        yield with_members(sample, name, members)


def _read_shard(shard: Path, request: Request, warnings: list[str]) -> Iterator[Sample]:
    samples, damage = read_shard(shard, request.allow_truncated)
    if damage is not None:
        warnings.append(damage)
    while samples:
        key = next(iter(samples))
        members = samples.pop(key)
        sample = Sample(f"{shard}, sample {key}", None)
        found = [name for name in members if name in request.extensions]
        if len(found) > 1:
            raise ValueError(
                f"{shard}: sample {key} has {len(found)} images ({dotted(tuple(found))}): "
                f"choose one, for example image={found[0]!r}"
            )
        if not found:
            sample.problem = "no image" if request.image == "image" else f"no .{request.image}"
        elif request.media == "image":
            sample.media = {"bytes": members.pop(found[0]), "path": None}
        else:
            sample.media = decode_member(found[0], members.pop(found[0]))
        yield with_members(sample, key, members)


def with_members(sample: Sample, name: str, members: dict[str, bytes]) -> Sample:
    """Decode the files beside a picture: the keys of .json become columns, the others one each."""
    sample.fields["id"] = name
    for extension, content in members.items():
        try:
            value = decode_member(extension, content)
        except ValueError as error:
            sample.problem = sample.problem or f"unreadable .{extension}: {error}"
            continue
        if extension == "json":
            sample.fields |= value
        else:
            sample.fields[extension] = value
    return sample


def decode_member(extension: str, content: bytes) -> Any:
    """The value of a file beside a picture, by its extension; unknown ones stay bytes.

    Raises:
        ValueError: content that is not what the extension says.
    """
    if extension == "txt":
        return content.decode("utf-8-sig").strip()
    if extension == "cls":
        return int(content)
    if extension == "npy":
        return np.load(io.BytesIO(content), allow_pickle=False).tolist()
    if extension == "json":
        value = json.loads(content)
        if not isinstance(value, dict):
            raise ValueError(f"expected an object, found {type(value).__name__}")
        return value
    return content


def _pictures(folder: Path, request: Request) -> list[Path]:
    return sorted(
        file
        for file in folder.rglob("*")
        if file.suffix[1:].lower() in request.extensions
        and _visible(file.relative_to(folder))
        and file.is_file()
    )


def _sidecars(picture: Path) -> list[Path]:
    candidates = (picture.with_suffix(suffix) for suffix in (".txt", ".json"))
    return [file for file in candidates if file.is_file()]


def _visible(path: Path) -> bool:
    return not any(part.startswith(".") or part == "__MACOSX" for part in path.parts)


def dotted(extensions: tuple[str, ...]) -> str:
    """Extensions as they are written in messages."""
    return ", ".join(f".{extension}" for extension in extensions)
