"""Clips of every kind of source, in memory."""

import io
import json
import shutil
import tarfile
from collections import Counter

import numpy as np
import pytest
import torch
from PIL import Image

from tauten.data.emoji_video import base_of
from tauten.data.readers import Entry, read, to_dataset
from tauten.data.video import Clip
from tauten.training import DataConfig, specs
from tauten.training.options.config import Config
from tauten.training.stores.clip_source import ClipSource
from tauten.training.stores.named import named_splits
from tauten.training.stores.pair_data import SPLITS
from tauten.training.stores.pairs import PairStore
from tauten.training.stores.splits import load_splits
from tauten.training.stores.tables import to_pairs

COLORS = [(20, 40, 60), (90, 30, 10), (200, 10, 80), (250, 250, 0)]


def strip(colors, size=8):
    picture = Image.new("RGB", (size * len(colors), size))
    for k, color in enumerate(colors):
        picture.paste(color, (k * size, 0, (k + 1) * size, size))
    return picture


@pytest.fixture
def strips(tmp_path):
    """30 strips of four frames, each of one colour, with captions."""
    rows = []
    for i in range(30):
        colors = [(r, g, (b + i) % 256) for r, g, b in COLORS]
        strip(colors).save(tmp_path / f"{i}.png")
        rows.append({"file_name": f"{i}.png", "caption": f"thing {i}", "kind": f"k{i % 3}"})
    (tmp_path / "metadata.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path


def write_video(file, colors, form=None):
    av = pytest.importorskip("av")
    with av.open(file, "w", format=form) as container:
        stream = container.add_stream("mpeg4", rate=8)
        stream.width = stream.height = 16
        stream.pix_fmt, stream.bit_rate = "yuv420p", 1_000_000
        for color in colors:
            pixels = np.full((16, 16, 3), color, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode())


def videos(folder, count=8):
    for i in range(count):
        write_video(str(folder / f"{i}.mp4"), COLORS[i % 4 :] + COLORS[: i % 4])
        (folder / f"{i}.txt").write_text(f"thing {i}")


def everything(config):
    found = load_splits(config)
    images = torch.cat([found[name].images for name in SPLITS])
    return images, [text for name in SPLITS for (text,) in found[name].captions]


@pytest.mark.parametrize(("frames", "places"), [(4, [0, 1, 2, 3]), (2, [1, 3]), (1, [2])])
def test_strips(strips, frames, places):
    config = DataConfig(source=str(strips), frames=frames, strip=4, image_size=8, label="kind")
    images, captions = everything(config)
    assert images.shape == (30, frames, 3, 8, 8)
    for clip, caption in zip(images, captions, strict=True):
        r, g, b = COLORS[places[-1]]
        wanted = torch.tensor([r, g, (b + int(caption.split()[1])) % 256], dtype=torch.uint8)
        assert torch.equal(clip[-1], wanted[:, None, None].expand(3, 8, 8))


def test_frames_are_resized_one_by_one(strips):
    images, _ = everything(DataConfig(source=str(strips), frames=4, strip=4, image_size=4))
    assert images.shape == (30, 4, 3, 4, 4)
    assert torch.equal(images.amin((3, 4)), images.amax((3, 4)))


def near(clip, colors):
    wanted = torch.tensor(colors).float()[:, :, None, None]
    return bool(((clip.float() - wanted).abs().mean((1, 2, 3)) < 12).all())


@pytest.mark.parametrize("kind", ["folder", "tar", "table"])
def test_videos(tmp_path, kind):
    folder = tmp_path / "videos"
    folder.mkdir()
    videos(folder)
    config = DataConfig(source=str(folder), frames=2, image_size=8, image="mp4", held_out=0.3)
    if kind == "tar":
        config.source = str(tmp_path / "videos.tar")
        with tarfile.open(config.source, "w") as tar:
            for file in sorted(folder.iterdir()):
                tar.add(file, arcname=file.name)
    if kind == "table":
        config.source, config.image = str(tmp_path / "videos.csv"), "clip"
        lines = [f"videos/{i}.mp4,thing {i}" for i in range(8)]
        (tmp_path / "videos.csv").write_text("\n".join(["clip,caption", *lines]))
    images, captions = everything(config)
    assert images.shape == (8, 2, 3, 8, 8)
    for clip, caption in zip(images, captions, strict=True):
        turned = COLORS[int(caption.split()[1]) % 4 :] + COLORS[: int(caption.split()[1]) % 4]
        assert near(clip, [turned[1], turned[3]])


def test_tables_of_splits_lie_in_folders_of_their_own(tmp_path):
    for name in ("train", "test"):
        (tmp_path / name).mkdir()
        videos(tmp_path / name, 3)
        lines = [f"{i}.mp4,{name} {i}" for i in range(3)]
        (tmp_path / name / "videos.csv").write_text("\n".join(["clip,caption", *lines]))
    (tmp_path / "train" / "2.mp4").unlink()
    source, test = (str(tmp_path / name / "videos.csv") for name in ("train", "test"))
    config = DataConfig(source=source, val=source, test=test, frames=2, image_size=8)
    with pytest.raises(ValueError, match="set data.image to their extension, such as mp4, or in a"):
        load_splits(config)
    config.image = "clip"
    found = load_splits(config)
    assert {name: len(data) for name, data in found.items()} == {"train": 2, "val": 2, "test": 3}


def test_parts_of_videos_as_readers_give_them(tmp_path, monkeypatch):
    write_video(str(tmp_path / "long.mp4"), [color for color in COLORS for _ in range(8)])
    parts = [Clip(tmp_path / "long.mp4", k, k + 1) for k in (3, 1)]
    entries = [Entry(f"{k}", part, (f"part {k}",), "a") for k, part in enumerate(parts)]
    data = to_pairs(to_dataset(entries), DataConfig(frames=3, image_size=8, label="label"))
    assert near(data.images[0], [COLORS[3]] * 3)
    assert near(data.images[1], [COLORS[1]] * 3)
    assert data.captions == [["part 0"], ["part 1"]]
    monkeypatch.setattr("tauten.training.stores.clips.HELD", 0)
    lazy = to_pairs(to_dataset(entries), DataConfig(frames=3, image_size=8, label="label"))
    assert isinstance(lazy.images, ClipSource)
    assert torch.equal(lazy.images[:], data.images)
    assert (lazy.captions, lazy.labels) == (data.captions, data.labels)


def test_the_fingerprint_sees_pixels_and_not_places(tmp_path):
    found = []
    for name in ("a", "b", "c"):
        folder = tmp_path / name
        folder.mkdir()
        videos(folder)
        if name == "c":
            write_video(str(folder / "3.mp4"), [(0, 0, 0)] * 4)
        config = DataConfig(source=str(folder), val=str(folder), test=str(folder), frames=2)
        config.image, config.image_size = "mp4", 8
        found.append(load_splits(config, ["test"])["test"].fingerprint)
    assert found[0] == found[1] != found[2]


def test_broken_videos_are_skipped_or_refused(tmp_path):
    videos(tmp_path)
    (tmp_path / "3.mp4").write_bytes(b"no video")
    config = DataConfig(source="", test=str(tmp_path), frames=2, image_size=8, image="mp4")
    data = load_splits(config, ["test"])["test"]
    assert len(data) == len(data.images) == 7
    assert ["thing 3"] not in data.captions
    config.strict = True
    with pytest.raises(ValueError, match="3.mp4 is not a readable video"):
        load_splits(config, ["test"])
    shutil.copy(tmp_path / "3.mp4", tmp_path / "0.mp4")
    config.strict, config.limit = False, 1
    with pytest.raises(ValueError, match="none of 1 clips can be read; the first, row 0: .*0.mp4"):
        load_splits(config, ["test"])


@pytest.fixture(scope="module")
def emoji(shared_data):
    config = DataConfig(
        source=f"emoji_video:{shared_data}",
        frames=2,
        strip=8,
        image_size=8,
        label="label",
        relevancy="names",
        limit=60,
    )
    return config, load_splits(config)


def test_a_data_set_known_by_name(emoji, shared_data):
    config, found = emoji
    parts = named_splits(config, SPLITS)
    published = read("emoji_video", shared_data).splits
    assert parts["test"]["id"] == [entry.id for entry in published["val"]]
    ids = [entry.id for entry in published["train"]]
    assert sorted([*parts["train"]["id"], *parts["val"]["id"]]) == sorted(ids)
    bases = Counter(base for part in parts.values() for base in {base_of(id) for id in part["id"]})
    assert set(bases.values()) == {1}
    assert 0.05 < len(parts["val"]) / len(ids) < 0.15
    assert found["train"].images.shape == (60, 2, 3, 8, 8)
    assert found["train"].labels[0] == parts["train"]["label"][0]


def test_batches_have_relevancies(emoji):
    config, found = emoji
    data = found["train"]
    store = PairStore(data, lambda texts: {"n": torch.arange(len(texts))}, config)
    index = torch.tensor([5, 0, 33, 2])
    batch = store.batch(index)
    rows, cols, own = batch["graded"]
    names = data.unique_captions()[0]
    columns = torch.tensor([names.index(data.captions[i][0]) for i in index.tolist()])
    wanted = data.relevancy.dense()[index][:, columns]
    assert torch.equal(data.relevancy.table[rows][:, cols], wanted)
    assert torch.equal(own, wanted.diagonal())


def test_equal_clips_have_equal_ids(strips):
    shutil.copy(strips / "0.png", strips / "1.png")
    source = str(strips)
    config = DataConfig(source=source, val=source, test=source, frames=2, strip=4, image_size=8)
    data = load_splits(config, ["test"])["test"]
    ids = PairStore(data, lambda texts: {}, config).image_ids
    assert ids[0] == ids[1] != ids[2]


def test_named_sources_that_cannot_be_used(tmp_path):
    config = DataConfig(source="emoji_video:", frames=2, strip=8)
    with pytest.raises(ValueError, match="folder of emoji_video is missing: give --data emoji_vid"):
        load_splits(config)
    config.source = f"emoji_video:{tmp_path}"
    with pytest.raises(FileNotFoundError, match="emoji_video-train.tar"):
        load_splits(config)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"data": DataConfig(frames=5, strip=4)}, "with strips 1 to data.strip, got 5"),
        ({"data": DataConfig(frames=-1)}, r"data.frames must be in \[0, 4096\], got -1"),
        ({"data": DataConfig(strip=4)}, "got 0 and data.strip=4"),
        ({"loss": specs.loss("sms")}, "family=sms needs to know how relevant"),
        ({"loss": specs.loss("maxmargin", adaptive=True)}, "set data.relevancy"),
    ],
)
def test_configurations_that_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        Config(**fields)


def test_a_strip_that_is_none(strips):
    content = io.BytesIO()
    Image.new("RGB", (9, 8)).save(content, "PNG")
    (strips / "7.png").write_bytes(content.getvalue())
    config = DataConfig(source=str(strips), frames=2, strip=4, image_size=8, strict=True)
    with pytest.raises(ValueError, match="9 pixels wide cannot be 4 frames"):
        load_splits(config)
