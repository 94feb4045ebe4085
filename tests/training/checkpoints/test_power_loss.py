"""After a loss of power there is what was flushed, and nothing else: the run goes on from there."""

import os
import shutil
import sys
from pathlib import Path

import pytest

from tauten.files import read_sealed
from tauten.training import checkpoints, train
from tauten.training.run.run_folder import RunFolder

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="paths of open files are Linux's")


class Disk:
    """What a disk is sure to hold: of each file the content, and of each folder the names, that it
    had when it was flushed last.

    Attributes:
        before_rename: files that took another's place, or were moved, without a flush.
    """

    def __init__(self, root, patch):
        self.root, self.before_rename = root, []
        self._contents, self._names, self._held, self._watchers = {}, {}, [], []
        real = {name: getattr(os, name) for name in ("fsync", "rename", "replace")}

        def fsync(handle):
            real["fsync"](handle)
            self._flushed(handle)

        def renaming(name):
            def rename(source, target, **options):
                if "-remove-" not in str(target):
                    self._check(Path(source))
                real[name](source, target, **options)

            return rename

        patch.setattr(os, "fsync", fsync)
        patch.setattr(os, "rename", renaming("rename"))
        patch.setattr(os, "replace", renaming("replace"))

    def watch(self, function):
        """Call it after each flush of a folder."""
        self._watchers.append(function)

    def _flushed(self, handle):
        path = Path(f"/proc/self/fd/{handle}").readlink()
        if not path.is_relative_to(self.root.parent):
            return
        self._held.append(os.dup(handle))  # its inode is not given to another file meanwhile
        number = os.fstat(handle).st_ino
        if not path.is_dir():
            self._contents[number] = path.read_bytes()
            return
        self._names[number] = {
            entry.name: (entry.inode(), entry.is_dir()) for entry in os.scandir(path)
        }
        for function in self._watchers:
            function(self)

    def _check(self, source):
        """Note files that are moved without a flush of what they hold."""
        for path in [source, *source.rglob("*")]:
            if path.is_file() and self._contents.get(path.stat().st_ino) != path.read_bytes():
                self.before_rename.append(path)

    def after_power_loss(self, target):
        """Write what is left to another folder."""
        shutil.rmtree(target, ignore_errors=True)
        top = self._names.get(self.root.parent.stat().st_ino, {})
        if self.root.name in top:
            self._write(top[self.root.name][0], target)

    def _write(self, number, target):
        target.mkdir(parents=True)
        for name, (inode, is_folder) in self._names.get(number, {}).items():
            if is_folder:
                self._write(inode, target / name)
            else:
                (target / name).write_bytes(self._contents.get(inode, b""))

    def close(self):
        for handle in self._held:
            os.close(handle)


def test_a_run_goes_on_after_a_loss_of_power_at_any_moment(tmp_path, make_config):
    run, left, kept = tmp_path / "runs" / "run", tmp_path / "left", tmp_path / "kept"
    run.parent.mkdir()
    seen = {"steps": [], "published": 0, "states": 0}

    def lose(disk):
        disk.after_power_loss(left)
        if not left.exists():
            return
        seen["states"] += 1
        names = {path.name for path in left.iterdir()}
        if "config.yaml" in names:
            RunFolder(left).record()
        if "results.json" in names:
            read_sealed(left / "results.json")
        found = checkpoints.latest(left / "checkpoints") if "checkpoints" in names else None
        step = 0 if found is None else int(found.name.split("-")[1])
        assert step >= seen["published"]
        if found is not None and step not in seen["steps"]:
            seen["steps"].append(step)
            assert {line["step"] for line in RunFolder(left).history.read()} >= {2, step}
            if len(seen["steps"]) == 1:
                shutil.copytree(left, kept)

    with pytest.MonkeyPatch.context() as patch:
        disk = Disk(run, patch)
        disk.watch(lose)
        publish = checkpoints.publish

        def published(staged, root):
            final = publish(staged, root)
            seen["published"] = int(final.name.split("-")[1])
            disk.after_power_loss(left)
            assert checkpoints.latest(left / "checkpoints").name == final.name
            return final

        patch.setattr(checkpoints, "publish", published)
        whole = train(make_config(run, control__kind="mmts"))
        disk.after_power_loss(left)
        disk.close()
    assert disk.before_rename == []
    assert seen["states"] > 10
    assert len(seen["steps"]) == 2

    for folder in (left, kept):  # at the end, and when the first checkpoint was there
        again = train(make_config(folder, control__kind="mmts"))
        assert again.test == whole.test
    assert RunFolder(kept).history.read() == RunFolder(run).history.read()
