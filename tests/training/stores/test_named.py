"""Data sets by name in training, and the protocols of Flickr30K and MSCOCO."""

import dataclasses
import json

import pytest
import torch

from tauten.data import emoji_lt
from tauten.evaluation import retrieval
from tauten.models import FeatureTower
from tauten.models.tower_kinds import build_tower
from tauten.training import Config, DataConfig
from tauten.training.encoders import build_encoder
from tauten.training.loop.arguments import make_optimizer
from tauten.training.stores.epic import synthetic_features
from tauten.training.stores.named import variant_of
from tauten.training.stores.pair_data import PairData, as_published
from tauten.training.stores.pairs import PairStore
from tauten.training.stores.splits import load_split, load_splits
from tauten.training.tasks.encoded import Encoded


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Nine drawings in the published format of Flickr30K, five captions each; 5, 2 and 2."""
    root = tmp_path_factory.mktemp("flickr30k")
    (root / "flickr30k-images").mkdir()
    rows = []
    for row in emoji_lt("val").select(range(9)):
        name = f"{row['id']}.png"
        split = ("train", "train", "train", "val", "test")[row["index"] % 5]
        row["image"].save(root / "flickr30k-images" / name)
        sentences = [{"raw": f"{row['caption']} {n}"} for n in range(5)]
        rows.append({"filename": name, "split": split, "sentences": sentences})
    (root / "dataset_flickr30k.json").write_text(json.dumps({"images": rows}))
    return root


def test_splits_and_all_captions_of_a_named_set(photos):
    splits = load_splits(DataConfig(source=f"flickr30k:{photos}"))
    assert {name: len(data) for name, data in splits.items()} == {"train": 6, "val": 2, "test": 1}
    texts, own = splits["val"].unique_captions()
    assert len(texts) == 10
    assert own == [[0, 1, 2, 3, 4], [5, 6, 7, 8, 9]]


def test_validation_and_test_of_other_sets(photos, tmp_path):
    folder = tmp_path / "train"
    folder.mkdir()
    for row in emoji_lt("test").select(range(4)):
        row["image"].save(folder / f"{row['id']}.png")
        (folder / f"{row['id']}.txt").write_text(row["caption"], encoding="utf-8")
    named = f"flickr30k:{photos}"
    splits = load_splits(DataConfig(source=str(folder), val=named, test=named))
    assert [len(splits[name]) for name in ("train", "val", "test")] == [4, 2, 1]
    with pytest.raises(ValueError, match=r"coco is missing: give --data.test coco:FOLDER"):
        load_splits(DataConfig(source=str(folder), val=named, test="coco:"))


def test_one_split_alone_is_that_of_all(photos, shared_data):
    config = DataConfig(source=f"emoji_video:{shared_data}", strip=8, frames=1, limit=40)
    every = load_splits(config)
    for name in ("train", "val"):
        assert load_split(config, name).fingerprint == every[name].fingerprint


def test_variant():
    assert variant_of("emoji_lt") is None


def pair_data(count, per_image=5):
    captions = [[f"{i // 2} {n}" for n in range(per_image)] for i in range(count)]
    return PairData(
        torch.zeros(count, 1), captions, [""] * count, [[] for _ in range(count)], None, "f"
    )


def test_the_published_protocol_keeps_equal_captions_apart():
    data = as_published(pair_data(1000, per_image=6), "1k")
    texts, own = data.unique_captions()
    assert len(texts) == 5000 > len(set(texts))
    assert own[1] == [5, 6, 7, 8, 9]
    assert len(pair_data(1000).unique_captions()[0]) == 2500


@pytest.mark.parametrize(("protocol", "count"), [("1k", 999), ("5k", 1000), ("1k-of-5k", 5001)])
def test_another_number_of_images_is_refused(protocol, count):
    with pytest.raises(ValueError, match=f"there are {count}, 0 of them with fewer"):
        as_published(pair_data(count), protocol)
    with pytest.raises(ValueError, match="1000, 1000 of them with fewer"):
        as_published(pair_data(1000, per_image=4), "1k")


def test_five_galleries_are_averaged():
    torch.manual_seed(0)
    x, y = (torch.nn.functional.normalize(torch.randn(n, 4), dim=1) for n in (10, 20))
    own = [[2 * i, 2 * i + 1] for i in range(10)]
    whole = Encoded(x, y, [str(j) for j in range(20)], own, None, None, galleries=5)
    parts = [
        retrieval(x[2 * k : 2 * k + 2], y[4 * k : 4 * k + 4], [[0, 1], [2, 3]]) for k in range(5)
    ]
    found = whole.retrieval(bootstrap=10)
    for name in ("x2y/hit@1", "y2x/hit@1", "y2x/mAP"):
        assert found[name] == pytest.approx(sum(part[name] for part in parts) / 5)
    alone = dataclasses.replace(whole, galleries=1).retrieval()
    assert alone["y2x/hit@1"] < found["y2x/hit@1"]


@pytest.fixture(scope="module")
def epic(shared_data):
    config = DataConfig(
        source=f"epic_kitchens:{shared_data / 'ek100'}",
        features="synthetic",
        label="noun",
        limit=60,
    )
    return load_splits(config)


def test_matches_of_clips_are_the_sentences_of_relevancy_1(epic):
    for name in ("val", "test"):
        data = epic[name]
        dense = data.relevancy.dense()
        texts, own = data.unique_captions()
        assert dense.shape == (len(data), len(texts))
        assert [row.nonzero().flatten().tolist() for row in dense == 1] == own
        assert (dense == 1).any(dim=0).all()
        assert (dense == 1).any(dim=1).all()


def test_captions_of_training_are_drawn_from_relevancy_above_a_tenth(epic):
    train = epic["train"]
    shown = []

    class Texts:
        def __call__(self, texts):
            shown.append(texts)
            return {}

    torch.manual_seed(0)
    store = PairStore(train, Texts(), DataConfig())
    for _ in range(40):
        store.batch(torch.tensor([7]))
    texts = train.unique_captions()[0]
    allowed = {texts[int(j)] for j in train.drawn[7]}
    assert len(allowed) > 40
    drawn = {text for batch in shown for text in batch}
    assert drawn <= allowed
    assert len(drawn) > 20


def test_synthetic_features_are_those_of_the_classes(shared_data):
    from tauten.data import load_epic_kitchens

    whole = load_epic_kitchens(shared_data / "ek100", "test")
    clips = torch.arange(400)
    found = synthetic_features(whole, clips)
    assert torch.equal(found[5:9], synthetic_features(whole, clips[5:9]))
    labels = whole.labels("verb_noun")[:400]
    unit = torch.nn.functional.normalize(found, dim=1)
    similar = unit @ unit.T
    same = torch.tensor([[a == b for b in labels] for a in labels]).fill_diagonal_(False)
    assert similar[same].mean() > similar[~same].mean() + 0.3


def test_features_of_a_file(shared_data, tmp_path):
    import numpy as np

    from tauten.data import load_epic_kitchens

    folder = shared_data / "ek100"
    names = [n for s in ("train", "test") for n in load_epic_kitchens(folder, s).narration_id]
    rows = np.arange(len(names) * 2, dtype=np.float32).reshape(-1, 2)
    np.save(tmp_path / "clips.npy", rows)
    (tmp_path / "clips.ids.txt").write_text("\n".join(names))
    config = DataConfig(
        source=f"epic_kitchens:{folder}", features=str(tmp_path / "clips.npy"), limit=20
    )
    test = load_split(config, "test")
    assert test.images[0].tolist() == rows[67_217].tolist()
    np.save(tmp_path / "clips.npy", rows[:-1])
    (tmp_path / "clips.ids.txt").write_text("\n".join(names[:-1]))
    with pytest.raises(ValueError, match="1 of 20 samples have no features"):
        load_split(config, "test")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"features": None}, "set data.features=FILE"),
        ({"frames": 4}, "on its videos, with data.frames=16 or so, or on features"),
        ({"label": "person"}, "one of noun, verb, verb_noun, got 'person'"),
        ({"test": "other.tar"}, "its own validation and test clips"),
        ({"relevancy": "names"}, "relevancies of its own"),
    ],
)
def test_settings_that_epic_kitchens_refuses(fields, said, tmp_path):
    given = {"source": f"epic_kitchens:{tmp_path}", "features": "synthetic"} | fields
    with pytest.raises(ValueError, match=said):
        load_splits(DataConfig(**given))


def test_features_and_their_tower_belong_together():
    with pytest.raises(ValueError, match="belong together, got model.image=convolutional"):
        Config(data=DataConfig(features="clips.npy"))


def test_the_tower_of_features():
    rows = torch.randn(3, 6)
    plain = FeatureTower(6)
    assert plain(rows) is rows
    hidden = FeatureTower(6, hidden=5)
    assert hidden(rows).shape == (3, hidden.width) == (3, 5)
    again = build_tower(hidden.describe())
    again.load_state_dict(hidden.state_dict())
    assert torch.equal(again(rows), hidden(rows))
    with pytest.raises(ValueError, match=r"expected features \(N, 6\), got \(3, 3, 8, 8\)"):
        plain(torch.zeros(3, 3, 8, 8))
    with pytest.raises(ValueError, match="dim >= 1 and hidden >= 0, got 0 and 0"):
        FeatureTower(0)


@pytest.mark.parametrize("name", ["adamw", "sgd"])
def test_the_towers_have_a_rate_of_their_own(name):
    config = Config()
    config.model.channels, config.model.dim = (8,), 8
    config.optim.name, config.optim.lr, config.optim.tower_lr = name, 1e-2, 1e-4
    module = torch.nn.Module()
    module.encoder, module.loss_fn = build_encoder(config.model, 50), torch.nn.Linear(1, 1)
    rates = {
        id(p): group["lr"]
        for group in make_optimizer(config.optim, module).param_groups
        for p in group["params"]
    }
    for path, parameter in module.encoder.named_parameters():
        assert rates.pop(id(parameter)) == (1e-2 if "projection" in path else 1e-4), path
    assert [rates.pop(id(p)) for p in module.loss_fn.parameters()] == [1e-2, 1e-2]
    assert not rates
    config.optim.tower_lr = 0.0
    with pytest.raises(ValueError, match="optim.tower_lr must be in"):
        config.validate()
