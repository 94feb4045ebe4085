"""Training from shards is training from memory in another order, and goes on with the same bits."""

import io
import json
import tarfile
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.data import Sampler

from tauten.data import ShardPairs, emoji_lt, index_shards
from tauten.data.epoch_order import EpochOrder
from tauten.training import Config, evaluate, specs, train
from tauten.training.loop.trainer import ContrastiveTrainer
from tauten.training.stores.splits import load_splits

PAIRS, BATCH, BUFFER, STEPS = 72, 16, 40, 8
TEXTS = ("caption", "label", "alt_caption", "keywords")


def members(row):
    content = io.BytesIO()
    row["image"].save(content, "PNG")
    texts = {name: row[name] for name in TEXTS}
    return {"png": content.getvalue(), "json": json.dumps(texts).encode()}


def write(path, rows, damaged=()):
    with tarfile.open(path, "w") as tar:
        for number, row in enumerate(rows):
            for kind, content in members(row).items():
                if number in damaged and kind == "png":
                    content = content[:40]
                info = tarfile.TarInfo(f"{number:04}.{kind}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Two training tars, whole and with two damaged pictures, and a tar to validate and test on."""
    root = tmp_path_factory.mktemp("shards")
    rows = list(emoji_lt("train").select(range(PAIRS)))
    for name, damaged in (("whole", ()), ("damaged", (3, 20))):
        (root / name).mkdir()
        write(root / name / "a.tar", rows[:50], damaged)
        write(root / name / "b.tar", rows[50:])
    write(root / "other.tar", emoji_lt("val").select(range(24)))
    return root


def streamed(output, data, name="whole") -> Config:
    """Eight steps, checkpoints in the middle of epochs; texts and pixels are drawn."""
    made = Config(output=output, progress=False, tensorboard=False, log_every=3, seed=3)
    made.data = replace(made.data, source=str(data / name), val=str(data / "other.tar"))
    made.data = replace(made.data, test=made.data.val, label="label", stream=True, buffer=BUFFER)
    made.data.keywords, made.data.alternative = 0.3, 0.3
    made.model.channels, made.model.grid, made.model.dim, made.model.text_width = (6,), 2, 8, 8
    made.control = specs.control("mmts")
    made.optim.batch_size, made.optim.epochs = BATCH, 2
    made.evaluation.every, made.evaluation.bootstrap = 0.75, 10
    return made


@pytest.fixture(scope="module")
def damaged(data, tmp_path_factory):
    """A run on shards with two pictures that cannot be used, never interrupted."""
    config = streamed(tmp_path_factory.mktemp("runs") / "damaged", data, "damaged")
    train(config)
    return config


def same_run(first, second):
    one, other = (
        load_file(p / f"checkpoints/checkpoint-{STEPS}/model.safetensors") for p in (first, second)
    )
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]), name
    assert (first / "history.jsonl").read_text() == (second / "history.jsonl").read_text()
    results = [json.loads((run / "results.json").read_text()) for run in (first, second)]
    for name in ("val", "test", "best_step", "total_steps", "control"):
        assert results[0][name] == results[1][name]
    return results


class Shuffled(Sampler):
    """The order of the shards, for a run in memory."""

    def __init__(self, catalogue):
        self.catalogue, self.epoch = catalogue, 0

    def __len__(self):
        return len(self.catalogue)

    def __iter__(self):
        run = min(256, BUFFER)
        order = EpochOrder(self.catalogue, seed=3, epoch=self.epoch, buffer=BUFFER, run=run)
        self.epoch += 1
        return iter(order.ids(0, len(order)).tolist())


def test_it_is_training_from_memory_in_the_order_of_shards(data, tmp_path, monkeypatch):
    config = streamed(tmp_path / "stream", data)
    train(config)
    assert (config.output / "shards.jsonl").exists()
    catalogue = index_shards(data / "whole", tmp_path / "again.jsonl")
    order = Shuffled(catalogue)
    monkeypatch.setattr(ContrastiveTrainer, "_get_train_sampler", lambda *_: order)
    memory = replace(config, output=tmp_path / "memory", data=replace(config.data, stream=False))
    memory.data.workers = 2
    train(memory)
    assert order.epoch == 2
    results = same_run(config.output, memory.output)
    assert results[0]["protocol"] == results[1]["protocol"]
    assert results[0]["skipped"] == {"count": 0, "kinds": {}, "first": []}
    assert "skipped" not in results[1]


def test_samples_that_cannot_be_used_are_left_out_and_counted(damaged, data):
    skipped = json.loads((damaged.output / "results.json").read_text())["skipped"]
    bad, seen = {3, 20}, []
    catalogue = index_shards(data / "damaged", damaged.output / "shards.jsonl")
    for epoch in range(2):
        order = EpochOrder(catalogue, seed=3, epoch=epoch, buffer=BUFFER, run=BUFFER)
        seen += [i for i in order.ids(0, PAIRS // BATCH * BATCH).tolist() if i in bad]
    assert skipped["count"] == len(seen) > 0
    assert skipped["kinds"] == {"unreadable image": len(seen)}
    assert all("a.tar, sample" in line for line in skipped["first"])


@pytest.mark.parametrize("workers", [0, 2])
def test_it_goes_on_with_the_same_bits_and_reads_nothing_twice(
    damaged, data, tmp_path, monkeypatch, workers
):
    config = streamed(tmp_path / "run", data, "damaged")
    step, left = ContrastiveTrainer.training_step, [5]

    def stopped(*args, **kwargs):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return step(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(ContrastiveTrainer, "training_step", stopped)
        with pytest.raises(KeyboardInterrupt):
            train(config)
    read, batch = [], ShardPairs.batch
    monkeypatch.setattr(
        ShardPairs, "batch", lambda pairs, ids: read.append(len(ids)) or batch(pairs, ids)
    )
    config.data.workers = workers
    train(config)
    results = same_run(damaged.output, config.output)
    assert results[0]["skipped"] == results[1]["skipped"]
    if workers == 0:
        assert read == [1] + [BATCH] * (STEPS - 3)  # one to try the towers; from checkpoint 3 on


def test_the_best_checkpoint_is_evaluated_without_the_shards(damaged):
    results = json.loads((damaged.output / "results.json").read_text())
    found = evaluate(damaged.output, split="val", bootstrap=0, progress=False)
    assert found["mean_recall"] == results["val"]["mean_recall"]
    with pytest.raises(ValueError, match="evaluate on val or test"):
        evaluate(damaged.output, split="train")


def test_captions_are_read_for_a_vocabulary_and_clusters(data, tmp_path):
    config = streamed(tmp_path, data, "damaged")
    split = load_splits(config.data, index=tmp_path / "shards.jsonl")["train"]
    rows = emoji_lt("train").select(range(PAIRS))
    assert split.all_captions() == [[text] for text in rows["caption"]]
    assert split.labels == rows["label"]
    assert len(split) == PAIRS
    assert split.images.numel() == 0


def test_strict_ends_the_run_at_a_damaged_picture(data, tmp_path):
    config = streamed(tmp_path / "run", data, "damaged")
    config.data.strict = True
    with pytest.raises(ValueError, match=r"a\.tar, sample (3|20)"):
        train(config)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"val": None}, "give data.val and data.test, got None"),
        ({"source": "emoji_lt"}, "set data.source to a file"),
        ({"limit": 5}, "fewer of them instead of data.limit=5"),
        ({"relevancy": "names"}, "needs data.relevancy=none"),
        ({"buffer": 0}, "data.buffer must be 1 or more"),
        ({"workers": -1}, r"data.workers must be in \[0, 1024\], got -1"),
    ],
)
def test_what_means_nothing_is_refused(data, tmp_path, change, message):
    config = streamed(tmp_path / "run", data)
    config.data = replace(config.data, **change)
    with pytest.raises(ValueError, match=message):
        train(config)
    assert not (tmp_path / "run").exists()


def test_a_column_that_no_sample_has_is_named(data, tmp_path):
    config = streamed(tmp_path / "run", data)
    config.data.label = "kind"
    with pytest.raises(ValueError, match="none of the 72 samples has a column 'kind'"):
        train(config)


def test_shards_of_which_nothing_can_be_used_are_refused(data, tmp_path):
    write(tmp_path / "bad.tar", emoji_lt("train").select(range(20)), range(20))
    config = streamed(tmp_path / "run", data)
    config.data.source = str(tmp_path / "bad.tar")
    with pytest.raises(ValueError, match="none of 8 samples spread over the data"):
        train(config)


def test_shards_of_a_set_known_by_name(data, tmp_path):
    config = streamed(tmp_path / "run", data)
    config.data.source = f"cc3m:{data / 'whole'}"
    split = load_splits(config.data, ["train"], tmp_path / "shards.jsonl")["train"]
    assert len(split) == PAIRS
    assert not (tmp_path / "shards.jsonl").exists()
    table = tmp_path / "table"
    table.mkdir()
    (table / "pairs.csv").write_text("filepath,title\na.png,a cat\n")
    config.data.source = f"cc3m:{table}"
    with pytest.raises(ValueError, match="data.stream=False holds its pictures in memory"):
        load_splits(config.data, ["train"], tmp_path / "shards.jsonl")


def test_a_batch_without_a_readable_picture_is_no_step_of_the_loss(data, tmp_path):
    rows = list(emoji_lt("train").select(range(24)))
    (tmp_path / "bad").mkdir()
    write(tmp_path / "bad" / "a.tar", rows, damaged=range(4, 20))
    config = streamed(tmp_path / "run", data)
    config.data.source, config.data.label = str(tmp_path / "bad"), None
    config.data.keywords = config.data.alternative = 0.0
    config.control = specs.control("constant")
    config.optim.batch_size, config.optim.epochs = 2, 1
    train(config)
    results = json.loads((config.output / "results.json").read_text())
    assert results["skipped"]["count"] == 16
    assert results["total_steps"] == 12
