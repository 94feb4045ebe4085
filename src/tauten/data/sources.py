"""Tables and WebDataset shards on disk, as samples."""

import io
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from tauten.data.shards import is_shard, read_shard
from tauten.structure.cells import missing, short, some
from tauten.structure.tables import column_names, headed, parse_json, read_rows, table_kind

Media = Literal["image", "raw", "text"]

#: extensions of pictures that count where a sample has none of a common kind
RARER = ("jfif", "jpe", "avif", "apng", "dib", "pgm", "pbm", "pnm", "jp2", "j2k", "mpo", "tga")
IMAGE_EXTENSIONS = ("jpg", "jpeg", "png", "webp", "bmp", "gif", "tif", "tiff", "ppm", *RARER)
#: columns of pictures in a table without a column "image"; img2dataset writes jpg, png or webp
_OTHER_NAMES = ("file_name", "jpg", "png", "webp")


@dataclass
class Sample:
    """One sample as found, before anything is checked.

    Attributes:
        where: file, row or member, for messages.
        media: the picture as {"bytes", "path"}, or anything else that was found for it; None:
            nothing.
        fields: all other columns.
        problem: why it cannot be used, if the reader knows already.
        pictures: how many files it stands for, where several were taken for one sample.
    """

    where: str
    media: Any
    fields: dict[str, Any] = field(default_factory=dict)
    problem: str | None = None
    pictures: int = 1


@dataclass(frozen=True)
class Request:
    """Settings of what to look for in a folder.

    Attributes:
        image: column of the first modality.
        caption: column of the captions.
        media: kind of the first modality.
        allow_truncated: use what is whole in a shard that is cut.
        class_folders: take the folders of pictures without captions as their classes.
        bare: take pictures without anything beside them, too.
        partial: columns of further modalities, whose members are no pictures of the first one.
    """

    image: str = "image"
    caption: str = "caption"
    media: Media = "image"
    allow_truncated: bool = False
    class_folders: bool = False
    bare: bool = False
    partial: tuple[str, ...] = ()

    @property
    def extensions(self) -> tuple[str, ...]:
        """File extensions of the first modality."""
        return IMAGE_EXTENSIONS if self.image == "image" else (self.image.lower(),)

    def media_of(self, members: Iterable[str]) -> list[str]:
        """Return the extensions of a sample's members that are its first modality.

        A picture of a rarer kind counts where there is none of a common kind.
        """
        media = [name for name in members if name in self.extensions]
        return [name for name in media if name not in RARER] or media

    def absent(self, key: str, members: Sequence[str]) -> tuple[str, int]:
        """Say that a sample has no member of the first modality, and how many pictures it has.

        A sample's name ends at the first dot: files whose names have dots fall into one sample.
        """
        beside = [name for name in members if name not in self.partial]
        dots = [name for name in beside if name.rpartition(".")[2] in self.extensions]
        if self.image == "image" and dots:
            return (
                f"name with dots: {len(dots)} pictures begin with '{short(key, 80)}.' and are one "
                f"sample ({key}.{short(dots[0], 80)}), whose name ends at the first dot: name the "
                f"files without dots, or choose one picture of each sample, image={dots[0]!r} "
                "(--data.image)",
                len(dots),
            )
        names = some(f".{name}" for name in members)
        return ("no image" if self.image == "image" else f"no .{self.image}") + f": {names}", 1


def read_files(files: list[Path], request: Request, warnings: list[str]) -> Iterator[Sample]:
    """Read tables and shards one after the other.

    Raises:
        ValueError: a file of another kind.
    """
    for file in files:
        if is_shard(file):
            yield from _read_shard(file, request, warnings)
        elif table_kind(file) not in (None, ".txt") or headed(file, request.image, request.caption):
            yield from _read_table(file, request)
        else:
            raise ValueError(
                f"{file}: cannot read pairs from this kind of file; expected .tar, .tar.gz, "
                ".parquet, .json, .jsonl, .csv, .tsv, or a folder"
                + (" (a table with another name: rename it)" if table_kind(file) else "")
            )


def _read_table(file: Path, request: Request) -> Iterator[Sample]:
    rows = read_rows(file, text=[request.image, request.caption, "file_name"])
    columns = column_names(rows)
    return table_samples(rows, columns, f"{file}, row ", file.parent, request)


def table_samples(
    rows: Sequence[dict[str, Any]],
    columns: Sequence[str],
    where: str,
    base: Path,
    request: Request,
    first: int = 0,
) -> Iterator[Sample]:
    """Make samples of rows.

    Args:
        rows: rows of a table.
        columns: that it has.
        where: for messages, the number of the row follows.
        base: folder that paths are relative to.
        request: names of the two columns.
        first: number of the first row.

    Raises:
        ValueError: no column of that name.
    """
    image = request.image
    if image == "image" and "image" not in columns:
        image = next((name for name in _OTHER_NAMES if name in columns), image)
    if rows and image not in columns:
        raise ValueError(
            f"{where.removesuffix(', row ')}: no column {image!r}; columns: {some(columns, 20)}; "
            "choose one with image= (--data.image)"
        )
    for number, row in enumerate(rows, first):
        fields = {name: value for name, value in row.items() if name != image}
        media, problem = row.get(image), None
        if request.media == "image":
            media, problem = stored_picture(media, base)
        yield Sample(f"{where}{number}", media, fields, problem)


def stored_picture(value: Any, base: Path) -> tuple[Any, str | None]:
    """Bring a cell of an image column to {"bytes", "path"}."""
    if isinstance(value, bytes):
        return {"bytes": value, "path": None}, None
    if isinstance(value, dict):
        if value.get("bytes") is not None:
            return {"bytes": value["bytes"], "path": None}, None
        value = value.get("path")
    if missing(value):
        return None, "no image"
    if not isinstance(value, str):
        kind = type(value).__name__
        return None, f"the image is neither path nor bytes: {kind} (features need media='raw')"
    if "://" in value:
        return None, f"the image is an address: {short(value, 200)} (download it first)"
    return {"bytes": None, "path": str(_located(value, base).absolute())}, None


def _located(name: str, base: Path) -> Path:
    """Return the file of this name beside a table, or in its folder `images`; also of Windows."""
    for text in dict.fromkeys((name, name.replace("\\", "/"))):
        for folder in ("", "images", "Images"):
            if (base / folder / text).is_file():
                return base / folder / text
    return base / name


def _read_shard(shard: Path, request: Request, warnings: list[str]) -> Iterator[Sample]:
    samples, damage = read_shard(shard, request.allow_truncated)
    if damage is not None:
        warnings.append(damage)
    while samples:
        key = next(iter(samples))
        members = samples.pop(key)
        sample = Sample(f"{shard}, sample {key}", None)
        media = request.media_of(members)
        if len(media) > 1:
            raise ValueError(
                f"{shard}: sample {key} has {len(media)} images ({dotted(tuple(media))}): "
                f"choose one, for example image={media[0]!r} (--data.image)"
            )
        if not media:
            sample.problem, sample.pictures = request.absent(key, list(members))
        elif request.media == "image":
            sample.media = {"bytes": members.pop(media[0]), "path": None}
        else:
            sample.media = decode_member(media[0], members.pop(media[0]))
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
    """Return the value of a file beside a picture, by its extension; unknown ones stay bytes.

    Raises:
        ValueError: content that is not what the extension says.
    """
    if extension in ("txt", "caption"):
        return content.decode("utf-8-sig").strip()
    if extension == "cls":
        text = content.decode("utf-8-sig").strip()
        return int(text) if re.fullmatch(r"[+-]?\d+", text) else text
    if extension == "npy":
        return np.load(io.BytesIO(content), allow_pickle=False).tolist()
    if extension == "json":
        value = parse_json(content, "json")
        if not isinstance(value, dict):
            raise ValueError(f"expected an object, found {type(value).__name__}")
        return value
    return content


def dotted(extensions: tuple[str, ...]) -> str:
    """Return extensions as they are written in messages."""
    return some((f".{extension}" for extension in extensions), 9)
