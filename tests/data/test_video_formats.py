"""Every format gives the frames of mp4, turned as a player does; numbered frames tell."""

import struct
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tauten.data.orientation import shown
from tauten.data.video import Clip, load_clip, load_strip
from tauten.data.video_file import Video

av = pytest.importorskip("av", reason="video files need PyAV")

FPS, SIDE = 25, 64
FORMATS = {
    "mp4": "libx264", "mkv": "libx264", "mov": "libx264", "webm": "libvpx", "avi": "libx264",
    "ts": "libx264", "mpg": "mpeg2video", "flv": "libx264", "wmv": "wmv2", "3gp": "libx264",
    "gif": "gif",
}  # fmt: skip


def write(path: Path, count: int = 75, codec: str = "libx264", sound: float = 0.0) -> Path:
    """Frame k shows k as eight vertical bars, one for each bit."""
    with av.open(str(path), "w") as container:
        try:
            stream = container.add_stream(codec, rate=FPS)
        except (av.FFmpegError, ValueError) as error:
            pytest.skip(f"this PyAV cannot write {codec}: {error}")
        stream.width = stream.height = SIDE
        stream.pix_fmt, stream.gop_size = ("rgb8" if codec == "gif" else "yuv420p"), 12
        stream.bit_rate = 2_000_000
        rate = 48000 if path.suffix == ".webm" else 8000
        voice = None
        if sound:
            voice = container.add_stream("libopus" if rate == 48000 else "aac", rate=rate)
        for k in range(count):
            bars = [255 * ((k >> b) & 1) for b in range(8) for _ in range(SIDE // 8)]
            pixels = np.broadcast_to(np.array(bars, np.uint8)[None, :, None], (SIDE, SIDE, 3))
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts, frame.time_base = k, Fraction(1, FPS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
        if voice is not None:
            for k in range(int(sound * rate) // 960):
                silence = av.AudioFrame.from_ndarray(
                    np.zeros((1, 960), np.float32), format="fltp", layout="mono"
                )
                silence.rate, silence.pts = rate, k * 960
                container.mux(voice.encode(silence))
            container.mux(voice.encode(None))
    return path


def numbers(clip: torch.Tensor) -> list[int]:
    width = SIDE // 8
    return [
        sum(1 << b for b in range(8) if row[b * width + 2 : (b + 1) * width - 2].mean() > 128)
        for row in clip.float().mean((1, 2))
    ]


@pytest.mark.parametrize("kind", list(FORMATS))
def test_a_seek_finds_the_frames_that_were_asked_for(tmp_path, kind):
    path = write(tmp_path / f"a.{kind}", codec=FORMATS[kind])
    with Video(path) as video:
        assert video.duration == pytest.approx(3.0, abs=0.5 / FPS)
    assert numbers(load_clip(Clip(path, 0.0, 3.0), 75)) == list(range(75))
    for start, stop in ((1.0, 2.0), (2.2, 3.0), (0.04, 0.2)):
        times = [start + (k + 0.5) * (stop - start) / 4 for k in range(4)]
        wanted = [int(time * FPS) for time in times]
        assert numbers(load_clip(Clip(path, start, stop), 4)) == wanted


@pytest.mark.parametrize("kind", ["mpg", "vob", "h264"])
def test_frames_without_times_are_counted(tmp_path, kind):
    path = write(tmp_path / f"a.{kind}", codec="libx264")
    with Video(path) as video:
        assert video.duration == pytest.approx(3.0, abs=0.5 / FPS)
    assert numbers(load_clip(Clip(path, 0.0, 3.0), 75)) == list(range(75))
    assert numbers(load_clip(path, 5)) == [7, 22, 37, 52, 67]
    assert numbers(load_clip(Clip(path, 2.2, 3.0), 4)) == [57, 62, 67, 72]


@pytest.mark.parametrize("codec", ["libx264", "mpeg2video"])
def test_a_clock_that_begins_anew_is_followed(tmp_path, codec):
    path = write(tmp_path / "a.mpg", codec=codec)
    path.write_bytes(path.read_bytes() * 2)
    with Video(path) as video:
        assert video.duration == pytest.approx(6.0, abs=0.2)
    assert numbers(load_clip(Clip(path, 4.0, 5.0), 2)) == pytest.approx([31, 43], abs=2)


@pytest.mark.parametrize("kind", ["mp4", "mkv", "webm", "ts", "flv"])
def test_sound_that_goes_on_does_not_make_a_video_longer(tmp_path, kind):
    path = write(tmp_path / f"a.{kind}", 50, FORMATS[kind], sound=5.0)
    assert numbers(load_clip(path, 4)) == [6, 18, 31, 43]


def test_a_cut_video_with_sound_is_still_found(tmp_path):
    path = write(tmp_path / "a.flv", 75, sound=3.0)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 3])
    with pytest.raises(ValueError, match=r"a\.flv is (cut|broken)"):
        load_clip(path, 8)


QUARTERS = {
    0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0),
}  # fmt: skip


@pytest.mark.parametrize("degrees", list(QUARTERS))
@pytest.mark.parametrize("mirrored", [False, True])
def test_a_matrix_turns_pixels_to_where_it_says(degrees, mirrored):
    a, b, c, d = QUARTERS[degrees]
    matrix = (-a, -b, c, d) if mirrored else (a, b, c, d)
    pixels = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    literal = {}
    for y in range(2):
        for x in range(3):
            place = matrix[0] * x + matrix[2] * y, matrix[1] * x + matrix[3] * y
            literal[place] = pixels[y, x]
    rows = sorted({y for _, y in literal})
    columns = sorted({x for x, _ in literal})
    told = np.stack([np.stack([literal[x, y] for x in columns]) for y in rows])
    assert np.array_equal(np.asarray(shown(Image.fromarray(pixels), matrix)), told)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_phone_videos_are_shown_upright(tmp_path, degrees):
    plain = write(tmp_path / "a.mp4", 20)
    content = bytearray(plain.read_bytes())
    place = content.index(b"tkhd") + 44
    a, b, c, d = (65536 * value for value in QUARTERS[degrees])
    content[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    turned = tmp_path / "turned.mp4"
    turned.write_bytes(content)
    clockwise = torch.rot90(load_clip(plain, 4), -degrees // 90, (2, 3))
    assert torch.equal(load_clip(turned, 4), clockwise)


def test_photos_in_folders_and_strips_are_upright(tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (4, 8, 3), dtype=np.uint8)
    picture, exif = Image.fromarray(pixels), Image.Exif()
    exif[0x0112] = 6  # a quarter turn clockwise
    for number in (1, 2):
        picture.save(tmp_path / f"frame_{number}.png", exif=exif)
    upright = torch.from_numpy(np.rot90(pixels, -1).copy()).permute(2, 0, 1)
    for frame in load_clip(tmp_path, 2):
        assert torch.equal(frame, upright)
    strip = load_strip(tmp_path / "frame_1.png", 2)
    assert torch.equal(torch.cat(list(strip), 2), upright)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["img_1.png", "img_2.png", "flow_1.png"], r"flow_\*.png: 1, img_\*.png: 2"),
        (["img_1.png", "img_1.jpg"], r"img_\*.jpg: 1, img_\*.png: 1"),
        (["img_1.png", "0.mp4"], r"img_\*.png: 1, pieces of a video: 1"),
    ],
)
def test_several_series_in_one_folder_are_refused(tmp_path, names, said):
    for name in names:
        Image.new("RGB", (4, 4)).save(tmp_path / name, "PNG")
    with pytest.raises(ValueError, match=f"several series of frames .{said}"):
        load_clip(tmp_path, 2)


def test_hidden_files_are_no_frames(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "img_1.png")
    (tmp_path / "._img_1.png").write_bytes(b"finder")
    assert load_clip(tmp_path, 1).shape == (1, 3, 4, 4)
    assert load_clip(Clip(tmp_path, 1, 2, fps=1.0), 1).shape == (1, 3, 4, 4)
