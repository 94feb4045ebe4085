"""Pairs on disk as a Hugging Face data set."""

import logging
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from datasets import Dataset
from tqdm import tqdm

from tauten.data.caption_cells import free_name, is_number, take_caption
from tauten.data.checked import Look, check_values, look_at, take_partial, usable
from tauten.data.folders import find_samples
from tauten.data.pairs_table import as_dataset
from tauten.data.pixels import unreadable
from tauten.data.sources import Media, Request, Sample
from tauten.structure.cells import counted, some

logger = logging.getLogger("tauten.data")

#: raises where names of columns are not those that are needed
Columns = Callable[[Sequence[str]], None]


def load_pairs(
    path: str | Path,
    *,
    image: str = "image",
    caption: str = "caption",
    strict: bool = False,
    allow_truncated: bool = False,
    media: Media = "image",
    captions: bool = True,
    bare: bool = False,
    partial: Sequence[str] = (),
    progress: bool = True,
) -> Dataset:
    """Load pairs of pictures (or anything else) and captions.

    `path` is one of

    * a table, .parquet, .csv, .tsv, .json (a list of objects, or captions as MSCOCO writes them) or
      .jsonl, or a .txt whose first line is "image,caption". Its image column holds paths relative
      to the table or to a folder `images` beside it, bytes, or {"bytes", "path"} as Hugging Face
      data sets write it. Without a column "image", "file_name" is taken.
    * a WebDataset shard, .tar or .tar.gz: `KEY.jpg` with `KEY.txt`, `KEY.json`, `KEY.cls`,
      `KEY.npy`. The keys of the json become columns if their types agree over all samples.
    * a folder: with one metadata.csv, .jsonl, .json or .parquet; or shards; or pictures (at any
      depth) with a .txt, .json or .caption of the same name; or a single table, perhaps in parts
      (train-00000-of-00004.parquet), also in its folder `data`; or what ``Dataset.save_to_disk``
      wrote. Tables or folders named train, val and test (or validation, dev) give a column `split`.
    * ``hf:ORG/NAME``, a data set of the Hugging Face hub, perhaps with ``:CONFIGURATION`` and
      ``@SPLIT``; it is loaded as a whole into the cache of ``datasets``.
    * a pattern such as "data/train-*.tar" or "data/train-{000..012}.tar", whose files are joined in
      the order of their names.

    Every picture is decoded once, to be sure that it can be. Pictures in files stay there; those in
    shards and tables are held in memory. What cannot be used, and what a folder holds beside, is
    counted in a line of the log.

    Args:
        path: where the pairs are.
        image: column of the pictures in a table; in a shard or folder, another extension than those
            of pictures, to choose a member ("npy", "left.jpg").
        caption: column of the captions; in a shard or folder .txt counts as "caption" where the
            json has none. A cell is a text or a list of texts.
        strict: raise at the first sample that cannot be used, instead of skipping and counting it.
        allow_truncated: use the whole members of a tar file that is cut, with a warning.
        media: "image"; "text" for texts as both sides, the first of which are the column `image` of
            the result, whatever `image` is, which may be the column of the captions; "raw" for
            another first modality, such as features or clips, whose values are taken as found,
            under the name `image`.
        captions: whether a sample needs a caption. Without, pictures in folders of their class are
            read too, with the folder's name as column `label`.
        bare: without captions, whether pictures are read too that have nothing beside them and
            are in no folder of a class.
        partial: columns of further modalities, such as a second picture. A sample then needs two of
            its modalities, whichever they are: its picture is None, or it has no caption, where it
            lacks them. A picture that cannot be read counts as missing, unless `strict`.
        progress: show a bar if it takes long.

    Returns:
        Columns `index` (int64, 0..n-1), `image` (pictures), `caption` (text; list of texts if any
        sample has several, or none), and the others found. A column whose name is taken is kept as
        "source_NAME". Where samples were skipped, `file_row` is the position among all of them, by
        which :func:`tauten.structure.read_captions` counts.

    Raises:
        FileNotFoundError: nothing at `path`.
        ValueError: no pairs there, a missing column (with those there are), a cut tar file, a file
            that does not parse, no usable sample; with `strict`, any sample that cannot be used.
    """
    request = Request(image, caption, media, allow_truncated, not captions, bare, tuple(partial))

    def check_partial(columns: Sequence[str]) -> None:
        lacking = [name for name in partial if name not in columns]
        if lacking:
            raise ValueError(
                f"{path}: no column {lacking[0]!r} of partial=; columns: {some(columns, 20)}"
            )

    return read_pairs(path, request, strict=strict, progress=progress, columns=check_partial)


def read_pairs(
    path: str | Path,
    request: Request,
    *,
    strict: bool = False,
    progress: bool = True,
    look: Look = unreadable,
    columns: Columns | None = None,
) -> Dataset:
    """Load pairs as :func:`load_pairs` does.

    Args:
        path: where the pairs are.
        request: what to look for.
        strict: raise at the first sample that cannot be used.
        progress: show a bar if it takes long.
        look: called once for each picture, in several threads.
        columns: called with the names of all columns before the first picture is looked at.

    Raises:
        FileNotFoundError: nothing at `path`.
        ValueError: as of :func:`load_pairs`, and what `columns` raises.
    """
    media, caption, partial = request.media, request.caption, request.partial
    samples, warnings = _read(path, request, progress)
    for warning in warnings:
        logger.warning("%s: using the whole members only", warning)
    _check_columns(samples, path, request, columns)
    if media == "image":
        look_at(samples, look, strict, progress)
    else:
        check_values(samples, media, strict)
    if media == "text" and request.image == caption:
        for sample in samples:
            sample.fields[caption] = sample.media
    numbers = [s for s in samples if is_number(s.fields.get(caption))]
    if caption != "cls" and numbers:
        logger.warning(
            "%s with a number as caption, taken as text; first: %s: %s",
            counted(len(numbers), "sample"),
            numbers[0].where,
            numbers[0].fields[caption],
        )
    for sample in samples:
        take_caption(sample, caption, not request.class_folders and not partial)
    if partial:
        take_partial(samples, partial, str(path), strict)
    name = request.image if media == "raw" else "image"
    return as_dataset(usable(samples, str(path), strict), name, pictures=media == "image")


def _read(path: str | Path, request: Request, progress: bool) -> tuple[list[Sample], Sequence[str]]:
    """Return all samples, no picture of which is decoded, and warnings."""
    samples, warnings = find_samples(path, request)
    if request.partial:
        samples = _unless_missing(samples, request.image)
    bar = tqdm(samples, desc="reading pairs", unit=" pairs", delay=2.0, disable=not progress)
    return list(bar), warnings


def _check_columns(
    samples: Sequence[Sample], path: str | Path, request: Request, columns: Columns | None
) -> None:
    """Refuse pairs without the column of captions, or without another that is needed."""
    caption, given = request.caption, dict.fromkeys(n for s in samples for n in s.fields)
    if request.media == "text" and request.image == caption:
        given[caption] = None
    named = caption in given or (caption == "caption" and "txt" in given)
    if samples and not request.class_folders and not named:
        raise ValueError(
            f"{path}: no caption column {caption!r}; columns: {some(given, 20)}; choose one with "
            "caption= (--data.caption)"
        )
    if samples and columns is not None:
        media = request.image if request.media == "raw" else "image"
        columns(["index", media, "caption", *(free_name(n) for n in given if n != caption)])


def _unless_missing(samples: Iterator[Sample], image: str) -> Iterator[Sample]:
    """Let samples pass that have no picture, which is then no problem of theirs."""
    for sample in samples:
        if (sample.problem or "").startswith(("no image", f"no .{image}:")):
            sample.problem = None
        yield sample
