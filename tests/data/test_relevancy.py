"""Graded relevancy against a literal loop over pairs."""

import numpy as np
import pytest
import torch

from tauten.data.relevancy import Relevancy

CLIPS = [
    (0, {2}),
    (0, {2, 49}),
    (3, {2}),
    (0, {2}),
    (5, {7, 8, 9}),
    (1, {1, 2, 3, 4, 5}),
    (0, {49, 2}),
]
SENTENCES = [(0, {2}), (0, {49}), (3, {2, 49, 8}), (5, {9}), (3, {2, 49, 8}), (9, {5})]


def loop(clips, sentences):
    out = np.zeros((len(clips), len(sentences)))
    for i, (verb, nouns) in enumerate(clips):
        for j, (other, others) in enumerate(sentences):
            out[i, j] = 0.5 * (verb == other) + 0.5 * len(nouns & others) / len(nouns | others)
    return out


@pytest.fixture
def found():
    return Relevancy.from_actions(CLIPS, SENTENCES, progress=False)


def test_every_entry_is_the_loops_in_float32(found):
    expected = torch.from_numpy(loop(CLIPS, SENTENCES)).float()
    assert found.dense().dtype == torch.float32
    assert torch.equal(found.dense(), expected)
    assert found.shape == (7, 6)


def test_equal_actions_are_kept_once(found):
    assert found.table.shape == (5, 5)
    assert found.rows.tolist() == [0, 1, 2, 0, 3, 4, 1]


def test_rows_and_batches_are_parts_of_the_whole(found):
    whole = found.dense()
    clips, sentences = torch.tensor([6, 0, 4]), torch.tensor([1, 5, 2])
    assert torch.equal(found[clips], whole[clips])
    assert torch.equal(found[2:5], whole[2:5])
    assert torch.equal(found.between(clips, sentences), whole[clips][:, sentences])
    assert torch.equal(found.of(clips, sentences), whole[clips, sentences])


def test_the_summary_is_that_of_the_whole(found):
    whole = found.dense().double()
    summary = found.summary()
    assert summary["mean"] == pytest.approx(float(whole.mean()))
    assert summary["share_above_0"] == float((whole > 0).double().mean())
    assert summary["ones_per_row"] == float((whole == 1).double().sum(1).mean())
    assert summary["rows_without_one"] == 5.0


def test_a_matrix_gives_the_same(found):
    again = Relevancy.from_matrix(loop(CLIPS, SENTENCES), progress=False)
    assert torch.equal(again.dense(), found.dense())
    assert again.table.shape == found.table.shape


def test_blocks_do_not_show(found, monkeypatch):
    monkeypatch.setattr("tauten.data.relevancy._BLOCK", 2)
    assert torch.equal(
        Relevancy.from_actions(CLIPS, SENTENCES, progress=False).dense(), found.dense()
    )


def test_saved_and_read_again(found, tmp_path):
    path = tmp_path / "relevancy.npz"
    found.save(path)
    again = Relevancy.load(path)
    assert torch.equal(again.dense(), found.dense())
    assert [file.name for file in tmp_path.iterdir()] == ["relevancy.npz"]


def test_a_kill_while_saving_leaves_the_old_file(found, tmp_path, monkeypatch):
    path = tmp_path / "relevancy.npz"
    found.save(path)
    before = path.read_bytes()

    def killed(file, **arrays):
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr("tauten.data.relevancy.np.savez_compressed", killed)
    with pytest.raises(KeyboardInterrupt):
        found.save(path)
    assert path.read_bytes() == before


def test_other_files_are_refused(found, tmp_path):
    path = tmp_path / "relevancy.npz"
    found.save(path)
    whole = path.read_bytes()
    np.savez(tmp_path / "other.npz", a=np.zeros(3))
    np.savez(tmp_path / "objects.npz", format=np.array([None], dtype=object))
    for name, content in [("cut.npz", whole[:-50]), ("empty.npz", b""), ("text.npz", b"a,b\n1,2")]:
        (tmp_path / name).write_bytes(content)
    for name in ("cut.npz", "empty.npz", "text.npz", "other.npz", "objects.npz"):
        with pytest.raises(ValueError, match=f"{name} holds no relevancies"):
            Relevancy.load(tmp_path / name)
    with pytest.raises(FileNotFoundError):
        Relevancy.load(tmp_path / "none.npz")


def test_what_is_refused():
    table, codes = torch.rand(2, 3), torch.tensor([0, 1])
    for call, message in [
        (lambda: Relevancy(table, codes + 1, codes), "rows must lie in 0 .. 1, got 1 .. 2"),
        (lambda: Relevancy(table, codes, codes - 1), "cols must lie in 0 .. 2, got -1 .. 0"),
        (lambda: Relevancy(2 + table, codes, codes), r"must lie in \[0, 1\]"),
        (lambda: Relevancy(table * torch.nan, codes, codes), r"must lie in \[0, 1\]"),
        (lambda: Relevancy(table[0], codes, codes), r"must be \(A, C\)"),
        (lambda: Relevancy.from_actions([(4, set())], [(0, {1})]), "verb class 4 has no noun"),
        (lambda: Relevancy.from_actions([], [(0, {1})]), "need clips and sentences, got 0 and 1"),
        (lambda: Relevancy.from_matrix(np.zeros(4)), "need a matrix"),
        (lambda: Relevancy.from_matrix(np.full((2, 2), 1.5), progress=False), r"in \[0, 1\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
