"""The folder of a run: whose it is, what it holds, and whether a run may go on in it."""

from __future__ import annotations

import json
import logging
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from tauten.files import (
    is_part,
    make_folder,
    need,
    read_sealed,
    read_yaml,
    remove_parts,
    replace_text,
    sealed,
)
from tauten.files.lock import NAME as LOCK
from tauten.training import checkpoints
from tauten.training.options.config import Config
from tauten.training.options.config_tree import completed, from_dict, to_dict
from tauten.training.run.history import History
from tauten.training.run.late import take_late
from tauten.training.run.names import (
    ALL,
    CHECKPOINTS,
    CONFIG,
    EXTENDED,
    FORMAT,
    HISTORY,
    MARK,
    RESULTS,
    SEALED,
    SHARDS,
)
from tauten.training.run.places import located, portable
from tauten.training.run.same_run import (
    check_config,
    check_contents,
    check_data,
    same_settings,
    semantic,
)

logger = logging.getLogger("tauten.training")

#: in a record: files of an earlier run may still be there
_CLEARS = "clears"


class RunFolder:
    """Paths and records of one run.

    Args:
        path: the run's ``output``.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        self.checkpoints = self.path / CHECKPOINTS
        self.history = History(self.path / HISTORY)
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
            "config": semantic(portable(self._tree(record), self._run)),
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
        foreign = [name for name in entries if not config.overwrite or name in ALL]
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
            check_data(self.path, self.record(), data)
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
            check_data(self.path, self.record(), data)
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
        late, ended = self._takes_late(), self._ended() is not None
        check_config(self.path, to_dict(config), stored, late=late, ended=ended)

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

    def check_contents(self, split: str, contents: str) -> None:
        """Refuse data of which anything has changed since the run began.

        Args:
            split: of the data.
            contents: its hash; what an earlier version began has none to compare with.

        Raises:
            ValueError: it is another.
        """
        check_contents(self._run, self.record(), split, contents)

    def _clear_rest(self) -> None:
        """Remove what a run leaves but its configuration."""
        for name in ALL:
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

    def finish(self, results: Mapping[str, Any]) -> None:
        """Write ``results.json``, the last file of a run, with the sums of what it rests on."""
        record = {**results, "run": self.record().get("run")}
        parts = self.record().get(EXTENDED)
        if parts:
            record["protocol"] = {**results["protocol"], EXTENDED: _in_parts(parts)}
        replace_text(self.path / RESULTS, json.dumps(sealed(record, self.path, SEALED), indent=1))

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
        return same_settings(self.provenance(), results.get("record"))


def _in_parts(parts: list[dict[str, Any]]) -> str:
    ends = ", ".join(f"step {part['step']} (of {part['epochs']:g} epochs)" for part in parts)
    return (
        f"trained in parts, which ended at {ends}: learning rate and schedules of each part are "
        "those of a training up to its end, so this is not one training of this length"
    )
