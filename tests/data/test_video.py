import io
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tauten.data import emoji_lt, images
from tauten.data.video import Clip, load_clip, load_strip, sample_positions, video_problem

av = pytest.importorskip("av", reason="video files need PyAV")

FPS = 8
SIDE = 48


@pytest.fixture(scope="module")
def frames(shared_data: Path) -> torch.Tensor:
    """32 real frames, of four animated emoji."""
    strips = []
    with tarfile.open(shared_data / "emoji_video-val.tar") as tar:
        for member in tar:
            if member.name.endswith(".jpg") and len(strips) < 4:
                stream = tar.extractfile(member)
                assert stream is not None
                strips.append(load_strip(stream.read(), 8))
    return torch.cat(strips)


def write_video(path: Path, frames: torch.Tensor, key_every: int = 8, **options) -> Path:
    with av.open(str(path), "w", **options) as container:
        stream = container.add_stream("mpeg4", rate=FPS, options={"g": str(key_every)})
        stream.width, stream.height = frames.shape[3], frames.shape[2]
        stream.pix_fmt, stream.bit_rate = "yuv420p", 4_000_000
        for frame in frames.permute(0, 2, 3, 1).numpy():
            for packet in stream.encode(av.VideoFrame.from_ndarray(np.ascontiguousarray(frame))):
                container.mux(packet)
        for packet in stream.encode():
            container.mux(packet)
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory, frames) -> Path:
    return write_video(tmp_path_factory.mktemp("video") / "clip.mp4", frames)


@pytest.fixture(scope="module")
def folder(tmp_path_factory, frames) -> Path:
    folder = tmp_path_factory.mktemp("frames")
    for number, frame in enumerate(frames, 1):
        picture = Image.fromarray(frame.permute(1, 2, 0).numpy())
        picture.save(folder / f"frame_{number:010d}.png")
    return folder


def nearest(clip: torch.Tensor, frames: torch.Tensor) -> list[int]:
    """The position of the frame that each decoded one resembles most."""
    distance = (clip[:, None].float() - frames[None].float()).abs().mean((2, 3, 4))
    assert float(distance.min(1).values.max()) < 8, "decoded frames resemble no original"
    return distance.argmin(1).tolist()


def test_positions_are_the_centres_of_equal_segments():
    assert sample_positions(10.0, 4).tolist() == [1.25, 3.75, 6.25, 8.75]
    assert sample_positions(1, 1).tolist() == [0.5]


def test_random_positions_stay_in_their_segments_and_repeat_with_the_generator():
    drawn = sample_positions(10.0, 5, torch.Generator().manual_seed(3))
    assert (drawn / 2).floor().tolist() == [0, 1, 2, 3, 4]
    assert torch.equal(drawn, sample_positions(10.0, 5, torch.Generator().manual_seed(3)))
    assert not torch.equal(drawn, sample_positions(10.0, 5, torch.Generator().manual_seed(4)))


@pytest.mark.parametrize(("length", "count"), [(0.0, 2), (1.0, 0), (float("nan"), 2)])
def test_positions_refuse_what_has_no_segments(length, count):
    with pytest.raises(ValueError, match="frames >= 1"):
        sample_positions(length, count)


def test_a_whole_video_gives_every_frame_once(video, frames):
    clip = load_clip(video, len(frames))
    assert clip.shape == (len(frames), 3, SIDE, SIDE)
    assert clip.dtype == torch.uint8
    distance = (clip.float() - frames.float()).abs().mean((1, 2, 3))
    assert float(distance.max()) < 8


@pytest.mark.parametrize(
    "clip",
    [Clip(Path(), 1.0, 3.0), Clip(Path(), 8, 24, fps=8.0), Clip(Path(), 30, 90, fps=30.0)],
    ids=["seconds", "frames", "frames of another rate"],
)
def test_a_part_of_a_video_is_sought(video, frames, clip):
    part = Clip(video, clip.start, clip.stop, clip.fps)
    literal = [int((1.0 + (k + 0.5) * 2.0 / 4) * FPS) for k in range(4)]
    assert nearest(load_clip(part, 4), frames) == nearest(frames[literal], frames)


def test_seeking_finds_what_decoding_from_the_start_finds(tmp_path, frames):
    one_key = write_video(tmp_path / "one.mp4", frames, key_every=1000)
    many_keys = write_video(tmp_path / "many.mp4", frames, key_every=4)
    a, b = (load_clip(Clip(path, 2.0, 4.0), 8).float() for path in (one_key, many_keys))
    assert float((a - b).abs().mean((1, 2, 3)).max()) < 8


def test_random_frames_repeat_with_the_generator(video):
    a, b, c = (
        load_clip(video, 6, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(a, b)
    assert not torch.equal(a, c)


def test_a_folder_of_frames_goes_by_their_numbers(folder, frames):
    assert torch.equal(load_clip(folder, len(frames)), frames)
    part = load_clip(Clip(folder, 9, 17, fps=8.0), 4)
    assert torch.equal(part, frames[[9, 11, 13, 15]])  # numbers 10, 12, 14, 16


def test_sizes_are_those_of_images(video):
    assert load_clip(video, 2, size=16).shape == (2, 3, 16, 16)
    assert load_clip(video, 2, size=(10, 20)).shape == (2, 3, 10, 20)


def test_a_clip_may_end_a_little_after_its_video(video, folder, frames):
    for clip in (Clip(video, 3.0, 4.9), Clip(folder, 25, 40, fps=8.0)):
        last = load_clip(clip, 10)
        assert torch.equal(last[-1], last[-2])
    with pytest.raises(ValueError, match=r"clip\.mp4 ends at 4 s"):
        load_clip(Clip(video, 3.0, 5.5), 4)
    with pytest.raises(ValueError, match="ends at 33 frames"):
        load_clip(Clip(folder, 25, 40, fps=8.0), 10, overrun=0.5)
    with pytest.raises(ValueError, match="ends at 4 s"):
        load_clip(Clip(video, 4.5, 4.9), 4)


def test_broken_files_are_named(tmp_path, video):
    content = video.read_bytes()
    nothing, noise, cut = tmp_path / "none.mp4", tmp_path / "noise.mp4", tmp_path / "cut.mp4"
    noise.write_bytes(b"no video" * 100)
    cut.write_bytes(content[: len(content) // 2])
    for path in (nothing, noise, cut):
        with pytest.raises(ValueError, match=path.name):
            load_clip(path, 4)
        assert path.name in str(video_problem(path))
    assert video_problem(video) is None


def test_a_video_cut_after_its_index_is_found(tmp_path, frames):
    path = write_video(tmp_path / "whole.mp4", frames, options={"movflags": "faststart"})
    assert video_problem(path) is None
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    with pytest.raises(ValueError, match=r"cut\.mp4 is"):
        load_clip(cut, 16)
    assert "cut.mp4" in str(video_problem(cut))


def test_missing_frames_of_a_folder_are_found(tmp_path):
    for number in (1, 2, 3, 30):
        Image.new("RGB", (4, 4)).save(tmp_path / f"frame_{number:010d}.jpg")
    with pytest.raises(ValueError, match="frames are missing, up to 25 in a row"):
        load_clip(Clip(tmp_path, 1, 31, fps=4.0), 6)
    with pytest.raises(ValueError, match="needs fps"):
        load_clip(Clip(tmp_path, 1, 3), 2)
    (tmp_path / "frame_0000000002.jpg").write_bytes(b"broken")
    with pytest.raises(ValueError, match="frame_0000000002.jpg: unreadable"):
        load_clip(Clip(tmp_path, 1, 4, fps=4.0), 3)


@pytest.mark.parametrize("bounds", [(2.0, 1.0), (1.0, 1.0), (-1.0, 1.0)])
def test_a_clip_has_a_beginning_before_its_end(bounds):
    with pytest.raises(ValueError, match="0 <= start < stop"):
        Clip(Path("a.mp4"), *bounds)
    with pytest.raises(ValueError, match="fps must be above 0"):
        Clip(Path("a.mp4"), 0, 1, fps=0)


def test_a_strip_is_cut_from_left_to_right():
    pixels = images(emoji_lt("val").select(range(3)))
    strip = Image.fromarray(torch.cat(list(pixels), 2).permute(1, 2, 0).numpy())
    assert torch.equal(load_strip(strip, 3), pixels)
    buffer = io.BytesIO()
    strip.save(buffer, "PNG")
    assert torch.equal(load_strip(buffer.getvalue(), 3), pixels)
    with pytest.raises(ValueError, match="96 pixels wide cannot be 5 frames"):
        load_strip(strip, 5)
    with pytest.raises(ValueError, match="unreadable strip"):
        load_strip(b"nothing", 5)
