import pytest

from tauten.training import checkpoints


@pytest.fixture
def staged(tmp_path):
    folder = tmp_path / checkpoints.STAGING / "checkpoint-5"
    folder.mkdir(parents=True)
    (folder / "model.safetensors").write_bytes(b"x" * 100)
    (folder / "optimizer.pt").write_bytes(b"y" * 10)
    return folder


def test_published_is_complete(tmp_path, staged):
    assert not checkpoints.is_complete(staged)
    final = checkpoints.publish(staged, tmp_path)
    assert final == tmp_path / "checkpoint-5"
    assert checkpoints.find(tmp_path) == [(5, final)]
    assert not staged.exists()


@pytest.mark.parametrize("damage", ["marker", "short", "missing", "garbled"])
def test_incomplete_is_ignored_and_said_so(tmp_path, staged, damage, caplog):
    final = checkpoints.publish(staged, tmp_path)
    if damage == "marker":
        (final / checkpoints.MARKER).unlink()
    elif damage == "short":
        (final / "model.safetensors").write_bytes(b"x" * 99)
    elif damage == "missing":
        (final / "optimizer.pt").unlink()
    else:
        (final / checkpoints.MARKER).write_text('{"files": {"mod')
    assert checkpoints.find(tmp_path) == []
    assert "ignoring the incomplete checkpoint" in caplog.text


def test_best_has_the_model_but_not_the_optimizer(tmp_path, staged):
    final = checkpoints.publish(staged, tmp_path)
    checkpoints.set_best(final, tmp_path)
    best = tmp_path / checkpoints.BEST
    assert checkpoints.is_complete(best)
    assert sorted(p.name for p in best.iterdir()) == ["complete.json", "model.safetensors"]
    checkpoints.set_best(final, tmp_path)
    assert checkpoints.is_complete(best)


def test_rotation_keeps_what_it_is_told(tmp_path):
    for step in (1, 2, 3, 10):
        folder = tmp_path / checkpoints.STAGING / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        checkpoints.publish(folder, tmp_path)
    checkpoints.rotate(tmp_path, keep=[2, 10])
    assert [step for step, _ in checkpoints.find(tmp_path)] == [2, 10]


def test_clean_removes_staging_only(tmp_path, staged):
    (tmp_path / "checkpoint-1").mkdir()
    checkpoints.clean(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint-1"]
