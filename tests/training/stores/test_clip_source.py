"""Clips that are decoded when they are asked for."""

import logging
import shutil
import threading

import numpy as np
import pytest
import torch
from PIL import Image

from tauten.data import video_folder
from tauten.data.video import Clip, load_clip, sample_positions
from tauten.training import DataConfig
from tauten.training.stores import clips
from tauten.training.stores.clip_source import ClipSource, existing, places_inside
from tauten.training.stores.pair_data import PairData
from tauten.training.stores.pairs import PairStore
from tauten.training.stores.splits import load_splits

T = 3


@pytest.fixture(scope="module")
def parts(tmp_path_factory, make_video):
    """Eight parts of three videos, one of them a folder of frames."""
    root = tmp_path_factory.mktemp("videos")
    files = [make_video(root / f"{k}.mp4", seconds=8, seed=k) for k in range(2)]
    folder = root / "frames"
    folder.mkdir()
    for number, color in enumerate(np.random.default_rng(2).integers(0, 256, (40, 3)), 1):
        Image.new("RGB", (16, 16), tuple(color.tolist())).save(folder / f"frame_{number:010d}.jpg")
    found = [Clip(files[k % 2], k, k + 2.5) for k in range(5)]
    return [*found, Clip(files[0]), Clip(folder, 5, 17, fps=4), Clip(folder, 20, 41, fps=4)]


@pytest.fixture
def source(parts):
    return ClipSource(parts, T, (8, 8))


def decoded(parts, rows, inside=None):
    """Literally one after the other."""
    found = [
        load_clip(parts[row], T, size=(8, 8), inside=None if inside is None else inside[place])
        for place, row in enumerate(rows)
    ]
    return torch.stack(found)


def test_it_stands_where_a_tensor_does(source, parts):
    whole = decoded(parts, range(8))
    assert len(source) == 8
    assert source.shape == whole.shape == (8, T, 3, 8, 8)
    assert source.dim() == whole.dim()
    assert torch.equal(source[:], whole)
    assert torch.equal(source[2:5], whole[2:5])
    assert torch.equal(source[6:60], whole[6:])
    rows = torch.tensor([7, 0, 0, 3])
    assert torch.equal(source[rows], whole[rows])
    assert source[rows].dtype == torch.uint8
    assert source.unreadable == {}


def test_an_int_cuts_the_centre_square(parts):
    square = ClipSource(parts[:2], T, 6)
    assert square.shape == (2, T, 3, 6, 6)
    assert torch.equal(square[:], torch.stack([load_clip(p, T, size=6) for p in parts[:2]]))


def test_frames_are_those_of_the_positions_that_were_drawn(source, parts):
    rows = torch.tensor([4, 6, 5])
    inside = torch.rand(3, T, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    found, problems = source.read(rows, inside)
    assert problems == {}
    assert torch.equal(found, decoded(parts, rows.tolist(), inside))
    assert not torch.equal(found, source[rows])
    # frame numbers 5 to 16 in thirds of four
    numbers = (5 + (torch.arange(T) + inside[1]) * 4).floor().int().tolist()
    for frame, number in zip(found[1], numbers, strict=True):
        with Image.open(parts[6].path / f"frame_{number:010d}.jpg") as picture:
            assert torch.equal(frame[:, 0, 0], torch.tensor(picture.getpixel((0, 0))).byte())


def test_drawn_before_or_by_a_generator_is_the_same(parts):
    inside = torch.rand(T, dtype=torch.float64, generator=torch.Generator().manual_seed(4))
    drawn = load_clip(parts[1], T, generator=torch.Generator().manual_seed(4))
    assert torch.equal(load_clip(parts[1], T, inside=inside), drawn)
    wanted = (torch.arange(T) + inside) * 7 / T
    assert torch.allclose(sample_positions(7, T, torch.Generator().manual_seed(4)), wanted)
    for given in ({"inside": inside[:2]}, {"inside": inside, "generator": torch.Generator()}):
        with pytest.raises(ValueError, match=r"inside= needs shape \(3,\) and no generator="):
            load_clip(parts[1], T, **given)


@pytest.mark.parametrize("threads", [1, 3])
def test_threads_change_no_pixel(parts, threads, monkeypatch):
    seen = set()

    def watched(*args, **kwargs):
        seen.add(threading.get_ident())
        return load_clip(*args, **kwargs)

    monkeypatch.setattr("tauten.training.stores.clip_source.load_clip", watched)
    found = ClipSource(parts, T, (8, 8), threads=threads)[:]
    assert torch.equal(found, decoded(parts, range(8)))
    assert len(seen) <= threads


def test_frames_of_a_folder_are_found_without_listing_it(parts, monkeypatch):
    fast = load_clip(parts[6], T)

    def listed(self):
        raise AssertionError(f"{self} was listed")

    with monkeypatch.context() as patch:
        patch.setattr("pathlib.Path.iterdir", listed)
        assert torch.equal(load_clip(parts[6], T), fast)
    monkeypatch.setattr(video_folder, "_named_frames", lambda *_: [])
    assert torch.equal(load_clip(parts[6], T), fast)


def test_a_gap_and_the_end_of_a_folder_are_still_found(parts, tmp_path):
    folder = tmp_path / "frames"
    shutil.copytree(parts[6].path, folder)
    (folder / "frame_0000000007.jpg").unlink()
    found = load_clip(Clip(folder, 5, 17, fps=4), T)  # 7, 11 and 15; 6 stands for 7
    assert torch.equal(found[0], load_clip(Clip(folder, 6, 7, fps=4), 1)[0])
    with pytest.raises(ValueError, match="ends at 41 frames: no clip from 20 to 50"):
        load_clip(Clip(folder, 20, 50, fps=4), T)
    with pytest.raises(ValueError, match="ends at 41 frames: no clip from 20 to 46"):
        load_clip(Clip(folder, 20, 46, fps=4), 1)  # its one frame is there
    assert load_clip(Clip(folder, 20, 44, fps=4), 1).shape == (1, 3, 16, 16)  # a second at most


@pytest.fixture(scope="module")
def cut(tmp_path_factory, make_video):
    """A video of 8 seconds in three pieces."""
    folder = tmp_path_factory.mktemp("cut") / "P01_01.MP4"
    for begin, seconds in ((0, 3), (3, 3), (6, 2)):
        make_video(folder / f"{begin}.mp4", seconds, seed=begin)
    return folder


def test_pieces_are_one_video(cut):
    def shown(begin, time):
        return load_clip(Clip(cut / f"{begin}.mp4", time - 0.1, time + 0.1), 1)[0]

    wanted = [shown(0, 2.5), shown(3, 0.5), shown(3, 1.5), shown(3, 2.5), shown(6, 0.5)]
    assert torch.equal(load_clip(Clip(cut, 2, 7), 5), torch.stack(wanted))
    assert torch.equal(load_clip(Clip(cut, 50, 175, fps=25), 5), torch.stack(wanted))
    assert torch.equal(
        load_clip(cut, 8)[[2, 3, 7]], torch.stack([wanted[0], wanted[1], shown(6, 1.5)])
    )
    assert torch.equal(load_clip(Clip(cut, 7, 9), 2)[1], shown(6, 1.9))  # ends a second late


def test_pieces_that_are_missing(cut, tmp_path):
    with pytest.raises(ValueError, match="P01_01.MP4 ends at 8 s: no clip from 2 to 9.5 in it"):
        load_clip(Clip(cut, 2, 9.5), 1)
    for gone, said in ((3, "0.mp4 ends at 3 s: no clip from 0 to 4.5"), (0, "begins at 3 s: no")):
        folder = tmp_path / str(gone)
        shutil.copytree(cut, folder)
        (folder / f"{gone}.mp4").unlink()
        with pytest.raises(ValueError, match=said):
            load_clip(Clip(folder, 2, 7), 1)
    with pytest.raises(ValueError, match="need frames >= 1, got 0"):
        load_clip(cut, 0)


def pair_data(images, labels=None):
    count = len(images)
    captions = [[f"a {i}", f"b {i}"] for i in range(count)]
    return PairData(images, captions, [""] * count, [[] for _ in range(count)], labels, "f")


def stored(images, **fields):
    class Texts:
        def __call__(self, texts):
            return texts

    return PairStore(pair_data(images), Texts(), DataConfig(**fields))


def test_a_restored_generator_repeats_the_batch(source, parts):
    store = stored(source)
    index = torch.tensor([3, 6, 1, 5])
    torch.manual_seed(7)
    state = torch.get_rng_state()
    first, second = store.batch(index), store.batch(index)
    assert not torch.equal(first["images"], second["images"])
    torch.set_rng_state(state)
    again = store.batch(index)
    assert torch.equal(again["images"], first["images"])
    assert again["texts"] == first["texts"]
    torch.set_rng_state(state)
    draws = torch.rand(4, 4)
    inside = torch.rand(4, T, dtype=torch.float64)
    assert torch.equal(first["images"], decoded(parts, index.tolist(), inside))
    assert first["texts"] == [
        f"{'ab'[int(draw * 2)]} {i}" for draw, i in zip(draws[:, 0], index.tolist(), strict=True)
    ]


def read_ahead(store, order, epoch):
    reads = store.reads(5)
    assert reads.workers == 0
    reads.set_epoch(epoch)
    read = [reads.collate(reads.__getitems__(rows)) for rows in order]
    return [store.batch(part["index"].positions, part["reading"]) for part in read]


def test_clips_are_read_ahead(broken):
    store = stored(ClipSource(broken, T, (8, 8)), frames=T, ahead=True)
    found = read_ahead(store, [[4, 2, 7], [0, 1]], epoch=2)
    for batch, rows in zip(found, ([4, 7], [0, 1]), strict=True):
        assert batch["index"].tolist() == rows
        inside = places_inside(5, 2, torch.tensor(rows), T)
        assert torch.equal(batch["images"], decoded(broken, rows, inside))
    assert (store.skipped.count, store.skipped.kinds) == (1, {"unreadable clip": 1})
    again = read_ahead(store, [[7, 0]], epoch=2)
    assert torch.equal(again[0]["images"][0], found[0]["images"][1])
    assert not torch.equal(read_ahead(store, [[7, 0]], epoch=3)[0]["images"], again[0]["images"])


def test_a_broken_clip_that_was_read_ahead_ends_a_strict_training(broken):
    strict = ClipSource(broken, T, (8, 8), strict=True)
    store = stored(strict, frames=T, ahead=True, strict=True)
    with pytest.raises(
        ValueError, match="^clip 2: unreadable clip: .*broken.mp4 is not a readable"
    ):
        read_ahead(store, [[1, 2]], epoch=0)


def test_clips_in_memory_draw_nothing_for_frames(source):
    store = stored(source[:])
    assert store.skipped is None
    torch.manual_seed(7)
    store.batch(torch.tensor([0, 1]))
    after = torch.get_rng_state()
    torch.manual_seed(7)
    torch.rand(2, 4)
    assert torch.equal(torch.get_rng_state(), after)


@pytest.fixture
def broken(parts, tmp_path):
    """The same with a third clip that is no video."""
    file = tmp_path / "broken.mp4"
    file.write_bytes(b"no video")
    return [*parts[:2], Clip(file, 1, 2), *parts[3:]]


def test_a_broken_clip_is_left_out_of_its_batch_and_counted(broken, parts):
    whole, store = stored(ClipSource(parts, T, (8, 8))), stored(ClipSource(broken, T, (8, 8)))
    index = torch.tensor([4, 2, 7])
    torch.manual_seed(3)
    wanted = whole.batch(index)
    torch.manual_seed(3)
    found = store.batch(index)
    kept = torch.tensor([0, 2])
    assert torch.equal(found["index"], index[kept])
    assert torch.equal(found["images"], wanted["images"][kept])
    assert found["texts"] == [wanted["texts"][0], wanted["texts"][2]]
    assert [len(ids) for ids in found["same"]] == [2, 2]
    assert (store.skipped.count, whole.skipped.count) == (1, 0)
    assert store.skipped.kinds == {"unreadable clip": 1}
    assert "clip 2: unreadable clip: " in store.skipped.first[0]
    assert "broken.mp4 is not a readable video" in store.skipped.first[0]
    store.batch(index)
    assert store.skipped.count == 2
    with pytest.raises(ValueError, match=r"none of the 2 clips of a batch can be read: clip 2"):
        store.batch(torch.tensor([2, 2]))


def test_strict_ends_with_a_broken_clip(broken):
    strict = ClipSource(broken, T, (8, 8), strict=True)
    assert torch.equal(strict[3:], ClipSource(broken, T, (8, 8))[3:])
    with pytest.raises(ValueError, match="clip 2: unreadable clip: .*broken.mp4 is not a readable"):
        stored(strict).batch(torch.tensor([1, 2]))
    with pytest.raises(ValueError, match="clip 2: unreadable clip"):
        strict[:]


def test_in_evaluation_a_broken_clip_is_black_until_it_can_be_read(broken, parts):
    source = ClipSource(broken, T, (8, 8))
    found = source[1:4]
    assert torch.equal(found[[0, 2]], decoded(broken, [1, 3]))
    assert not found[1].any()
    assert list(source.unreadable) == [2]
    assert "broken.mp4" in str(source.unreadable[2])
    shutil.copy(parts[2].path, broken[2].path)
    assert source[2:3].any()
    assert source.unreadable == {}


def test_a_row_that_can_be_read(broken):
    assert ClipSource(broken, T, 8).usable() == 0
    assert ClipSource([broken[2], *broken], T, 8).usable() == 1
    with pytest.raises(ValueError, match="none of 2 clips spread over the data can be read; first"):
        ClipSource([broken[2], broken[2]], T, 8).usable()


def test_missing_videos_are_counted_before_anything_is_decoded(parts, tmp_path, caplog):
    gone = [Clip(tmp_path / f"{name}.mp4", k, k + 1) for k, name in enumerate("aab")]
    with caplog.at_level(logging.WARNING, "tauten.training"):
        assert existing([gone[0], *parts[:2], *gone[1:]], strict=False) == [1, 2]
    said = f"3 of 5 clips have no video: 2 of 4 videos are missing, the first {gone[0].path}"
    assert said in caplog.text
    with pytest.raises(ValueError, match="1 of 3 clips have no video: 1 of 3 videos are missing"):
        existing([*parts[:2], gone[2]], strict=True)
    with pytest.raises(ValueError, match=r"3 of 3 clips have no video: .*a.mp4. Get them from X"):
        existing(gone, strict=False, remedy="Get them from X")
    caplog.clear()
    assert existing(parts, strict=True) == list(range(8))
    assert not caplog.text


def test_equal_parts_have_equal_ids(parts):
    source = ClipSource([parts[0], parts[1], Clip(parts[0].path, 0, 2.5)], T, 8)
    assert source.ids().tolist() == [0, 1, 0]
    shifted = ClipSource([parts[0], Clip(parts[0].path, 0, 2.6)], T, 8)
    assert shifted.ids().tolist() == [0, 1]


def test_the_fingerprint_sees_videos_and_parts_and_not_places(parts, tmp_path):
    moved = tmp_path / "moved.mp4"
    shutil.copy(parts[0].path, moved)

    def of(*given):
        return ClipSource(given, T, 8).fingerprint()

    same = Clip(moved, 0, 2.5)
    assert of(same, parts[1]) == of(parts[0], parts[1])
    assert of(Clip(moved, 0, 2.4), parts[1]) != of(same, parts[1])
    assert of(Clip(parts[1].path, 0, 2.5), parts[1]) != of(same, parts[1])
    assert len({of(same), of(parts[6]), ClipSource([same], T, 9).fingerprint()}) == 3


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (((), 2, 8), "got 0 clips"),
        (((Clip("a"),), 0, 8), "0 frames"),
        (((Clip("a"),), 2, (8, 0)), r"size \(8, 0\)"),
    ],
)
def test_what_is_no_source(given, said):
    with pytest.raises(ValueError, match=said):
        ClipSource(*given)


def test_large_sets_of_videos_are_decoded_when_asked_for(tmp_path, make_video, monkeypatch, caplog):
    for k in range(5):
        make_video(tmp_path / f"{k}.mp4", seconds=1, seed=k)
    lines = [f"{k}.mp4,thing {k},c{k % 2}" for k in range(6)]
    (tmp_path / "videos.csv").write_text("\n".join(["clip,caption,kind", *lines]))
    table = str(tmp_path / "videos.csv")
    config = DataConfig(source="", test=table, image="clip", label="kind", frames=2, image_size=8)
    held = load_splits(config, ["test"])["test"]
    assert isinstance(held.images, torch.Tensor)
    monkeypatch.setattr(clips, "HELD", 5 * 2 * 3 * 8 * 8)
    with caplog.at_level(logging.WARNING, "tauten.training"):
        lazy = load_splits(config, ["test"])["test"]
    assert isinstance(lazy.images, ClipSource)
    assert "1 of 6 clips have no video" in caplog.text
    assert torch.equal(lazy.images[:], held.images)
    assert (lazy.captions, lazy.labels) == (held.captions, held.labels)
    config.strict = True
    with pytest.raises(ValueError, match="1 of 6 clips have no video"):
        load_splits(config, ["test"])
    monkeypatch.setattr(clips, "HELD", 6 * 2 * 3 * 8 * 8)
    config.strict = False
    assert isinstance(load_splits(config, ["test"])["test"].images, torch.Tensor)
