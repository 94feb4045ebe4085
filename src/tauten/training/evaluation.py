"""Evaluation of a checkpoint or a run."""

from __future__ import annotations

import dataclasses
import errno
import json
import logging
import os
from pathlib import Path
from typing import Literal

from datasets import Dataset

from tauten.files import make_folder, replace_text
from tauten.structure.cells import some
from tauten.training import checkpoints
from tauten.training.options.config import DataConfig, EvaluationConfig
from tauten.training.options.ranges import check_option
from tauten.training.run.names import CONFIG, RESULTS
from tauten.training.run.run_folder import RunFolder
from tauten.training.specs import task as task_of
from tauten.training.stores.pair_data import PairData, Split, as_published
from tauten.training.stores.rows import one_per_picture
from tauten.training.stores.splits import load_split
from tauten.training.stores.tables import to_pairs

logger = logging.getLogger("tauten.training")

Protocol = Literal["all", "1k", "5k", "1k-of-5k"]


def evaluate(
    checkpoint_or_run: str | Path,
    data: str | Path | Dataset | None = None,
    split: Split = "test",
    *,
    output: str | Path | None = None,
    label: str | None = None,
    image: str | None = None,
    caption: str | None = None,
    negatives: str | None = None,
    protocol: Protocol = "all",
    bootstrap: int = 1000,
    batch_size: int = 512,
    progress: bool = True,
) -> dict[str, float]:
    """Evaluate retrieval and geometry of a trained model; groups are by its training counts.

    Of a run of two views it is classification by its features.

    Args:
        checkpoint_or_run: a run folder (its best checkpoint is taken), or a checkpoint.
        data: other pairs to evaluate on, a path or a data set with the columns image and caption;
            all of them are used, of NAME:FOLDER the test split. By default the split of the run's
            own data.
        split: of the run's own data.
        output: a json file to write the metrics to, in a folder that is made if need be; nothing
            is written without it.
        label: class column of ``data``.
        image: column of the pictures in ``data``, by default as in the run's own data; see
            :func:`tauten.data.load_pairs`.
        caption: column of the captions in ``data``, likewise.
        negatives: column of texts in ``data`` that are wrong for their sample; by default none.
        protocol: how ``data`` are searched, see ``data.protocol`` of a configuration.
        bootstrap: replicates of the 95 % intervals; 0 for none.
        batch_size: samples encoded at a time.
        progress: show bars for large data.

    Returns:
        A flat dict of metrics, see :func:`tauten.evaluation.retrieval`.

    Raises:
        ValueError: not a run or checkpoint; the run's own data are not there any more or have
            changed; other data that cannot be read; an output that is a folder.
    """
    check_option(EvaluationConfig, "bootstrap", bootstrap)
    check_option(EvaluationConfig, "batch_size", batch_size)
    given = {"label": label, "image": image, "caption": caption, "negatives": negatives}
    given = {name: value for name, value in given.items() if value is not None}
    if protocol != "all":
        given["protocol"] = protocol
    if data is None and given:
        raise ValueError(
            "label, image, caption, negatives and protocol are of other data; a run's own data "
            "keep theirs: give data too, or leave them out, got "
            + " and ".join(f"{name}={value!r}" for name, value in given.items())
        )
    if output is not None:
        check_output(Path(output))
    checkpoint, record = find_checkpoint(Path(checkpoint_or_run))
    config = record.config()
    task = task_of(config.task)
    if data is not None:
        task.check_other_data()
    loaded = task.load(checkpoint)
    if data is None:
        splits = {
            name: _own(checkpoint, record, config.data, name, progress, views=task.one_sided)
            for name in dict.fromkeys((*task.judged_by, split))
        }
    else:
        other = on_other_data(config.data, str(data), label, image, caption, protocol, negatives)
        if config.data.negatives is not None and negatives is None:
            logger.info("no negatives of other data are read: --negatives COLUMN names them")
        if config.data.others:
            modalities = ", ".join(config.data.others)
            logger.info("other data are evaluated by image and caption alone, not %s", modalities)
        if isinstance(data, Dataset):
            other = dataclasses.replace(other, source="the given data set", test=None)
            first = (image or other.image) if other.texts else image
            renamed = _named(
                data, {"caption": caption} | ({} if other.frames else {"image": first})
            )
            if not other.frames and "image" in renamed.column_names:
                renamed = one_per_picture(renamed, label, other.source, negatives)
            pairs = to_pairs(renamed, other, progress)
            pairs = pairs if protocol == "all" else as_published(pairs, protocol)
        else:
            pairs = load_split(other, "test", progress)
        if label is not None and pairs.labels is None:
            raise ValueError(f"{other.source or data} has no classes, got label={label!r}")
        splits = {split: pairs}
    settings = dataclasses.replace(config.evaluation, bootstrap=bootstrap, batch_size=batch_size)
    return written(task.evaluate(loaded, splits, split, settings, progress), output)


def on_other_data(
    config: DataConfig,
    place: str,
    label: str | None = None,
    image: str | None = None,
    caption: str | None = None,
    protocol: Protocol = "all",
    negatives: str | None = None,
) -> DataConfig:
    """Return how other data are read as a test split, as a run's own are but for what is given.

    Args:
        config: configuration of the run.
        place: of the data.
        label: their class column.
        image: their column of pictures.
        caption: their column of captions.
        protocol: how they are searched.
        negatives: their column of own negatives.
    """
    return dataclasses.replace(
        config,
        source="",
        test=place,
        label=label,
        image=image or config.image,
        caption=caption or config.caption,
        limit=None,
        clusters=0,
        val=None,
        protocol=protocol,
        negatives=negatives,
        others=(),
    )


def _named(data: Dataset, names: dict[str, str | None]) -> Dataset:
    """Return a data set whose columns image and caption are those of these names."""
    for name, column in names.items():
        if column is None or column == name:
            continue
        if column not in data.column_names:
            raise ValueError(
                f"the given data set has no {name} column {column!r}; columns: "
                f"{some(data.column_names, 20)}"
            )
        rest = data.remove_columns(name) if name in data.column_names else data
        data = rest.rename_column(column, name)
    return data


def check_output(path: Path) -> None:
    """Refuse a file that cannot be written, before the work."""
    if path.is_dir():
        raise ValueError(f"output={path} is a folder: name a json file, such as {path / 'e.json'}")
    above = next(folder for folder in path.absolute().parents if os.path.lexists(folder))
    if not above.is_dir():
        raise ValueError(f"output={path}: {above} is no folder: choose another output")
    if not os.access(above, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(above))


def written(metrics: dict[str, float], output: str | Path | None) -> dict[str, float]:
    """Write metrics to a json file if one is given, and return them."""
    if output is not None:
        make_folder(Path(output).parent)
        replace_text(Path(output), json.dumps(metrics, indent=1))
    return metrics


def _own(
    checkpoint: Path,
    record: RunFolder,
    config: DataConfig,
    split: Split,
    progress: bool,
    *,
    views: bool,
) -> PairData:
    """Return a split of the run's own data, if they have not changed."""
    pairs = load_split(config, split, progress, views=views)
    trained = record.record()["data"].get(split)
    if pairs.fingerprint != trained:
        raise ValueError(
            f"{checkpoint} is a checkpoint of another data set: the {split} split of "
            f"{config.source} has fingerprint {pairs.fingerprint}, the run's had "
            f"{trained}; pass data= to evaluate on other data on purpose"
        )
    record.check_contents(split, pairs.contents)
    return pairs


def find_checkpoint(path: Path) -> tuple[Path, RunFolder]:
    """Return the checkpoint to load, and the folder whose config.yaml describes it.

    Args:
        path: a run, whose best checkpoint is taken, or a checkpoint.

    Raises:
        ValueError: neither, or a run without a finished evaluation.
    """
    if not path.is_dir():
        raise ValueError(f"{path} is no folder: give a run or one of its checkpoints")
    if (path / checkpoints.MARKER).exists():
        checkpoints.check(path)
        return path, RunFolder(path)
    run = RunFolder(path)
    if (run.checkpoints / checkpoints.BEST).exists():
        best = checkpoints.best_of(run.checkpoints)
        run.check_own(best)
        return best, run
    if (path / RESULTS).exists():
        raise ValueError(
            f"{run.checkpoints / checkpoints.BEST} is missing, though the run {path} has results: "
            "bring it back from a copy, or start the same training again, which makes it anew"
        )
    if (path / CONFIG).exists():
        raise ValueError(f"the run {path} has no finished evaluation yet, so no best checkpoint")
    raise ValueError(f"{path} is neither a run nor a complete checkpoint of tauten")
