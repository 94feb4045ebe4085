"""A folder of embeddings, opened where it lies and read as far as it is asked."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tauten.files import need, read_json, replacing, sha256
from tauten.inference.searching import nearest

if TYPE_CHECKING:
    import numpy.typing as npt

    from tauten.inference.model import Model
    from tauten.inference.samples import Samples

RECORD, MARK, FORMAT = "embeddings.json", "tauten_embeddings", 1
SIDES = ("images", "texts")
_ROWS = 4096
#: bytes of an array up to which every byte is checked when it is opened
CHECKED = 2**28


class Embedded:
    """Files that ``tauten embed`` wrote, memory-mapped.

    Args:
        folder: that it wrote to.

    Attributes:
        images: (N, d) float32, rows of length 1; no rows where the model embeds no pictures.
        texts: (M, d) likewise.

    Raises:
        ValueError: another folder, unfinished or damaged embeddings.
    """

    images: npt.NDArray[np.float32]
    texts: npt.NDArray[np.float32]

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)
        self.record = read_record(self.folder)
        if not self.record["complete"]:
            done = ", ".join(f"{self.record['done'][s]} of {self.record[s]} {s}" for s in SIDES)
            raise ValueError(
                f"{self.folder} is not finished ({done}): the same tauten embed goes on with it"
            )
        self.images, self.texts = (self._opened(side) for side in SIDES)
        self._tables = {side: self._opened_table(side) for side in SIDES}

    def __repr__(self) -> str:
        counts = f"{len(self.images)} images and {len(self.texts)} texts"
        return f"Embedded({str(self.folder)!r}: {counts} of width {self.record['dim']})"

    def rows(self, side: str, positions: list[int]) -> list[dict[str, Any]]:
        """Return what is known of images or texts at these positions.

        Only the parts of the table that have them are read.

        Raises:
            ValueError: another side, or a position that is not there.
        """
        table = self._tables[_known(side)]
        for position in positions:
            if not 0 <= position < table.metadata.num_rows:
                raise ValueError(
                    f"{self.folder} has {table.metadata.num_rows} {side}, no row {position}"
                )
        starts = np.cumsum(
            [0] + [g.num_rows for g in map(table.metadata.row_group, range(table.num_row_groups))]
        )
        groups = (np.searchsorted(starts, positions, side="right") - 1).tolist()
        parts = {group: table.read_row_group(group) for group in set(groups)}
        return [
            parts[group].slice(position - int(starts[group]), 1).to_pylist()[0]
            for group, position in zip(groups, positions, strict=True)
        ]

    def search(self, queries: Any, k: int = 10, side: str = "images") -> list[list[dict[str, Any]]]:
        """Find the most similar images or texts of each vector.

        Args:
            queries: (Q, d) or (d,), such as :meth:`tauten.inference.Model.encode_text` returns.
            k: number of results for each query.
            side: "images" or "texts".

        Returns:
            For each query a list of rows, the best first, with ``score`` (cosine) and ``row``.

        Raises:
            ValueError: k < 1, another width, or a side without embeddings.
        """
        where = getattr(self, _known(side))
        if not len(where):
            raise ValueError(f"{self.folder} has no embeddings of {side}")
        rows_found = nearest(queries, where, k, unit=True)
        return [
            [
                {"row": row, "score": score, **row_of_table}
                for row, score, row_of_table in zip(
                    rows, scores, self.rows(side, rows), strict=True
                )
            ]
            for scores, rows in zip(
                rows_found.scores.tolist(), rows_found.rows.tolist(), strict=True
            )
        ]

    def model(self, name: str | Path | None = None) -> Model:
        """Load the model that the embeddings are of.

        Args:
            name: where it is now, if it was moved.

        Raises:
            ValueError: it is not there, or its weights are others.
        """
        from tauten.inference.loading import load

        stored = self.record["model"]
        given = name
        if given is None:
            given = stored["name"]
            if "place" in stored:
                given = Path(os.path.normpath(self.folder.absolute() / stored["place"]))
                if not given.is_dir():
                    raise ValueError(
                        f"{self.folder} is of the model {stored['name']}, which is not at {given} "
                        "any more: say where it is with model= (--model)"
                    )
        loaded = load(given)
        if loaded.fingerprint() != self.record["model_fingerprint"]:
            raise ValueError(
                f"{self.folder} holds embeddings of other weights than {given} has now: embed "
                "again, or name the model that they are of with model= (--model)"
            )
        return loaded

    def _opened_table(self, side: str) -> Any:
        import pyarrow as pa
        import pyarrow.parquet as pq

        path, rows = self.folder / f"{side}.parquet", self.record[side]
        try:
            table = pq.ParquetFile(path)
        except (OSError, pa.ArrowInvalid) as error:
            raise ValueError(f"{path} is missing or damaged: embed again") from error
        if rows and table.metadata.num_rows != rows:
            raise ValueError(f"{path} has {table.metadata.num_rows} rows, not {rows}: embed again")
        return table

    def _opened(self, side: str) -> Any:
        path, shape = self.folder / f"{side}.npy", (self.record[side], self.record["dim"])
        if not shape[0]:
            return np.empty(shape, np.float32)
        try:
            loaded = np.load(path, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"{path} is missing or damaged: embed again") from error
        expected = self.record.get("sums", {}).get(path.name)
        if expected is not None and sha256(path) != expected:
            raise ValueError(f"{path} is missing or damaged: embed again")
        if loaded.shape != shape:
            raise ValueError(f"{path} has the shape {loaded.shape}, not {shape}: embed again")
        return loaded


def _known(side: str) -> str:
    if side not in SIDES:
        raise ValueError(f"side is images or texts, got {side!r}")
    return side


def read_record(folder: Path) -> dict[str, Any]:
    """Read what a folder of embeddings says of itself.

    Raises:
        ValueError: it is no such folder, or of another version.
    """
    path = folder / RECORD
    if not path.is_file():
        raise ValueError(f"{folder} is no folder of embeddings: tauten embed writes one")
    record = read_json(path)
    kinds = {"images": int, "texts": int, "dim": int, "done": dict, "complete": bool, "model": dict}
    need(record, {MARK: int, **kinds, "data": str, "model_fingerprint": str}, path)
    need(record["model"], {"name": str}, f"{path}: model")
    need({"sums": {}} | record, {"sums": dict}, path)
    if record[MARK] != FORMAT:
        raise ValueError(f"{path} has the format {record[MARK]}, this version reads {FORMAT}")
    checked: dict[str, Any] = record
    return checked


def write_tables(folder: Path, samples: Samples) -> None:
    """Write what is known of each image and each text."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = pa.list_(pa.string())
    tables = {
        "images": {
            "image": pa.array(samples.ids, pa.string()),
            "file": pa.array(samples.files, pa.string()),
            "caption": pa.array(samples.captions, texts),
            "label": pa.array(samples.labels or [""] * len(samples.ids), pa.string()),
        },
        "texts": {
            "text": pa.array(samples.texts, pa.string()),
            "images": pa.array(samples.images_of_text, pa.list_(pa.int64())),
        },
    }
    for side, columns in tables.items():
        with replacing(folder / f"{side}.parquet") as file:
            pq.write_table(pa.table(columns), file, row_group_size=_ROWS)
