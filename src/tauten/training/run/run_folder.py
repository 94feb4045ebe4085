"""The folder of a run: whose it is, what it holds, and whether a run may go on in it."""

from __future__ import annotations

import json
import logging
import os
import secrets
import shutil
from collections.abc import Mapping
from glob import glob
from pathlib import Path
from typing import Any

import yaml

from tauten.files import (
    is_part,
    make_folder,
    need,
    read_lines,
    read_sealed,
    read_yaml,
    remove_parts,
    replace_text,
    sealed,
    sha256,
    sync_folder,
)
from tauten.files.lock import NAME as LOCK
from tauten.outcome import OUTCOME
from tauten.training import checkpoints
from tauten.training.options.config import Config
from tauten.training.options.config_tree import completed, differences, from_dict, to_dict
from tauten.training.run.late import take_late, without_late
from tauten.training.run.places import located, portable

logger = logging.getLogger("tauten.training")

CONFIG, HISTORY, RESULTS = "config.yaml", "history.jsonl", "results.json"
SAMPLES, EMBEDDINGS, CHECKPOINTS = "samples.npz", "embeddings.npz", "checkpoints"
FEATURES = "features.npz"
SHARDS = "shards.jsonl"
IMAGES, TRAIN_IMAGES = "test_images.npz", "train_images.npz"
TENSORBOARD, FAILURE = "tensorboard", "failure.json"
MARK = "tauten_run"
#: 2: places are relative to the run
FORMAT = 2
#: in a record: how far the training went before it was made longer
EXTENDED = "extended"
#: in the contents of a record: the weights that the run began with
INIT = "init"
#: in a record: files of an earlier run may still be there
_CLEARS = "clears"
# what may change between two starts of one run
_FREE = ("output", "overwrite", "progress", "tensorboard", "report_to", "device")
_FREE_OF_DATA = ("workers",)
# the configuration last: it is what tells that the others are ours
_OURS = (
    *(HISTORY, RESULTS, SAMPLES, OUTCOME, EMBEDDINGS, FEATURES, IMAGES, TRAIN_IMAGES, FAILURE),
    *(CHECKPOINTS, TENSORBOARD, CONFIG),
)


#: what results rest on, or are shown beside them
_SEALED = (HISTORY, SAMPLES, OUTCOME, EMBEDDINGS, FEATURES, IMAGES, TRAIN_IMAGES)


class RunFolder:
    """Paths and records of one run.

    Args:
        path: the run's ``output``.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / CHECKPOINTS
        self.history = self.path / HISTORY
        self.shards = self.path / SHARDS
        #: what a reader of the results must know beside their protocol
        self.notes: dict[str, str] = {}

    def record(self) -> dict[str, Any]:
        """Read ``config.yaml``.

        Raises:
            ValueError: there is none, or it is damaged, of another version or not ours.
        """
        path = self.path / CONFIG
        try:
            record: Any = read_yaml(path)
        except OSError as error:
            raise ValueError(f"{self.path} is not a run: no readable {CONFIG}") from error
        if not isinstance(record, dict) or MARK not in record:
            raise ValueError(f"{path} was not written by tauten")
        if record[MARK] not in range(1, FORMAT + 1):
            raise ValueError(
                f"{path} has the format {record[MARK]!r:.80}, and this version of tauten reads 1 "
                f"to {FORMAT}: use the version that wrote it"
            )
        need(record, {"config": dict, "data": dict, "versions": dict}, path)
        known: dict[str, Any] = record
        return known

    def _tree(self, record: dict[str, Any]) -> dict[str, Any]:
        """Return the whole configuration of a record, its places absolute."""
        try:
            tree = completed(record["config"])
        except ValueError as error:
            raise ValueError(f"{self.path / CONFIG}: {error}") from error
        return located(tree, Path() if record[MARK] == 1 else self._run)

    @property
    def _run(self) -> Path:
        """The run's folder, of a checkpoint too."""
        inside = self.path.absolute().parent
        return inside.parent if inside.name == CHECKPOINTS else self.path

    def provenance(self) -> dict[str, Any]:
        """Return what the numbers of a run depend on, to be stored beside them.

        Returns:
            config, without the options that change no number; data, the fingerprint of each split;
            versions.
        """
        record = self.record()
        return {
            "config": _semantic(portable(self._tree(record), self._run)),
            "data": record["data"],
            "versions": record["versions"],
        }

    def config(self) -> Config:
        """Return the run's configuration.

        Raises:
            ValueError: see :meth:`record`, or a field that this version does not know or
                whose value has another type.
        """
        config = from_dict(self._tree(self.record()))
        config.output = self.path
        return config

    def check(self, config: Config) -> None:
        """Refuse an output that cannot be used, before any data are read.

        Raises:
            ValueError: the folder holds files and no run of ours, or a run with another
                configuration.
        """
        entries = self._entries()
        if CONFIG in entries:
            if not config.overwrite:
                self._check_config(config)
            return
        foreign = [name for name in entries if not config.overwrite or name in _OURS]
        if foreign:
            raise ValueError(
                f"output folder {self.path} is not empty and holds no run of tauten "
                f"({', '.join(foreign[:5])}{', ...' if len(foreign) > 5 else ''}); choose another "
                "output, or overwrite=True to start a run beside files of other names"
            )

    def prepare(
        self,
        config: Config,
        data: dict[str, str],
        versions: dict[str, Any],
        contents: Mapping[str, str] | None = None,
    ) -> None:
        """Claim an empty folder, or make sure that the run in it is this one.

        Args:
            config: what is about to run.
            data: fingerprint of each split.
            versions: of python and the libraries.
            contents: hash of all that is used of each split.

        Raises:
            ValueError: the folder holds files and no run of ours, or a run with another
                configuration or data.
        """
        self.check(config)
        begun = CONFIG in self._entries()
        if begun and config.overwrite and not self._overwritten_by(config, data, contents or {}):
            if (self.path / CONFIG).stat().st_size:  # an empty one is left by a loss of power
                self.record()  # refuses what is no run of ours
            begun = False
        if begun:
            self._check_data(data)
            for split, content in (contents or {}).items():
                self.check_contents(split, content)
            self._take_late(config)
        else:
            make_folder(self.path)
            record = {
                MARK: FORMAT,
                "run": secrets.token_hex(8),
                "config": portable(to_dict(config), self.path),
                "data": data,
                "contents": dict(contents or {}),
                "versions": versions,
            }
            # until what an earlier run left is gone, nobody takes it for that of this one
            self._write(record | {_CLEARS: True})
            self._clear_rest()
            self._write(record)
        make_folder(self.checkpoints)
        checkpoints.clean(self.checkpoints)
        remove_parts(self.path)

    def _overwritten_by(
        self, config: Config, data: dict[str, str], contents: Mapping[str, str]
    ) -> bool:
        """Return whether this is the unfinished run that the same command began by overwriting."""
        record = self._any_record()
        if record is None or not record["config"].get("overwrite") or record.get(_CLEARS):
            return False
        try:
            self._check_config(config)
            self._check_data(data)
            for split, content in contents.items():
                self.check_contents(split, content)
        except ValueError:
            return False
        if (self.path / RESULTS).exists():
            return False
        logger.warning(
            "%s goes on with the run that overwriting began; remove the folder to start anew",
            self.path,
        )
        return True

    def _take_late(self, config: Config) -> None:
        """Write new values of the options that do not touch the training, or of its length; results
        are due again.
        """
        record = self.record()
        if record.pop(_CLEARS, None):
            self._clear_rest()
            self._write(record)
        changed, wanted = take_late(record["config"], to_dict(config)), config.optim.epochs
        before = completed(record["config"])["optim"]["epochs"]
        if wanted != before:
            record["config"]["optim"]["epochs"] = wanted
            record.setdefault(EXTENDED, []).append({"epochs": before, "step": self._ended()})
            logger.warning(
                "%s was trained for %g epochs, and goes on to %g: learning rate and schedules are "
                "from here on those of the longer training",
                self.path,
                before,
                wanted,
            )
        if changed or wanted != before:
            (self.path / RESULTS).unlink(missing_ok=True)
            self._write(record)

    def _any_record(self) -> dict[str, Any] | None:
        try:
            return self.record()
        except ValueError:
            return None

    def _write(self, record: dict[str, Any]) -> None:
        text = yaml.safe_dump(record, sort_keys=False, allow_unicode=True)
        replace_text(self.path / CONFIG, text)

    def _entries(self) -> list[str]:
        if self.path.is_symlink() and not self.path.exists():
            raise ValueError(
                f"output {self.path} is a link to {self.path.readlink()}, which does not exist: "
                "make that folder, remove the link, or choose another output"
            )
        if not self.path.exists():
            return []
        if not self.path.is_dir():
            raise ValueError(f"output {self.path} is a file, not a folder")
        # shards are indexed before the folder is claimed
        early = (LOCK, SHARDS)
        names = (path.name for path in self.path.iterdir())
        return sorted(name for name in names if name not in early and not is_part(name))

    def _check_config(self, config: Config) -> None:
        """Check the configuration; a field unknown to an earlier version is at its default."""
        try:
            stored = self._tree(self.record())
        except ValueError as error:
            raise ValueError(
                f"{self.path} cannot go on: {error}. Use the version that began it, choose another "
                "output, or overwrite=True to start anew"
            ) from error
        ours = located(to_dict(config), Path())
        _forgive_moved(ours["data"], stored["data"])
        ours, theirs = _semantic(ours), _semantic(stored)
        if self._takes_late():
            ours, theirs = without_late(ours), without_late(theirs)
        longer = ours["optim"]["epochs"] > theirs["optim"]["epochs"]
        if longer and self._ended() is not None:
            theirs = theirs | {"optim": theirs["optim"] | {"epochs": ours["optim"]["epochs"]}}
        changed = differences(ours, theirs)
        if changed:
            raise ValueError(
                f"{self.path} holds a run with another configuration: {'; '.join(changed)}. "
                "Choose another output, or overwrite=True to start anew"
                + (". It takes more epochs once it has come to its end" if longer else "")
            )

    def _ended(self) -> int | None:
        """Return the last step of a training that came to its end; None: it did not, or its last
        checkpoint is gone.
        """
        complete = checkpoints.find(self.checkpoints)
        if not complete:
            return None
        state = checkpoints.state_of(complete[-1][1])
        return complete[-1][0] if state.get("max_steps") == complete[-1][0] else None

    def _takes_late(self) -> bool:
        """Return whether the run has no results yet, or what it takes to write them again."""
        return not (self.path / RESULTS).exists() or bool(checkpoints.find(self.checkpoints))

    def _check_data(self, data: dict[str, str]) -> None:
        record = self.record()
        for split, fingerprint in data.items():
            theirs = record["data"].get(split)
            if theirs != fingerprint:
                raise ValueError(
                    f"{self.path} holds a run on another data set: the {split} split has "
                    f"fingerprint {fingerprint}, the run was started with {theirs}. Choose another "
                    "output, or overwrite=True to start anew"
                )

    def check_contents(self, split: str, contents: str) -> None:
        """Refuse data of which anything has changed since the run began.

        Args:
            split: of the data.
            contents: its hash; what an earlier version began has none to compare with.

        Raises:
            ValueError: it is another.
        """
        theirs = self.record().get("contents")
        trained = theirs.get(split) if isinstance(theirs, dict) else None
        if split == INIT and contents != trained:
            raise ValueError(
                f"the weights of init have changed since the run {self._run} began with them: "
                "choose another output, or overwrite=True to start anew"
            )
        if contents and trained is not None and contents != trained:
            raise ValueError(
                f"the {split} split has changed since the run {self._run} began: a picture, a "
                f"caption, a class or another value in it (contents {contents}, then {trained}; a "
                "shard counts as changed when its size or time of change has). "
                "Bring the data back as they were, choose another output, or overwrite=True to "
                "start anew"
            )

    def _clear_rest(self) -> None:
        """Remove what a run leaves but its configuration."""
        for name in _OURS:
            path = self.path / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif name != CONFIG:
                path.unlink(missing_ok=True)

    def resumable(self) -> Path | None:
        """Return the latest whole checkpoint.

        Raises:
            ValueError: it is of another run.
        """
        latest = checkpoints.latest(self.checkpoints)
        if latest is not None:
            self.check_own(latest)
        return latest

    def check_own(self, checkpoint: Path) -> None:
        """Refuse a checkpoint of another run.

        Raises:
            ValueError: it is.
        """
        path = checkpoint / CONFIG
        if path.is_file() and self.record().get("run") != RunFolder(checkpoint).record().get("run"):
            raise ValueError(
                f"{checkpoint} is a checkpoint of another run than {self.path}: move it away"
            )

    def history_sum(self) -> dict[str, Any]:
        """Return size and SHA-256 of ``history.jsonl`` now, to store with a checkpoint."""
        size = self.history.stat().st_size if self.history.exists() else 0
        return {"bytes": size, "sha256": sha256(self.history, size) if size else ""}

    def check_history(self, then: Mapping[str, Any]) -> None:
        """Say it if ``history.jsonl`` is not what it was at a checkpoint; the training is.

        Args:
            then: what :meth:`history_sum` told.
        """
        size, there = then["bytes"], self.history.exists()
        if size and (not there or sha256(self.history, size) != then["sha256"]):
            logger.warning(
                "%s is damaged: before the checkpoint that training goes on from it has another "
                "content than was written. The training is not touched; curves and logged numbers "
                "of these steps cannot be believed",
                self.history,
            )

    def finish(self, results: Mapping[str, Any]) -> None:
        """Write ``results.json``, the last file of a run, with the sums of what it rests on."""
        record = {**results, "run": self.record().get("run")}
        parts = self.record().get(EXTENDED)
        if parts:
            record["protocol"] = {**results["protocol"], EXTENDED: _in_parts(parts)}
        replace_text(self.path / RESULTS, json.dumps(sealed(record, self.path, _SEALED), indent=1))

    def finished(self) -> bool:
        """Return whether the run has results.

        Raises:
            ValueError: they are damaged, or of another run.
        """
        path = self.path / RESULTS
        if not path.exists():
            return False
        results = read_sealed(path, ())
        need(results, {}, path)
        if not self._is_own(results):
            raise ValueError(
                f"{path} is of another run than {self.path / CONFIG}: move it away, and start the "
                "same command again"
            )
        return True

    def _is_own(self, results: Mapping[str, Any]) -> bool:
        """Tell results of this run; those of an earlier version know no more than its settings."""
        run = self.record().get("run")
        if run is not None and results.get("run") is not None:
            return bool(run == results["run"])
        theirs, ours = results.get("record"), self.provenance()
        if not isinstance(theirs, dict) or not isinstance(theirs.get("config"), dict):
            return True
        try:
            trees = [without_late(completed(one["config"])) for one in (ours, theirs)]
        except ValueError:
            return False
        # of data and model the places may be written differently
        now, other = ({**_semantic(tree), "data": None, "model": None} for tree in trees)
        return ours["data"] == theirs.get("data") and not differences(now, other)

    def truncate_history(self, step: int) -> None:
        """Drop the lines of steps after ``step``, and one that was cut."""
        earlier = [json.dumps(line) for line in self.read_history() if line["step"] <= step]
        replace_text(self.history, "".join(f"{line}\n" for line in earlier))

    def read_history(self) -> list[dict[str, Any]]:
        """Return the whole lines of ``history.jsonl``.

        Raises:
            ValueError: a line is damaged that is not the last.
        """
        if not self.history.exists():
            return []
        lines = read_lines(self.history)
        for number, line in enumerate(lines, start=1):
            need(line, {"step": int}, f"{self.history}, line {number},")
        return lines

    def sync_history(self) -> None:
        """Flush ``history.jsonl`` to the disk: it must not be behind a checkpoint."""
        if self.history.exists():
            with self.history.open("rb") as file:
                os.fsync(file.fileno())
            sync_folder(self.path)  # its name, where it is new

    def append_history(self, line: dict[str, Any]) -> None:
        """Add one line."""
        with self.history.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")


def _forgive_moved(ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    """Let data be elsewhere when they are gone from where they were; their content is checked."""
    for name in ("source", "val", "test"):
        here, there = ours[name], theirs[name]
        if here is None or there is None or here == there:
            continue
        (kind, _, _), (was, _, old) = here.rpartition(":"), there.rpartition(":")
        if kind == was and old.startswith("/") and not glob(old):  # noqa: PTH207
            theirs[name] = here


def _in_parts(parts: list[dict[str, Any]]) -> str:
    ends = ", ".join(f"step {part['step']} (of {part['epochs']:g} epochs)" for part in parts)
    return (
        f"trained in parts, which ended at {ends}: learning rate and schedules of each part are "
        "those of a training up to its end, so this is not one training of this length"
    )


def _semantic(tree: dict[str, Any]) -> dict[str, Any]:
    data = {name: value for name, value in tree["data"].items() if name not in _FREE_OF_DATA}
    return {name: value for name, value in tree.items() if name not in _FREE} | {"data": data}
