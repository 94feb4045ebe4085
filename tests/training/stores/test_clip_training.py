"""Training on clips of EPIC-KITCHENS-100: real annotations, videos of random colours."""

import json
import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTokenizer

from tauten.data import load_epic_kitchens
from tauten.data.epic_videos import epic_clips, find_video
from tauten.data.video import load_clip
from tauten.recipes import RECIPES, runlocal
from tauten.training import DataConfig, evaluate, train
from tauten.training.loop.trainer import ContrastiveTrainer
from tauten.training.stores.clip_source import ClipSource
from tauten.training.stores.pairs import PairStore
from tauten.training.stores.splits import load_split, load_splits

#: short videos of the annotations, with the second in which their last clip ends
TRAIN = {"P03_15": 8, "P09_01": 10, "P04_15": 10, "P06_02": 12, "P26_14": 12, "P14_03": 13}
TRAIN |= {"P26_12": 14, "P07_106": 15, "P04_19": 16, "P02_05": 17, "P03_110": 17}
TEST = {"P03_26": 10, "P02_13": 28}


@pytest.fixture(scope="module")
def kitchens(shared_data, tmp_path_factory, make_video):
    """The annotations, and synthetic videos of a few of them where a download puts them."""
    root = tmp_path_factory.mktemp("kitchens")
    for file in (shared_data / "ek100").glob("*.csv.gz"):
        (root / file.name).symlink_to(file)
    for seed, (video, seconds) in enumerate((TRAIN | TEST).items()):
        place = root / video[:3] / "videos" / f"{video}.MP4"
        make_video(place, seconds, seed=seed)
    return root


@pytest.fixture(scope="module")
def data(kitchens):
    return DataConfig(
        source=f"epic_kitchens:{kitchens}", frames=2, image_size=16, label="noun", held_out=0.2
    )


@pytest.fixture(scope="module")
def splits(data):
    return load_splits(data)


def small(kitchens, output: Path, name="epic_kitchens_clips_mmts", **fields):
    """A trial of four steps on clips."""
    config = runlocal(RECIPES[name](), f"epic_kitchens:{kitchens}")
    config.output, config.progress, config.tensorboard = output, False, False
    config.data.held_out, config.data.image_size = 0.2, 16
    config.model.channels, config.model.grid = (8,), 2
    config.model.dim, config.model.text_width = 16, 16
    config.optim.batch_size, config.optim.epochs = 16, 2
    config.evaluation.every, config.evaluation.bootstrap, config.log_every = 1, 2, 1
    for path, value in fields.items():
        owner, _, field = path.rpartition("__")
        setattr(getattr(config, owner) if owner else config, field, value)
    return config


@pytest.fixture(scope="module")
def run(kitchens, tmp_path_factory):
    config = small(kitchens, tmp_path_factory.mktemp("clips") / "run")
    assert config.data.frames == 4
    return config, train(config)


def test_clips_without_a_video_are_left_out_and_told_of(data, caplog):
    with caplog.at_level(logging.WARNING, "tauten.training"):
        test = load_split(data, "test")
    assert len(test) == 4 + 14
    assert "9,650 of 9,668 clips have no video: 136 of 138 videos are missing, the" in caplog.text
    whole = load_epic_kitchens(data.source.partition(":")[2], "test")
    rows = [n for n, video in enumerate(whole.video_id) if video in TEST]
    for k in (0, 9, 17):
        video, (start, stop) = whole.video_id[rows[k]], whole.seconds[rows[k]].tolist()
        clip = test.images.clips[k]
        assert (clip.path.name, clip.start, clip.stop) == (f"{video}.MP4", start, stop)
        assert clip.path.parent.name == "videos"
        assert torch.equal(test.images[k : k + 1][0], load_clip(clip, 2, size=16))


def test_limit_counts_clips_with_a_video(data, splits):
    few = load_splits(replace(data, limit=5))
    assert {name: len(part) for name, part in few.items()} == {"train": 5, "val": 5, "test": 5}
    names = {clip.path.stem for part in splits.values() for clip in part.images.clips}
    assert names <= set(TRAIN | TEST)
    assert len(splits["train"]) + len(splits["val"]) > 40


def test_strict_wants_every_video(data):
    with pytest.raises(ValueError, match="9,650 of 9,668 clips have no video"):
        load_split(replace(data, strict=True), "test")


def test_a_folder_without_videos_says_where_they_go(shared_data):
    config = DataConfig(source=f"epic_kitchens:{shared_data / 'ek100'}", frames=2)
    with pytest.raises(ValueError, match=r"9,668 of 9,668 clips have no video") as error:
        load_split(config, "test")
    said = str(error.value)
    assert "P01/videos/P01_01.MP4" in said
    assert "rgb_frames/P01_01/frame_0000000001.jpg" in said
    assert "epic-kitchens.github.io" in said
    assert "data.features=FILE, model.image=features, data.frames=0" in said


@pytest.mark.parametrize(
    "place",
    [
        "P01/videos/P01_02.MP4",
        "P01/P01_02.mp4",
        "videos/P01_02.MP4",
        "P01_02.mp4",
        "EPIC-KITCHENS/P01/videos/P01_02.MP4",
        "P01/rgb_frames/P01_02/",
        "rgb_frames/P01_02/",
        "P01/P01_02/",
        "P01/P01_02.MP4/",
    ],
)
def test_places_of_videos(tmp_path, place):
    target = tmp_path / place
    if place.endswith("/"):
        target.mkdir(parents=True)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.touch()
    assert find_video(tmp_path, "P01_02") == target
    assert find_video(tmp_path, "P01_03") == tmp_path / "P01" / "videos" / "P01_03.MP4"
    (tmp_path / "P01" / "videos").mkdir(parents=True, exist_ok=True)
    (tmp_path / "P01" / "videos" / "P01_02.MP4").touch()
    assert find_video(tmp_path, "P01_02") == tmp_path / "P01" / "videos" / "P01_02.MP4"


def test_folders_of_frames_go_by_the_official_numbers(kitchens, tmp_path):
    test = load_epic_kitchens(kitchens, "test")
    folder = tmp_path / "P03" / "rgb_frames" / "P03_26"
    folder.mkdir(parents=True)
    n = test.video_id.index("P03_26")
    clip = epic_clips(tmp_path, test)[n]
    first, stop = test.frame_numbers[n].tolist()
    assert (clip.path, clip.start, clip.stop) == (folder, first, stop)
    assert clip.fps == pytest.approx(60, abs=0.5)
    assert stop / 60 == pytest.approx(float(test.seconds[n, 1]), abs=0.05)
    for number in range(first, stop):
        color = (number % 256, number // 256, 0)
        Image.new("RGB", (4, 4), color).save(folder / f"frame_{number:010d}.png")
    for k, frame in enumerate(load_clip(clip, 4)):
        wanted = int(first + (k + 0.5) * (stop - first) / 4)
        assert frame[:, 0, 0].tolist() == [wanted % 256, wanted // 256, 0]
    (tmp_path / "P02" / "P02_13.MP4").mkdir(parents=True)
    (tmp_path / "P02" / "P02_13.MP4" / "15.mp4").touch()
    cut = epic_clips(tmp_path, test)[test.video_id.index("P02_13")]
    assert (cut.path.name, cut.fps) == ("P02_13.MP4", None)
    assert [cut.start, cut.stop] == test.seconds[test.video_id.index("P02_13")].tolist()
    train = load_epic_kitchens(kitchens, "train")
    (tmp_path / "P03_15").mkdir()
    with pytest.raises(ValueError, match="P03_15: the annotations say no frame numbers"):
        epic_clips(tmp_path, train)


def test_a_trial_on_clips(run, kitchens):
    config, result = run
    assert result.total_steps == 4
    assert "multi_instance/mAP_official/mean" in result.test
    found = json.loads((config.output / "results.json").read_text())
    assert found["name"] == "epic_kitchens_clips_mmts (runlocal)"
    said = found["protocol"]["clips"]
    assert said.startswith("4 frames of each clip, evenly spaced; in training one drawn at random")
    assert found["skipped"] == {"count": 0, "kinds": {}, "first": []}
    assert "unreadable" not in found["protocol"]
    with np.load(config.output / "test_images.npz") as stored:
        middle = load_split(config.data, "test").images[:][:, 2]
        assert np.array_equal(stored["images"], middle.permute(0, 2, 3, 1).numpy())
    again = evaluate(config.output, bootstrap=0)
    assert again["mean_recall"] == result.test["mean_recall"]


def test_interrupted_it_ends_with_the_same_bits(run, kitchens, tmp_path, monkeypatch):
    config, _ = run
    again = small(kitchens, tmp_path / "run")
    with monkeypatch.context() as patch:
        dies_in_step(4, patch)
        with pytest.raises(KeyboardInterrupt):
            train(again)
    again.data.workers = 2
    train(again)
    last = "checkpoints/checkpoint-4/model.safetensors"
    first, second = (load_file(c.output / last) for c in (config, again))
    assert all(torch.equal(second[name], value) for name, value in first.items())
    histories = [(c.output / "history.jsonl").read_text() for c in (config, again)]
    assert histories[0] == histories[1]


def test_read_ahead_and_interrupted_it_ends_with_the_same_bits(kitchens, tmp_path, monkeypatch):
    runs = [small(kitchens, tmp_path / str(n), data__ahead=True) for n in (1, 2)]
    train(runs[0])
    with monkeypatch.context() as patch:
        dies_in_step(4, patch)
        with pytest.raises(KeyboardInterrupt):
            train(runs[1])
    train(runs[1])
    last = "checkpoints/checkpoint-4/model.safetensors"
    first, second = (load_file(c.output / last) for c in runs)
    assert all(torch.equal(second[name], value) for name, value in first.items())
    histories = [(c.output / "history.jsonl").read_text() for c in runs]
    assert histories[0] == histories[1]


@pytest.fixture
def damaged(kitchens, tmp_path):
    """The same with two videos that are none."""
    root = tmp_path / "kitchens"
    root.mkdir()
    for file in kitchens.glob("*.csv.gz"):
        (root / file.name).symlink_to(file)
    for video in TRAIN | TEST:
        place = root / video[:3] / "videos" / f"{video}.MP4"
        place.parent.mkdir(parents=True, exist_ok=True)
        if video in ("P02_05", "P03_26"):
            place.write_bytes(b"no video")
        else:
            place.symlink_to(kitchens / video[:3] / "videos" / f"{video}.MP4")
    return root


def avion(side=32, patch=16, width=64, frames=4, context=77, words=514):
    """Small random weights under the names of a checkpoint of AVION."""

    def block(prefix):
        shapes = {
            f"{prefix}.attn.in_proj_weight": (3 * width, width),
            f"{prefix}.attn.in_proj_bias": (3 * width,),
            f"{prefix}.attn.out_proj.weight": (width, width),
            f"{prefix}.attn.out_proj.bias": (width,),
            f"{prefix}.mlp.c_fc.weight": (4 * width, width),
            f"{prefix}.mlp.c_fc.bias": (4 * width,),
            f"{prefix}.mlp.c_proj.weight": (width, 4 * width),
            f"{prefix}.mlp.c_proj.bias": (width,),
        }
        return shapes | norm(f"{prefix}.ln_1") | norm(f"{prefix}.ln_2")

    def norm(prefix):
        return {f"{prefix}.weight": (width,), f"{prefix}.bias": (width,)}

    shapes = {
        "logit_scale": (),
        "visual.class_embedding": (width,),
        "visual.positional_embedding": ((side // patch) ** 2 + 1, width),
        "visual.temporal_embedding": (frames, width),
        "visual.conv1.weight": (width, 3, patch, patch),
        "visual.image_projection": (width, 256),
        "textual.token_embedding.weight": (words, width),
        "textual.positional_embedding": (context, width),
        "textual.text_projection": (width, 256),
    }
    for name in ("visual.ln_pre", "visual.ln_post", "textual.ln_final"):
        shapes |= norm(name)
    for tower in ("visual", "textual"):
        shapes |= block(f"{tower}.transformer.resblocks.0")
    generator = torch.Generator().manual_seed(0)
    return {n: torch.randn(shape, generator=generator) * 0.1 for n, shape in shapes.items()}


def test_the_recipe_itself_trains_a_checkpoint(kitchens, tmp_path):
    torch.save({"state_dict": avion()}, tmp_path / "small.pt")
    signs = sorted(ByteLevel.alphabet())
    ends = ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = [*signs, *(f"{sign}</w>" for sign in signs), *ends]
    CLIPTokenizer(
        vocab={token: n for n, token in enumerate(vocabulary)}, merges=[]
    ).save_pretrained(tmp_path / "tokenizer")
    config = RECIPES["epic_kitchens_clips_margin"](tmp_path / "run", epochs=1)
    assert (config.data.frames, config.optim.chunk, config.data.features) == (16, 32, None)
    config.data.source, config.data.held_out = f"epic_kitchens:{kitchens}", 0.2
    config.model.image, config.model.text = str(tmp_path / "small.pt"), str(tmp_path / "tokenizer")
    config.data.image_size, config.data.frames = 32, 6  # of a checkpoint with 4
    config.optim.batch_size, config.optim.chunk, config.evaluation.bootstrap = 16, 5, 2
    config.progress = config.tensorboard = False
    assert train(config).total_steps == 2
    first, last = avion(), load_file(tmp_path / "run/checkpoints/checkpoint-2/model.safetensors")
    moved = last["encoder.image_projection.weight"].T - first["visual.image_projection"]
    assert 0 < float(moved.abs().max()) < 1e-4


def dies_in_step(count, monkeypatch):
    """Let the user end the training in this step."""
    whole, calls = ContrastiveTrainer.compute_loss, []

    def compute_loss(self, *given, **named):
        calls.append(1)
        if len(calls) == count:
            raise KeyboardInterrupt
        return whole(self, *given, **named)

    monkeypatch.setattr(ContrastiveTrainer, "compute_loss", compute_loss)


def test_broken_videos_are_counted_over_a_resume(damaged, tmp_path, monkeypatch, caplog):
    config, visits, batch = small(damaged, tmp_path / "run"), [], PairStore.batch

    def watched(self, index, reading=None):
        found = batch(self, index, reading)
        visits.append(len(index) - len(found["index"]))
        return found

    with monkeypatch.context() as patch, caplog.at_level(logging.WARNING, "tauten.training"):
        patch.setattr(PairStore, "batch", watched)
        train(config)
    lost = sum(visits)
    assert len(visits) == 1 + 4
    assert min(sum(visits[:3]), sum(visits[3:])) > 0
    found = json.loads((config.output / "results.json").read_text())
    assert found["skipped"]["count"] == lost
    assert found["skipped"]["kinds"] == {"unreadable clip": lost}
    assert "P02_05.MP4 is not a readable video" in found["skipped"]["first"][0]
    assert found["protocol"]["unreadable"] == "4 test clips, searched as black frames"
    assert found["test"]["x2y/n"] == 18
    assert f"step 4: skipped {lost} samples so far" in caplog.text
    assert "4 of 18 clips cannot be read and are searched as black frames" in caplog.text
    again = small(damaged, tmp_path / "again")
    with monkeypatch.context() as patch:
        dies_in_step(4, patch)
        with pytest.raises(KeyboardInterrupt):
            train(again)
    train(again)
    resumed = json.loads((again.output / "results.json").read_text())
    assert resumed["skipped"] == found["skipped"]
    assert resumed["test"] == found["test"]


def test_strict_ends_a_training_with_a_broken_video(damaged, tmp_path):
    parts = load_split(DataConfig(source=f"epic_kitchens:{damaged}", frames=2, limit=4), "test")
    data = replace(parts, images=ClipSource(parts.images.clips, 2, 16, strict=True))
    assert {clip.path.name for clip in data.images.clips} >= {"P03_26.MP4"}
    with pytest.raises(ValueError, match="P03_26.MP4 is not a readable video"):
        PairStore(data, lambda texts: {}, DataConfig()).batch(torch.arange(4))


def test_clips_and_features_have_the_same_texts_and_relevancies(splits, data):
    of_features = load_split(replace(data, frames=0, features="synthetic", limit=4), "train")
    of_clips = splits["train"]
    assert of_clips.unique_captions()[0] == of_features.unique_captions()[0]
    test = load_split(replace(data, frames=0, features="synthetic"), "test")
    names = [clip.path.stem for clip in splits["test"].images.clips]
    whole = load_epic_kitchens(data.source.partition(":")[2], "test")
    rows = torch.tensor([n for n, video in enumerate(whole.video_id) if video in TEST])
    assert [whole.video_id[n] for n in rows.tolist()] == names
    texts, every = (part.unique_captions()[0] for part in (splits["test"], test))
    columns = torch.tensor([every.index(text) for text in texts])
    wanted = test.relevancy.between(rows, columns)
    assert torch.equal(splits["test"].relevancy.dense(), wanted)
    assert splits["test"].labels == [test.labels[n] for n in rows.tolist()]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"frames": 0}, "got data.frames=0 and data.features=None"),
        ({"features": "synthetic"}, "got data.frames=2 and data.features='synthetic'"),
    ],
)
def test_either_clips_or_features(data, fields, said):
    with pytest.raises(ValueError, match=said):
        load_splits(replace(data, **fields))
