"""Samples of several modalities that lack any of them: image, caption or a further picture."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import tauten as tt
from tauten.data import load_pairs
from tauten.models import BagTower, ConvTower
from tauten.models.modal_encoder import ModalEncoder
from tauten.training import Config, DataConfig, evaluate, load_encoder, train
from tauten.training.options.further import further_of
from tauten.training.run.names import IMAGES
from tauten.training.stores.classes import with_classes
from tauten.training.stores.splits import load_splits
from tauten.training.tasks.further import FurtherLosses
from tauten.training.tasks.module import ContrastiveModule

COLOURS = ("red", "green", "blue", "grey", "white", "black")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Write 120 samples: one in five lacks its image, its caption or its back, each another one."""
    folder, rng = tmp_path_factory.mktemp("missing"), np.random.default_rng(0)
    rows = []
    for i in range(120):
        names = rng.choice(COLOURS, 2)
        row = {"caption": f"{' '.join(names)} {i}", "kind": names[0]}
        for side in ("image", "back"):
            Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).save(
                folder / f"{side}{i}.png"
            )
            row[side] = f"{side}{i}.png"
        for place, lacks in enumerate(("image", "caption", "back")):
            if i % 5 == place:
                row[lacks] = None
        row["split"] = ("train", "val", "test")[i // 10 % 3]
        rows.append(row)
    rows[3]["back"], rows[3]["caption"] = None, ""  # an image alone
    rows[5]["caption"] = None  # a back alone
    (folder / "broken.png").write_bytes(b"no picture")
    rows[8]["image"] = "broken.png"
    (folder / "pairs.json").write_text(json.dumps(rows))
    return folder


def of_missing(folder, label="kind", **fields):
    return DataConfig(
        source=str(folder / "pairs.json"), others=("back",), image_size=8, label=label, **fields
    )


def test_what_is_missing_is_counted_and_too_little_is_skipped(folder, caplog):
    parts = load_splits(of_missing(folder))
    assert {name: len(part) for name, part in parts.items()} == {"train": 38, "val": 40, "test": 40}
    assert "skipped 2 of 120 samples" in caplog.text
    assert "(2 fewer than two modalities); first:" in caplog.text
    assert "row 3: fewer than two modalities: image" in caplog.text
    assert "1 picture cannot be read, taken as missing; first:" in caplog.text
    rows = [i for i in range(120) if i // 10 % 3 == 0 and i not in (3, 5)]
    train = parts["train"]
    pictured, captioned = (there.tolist() for there in train.present())
    assert pictured == [i % 5 != 0 and i != 8 for i in rows]
    assert captioned == [i % 5 != 1 for i in rows]
    assert train.others["back"].present.tolist() == [i % 5 != 2 for i in rows]
    both = train.pairs()
    assert len(both) == sum(train.complete())
    assert len(both.unique_captions()[0]) == len(both)
    assert both.labels == [n for n, t in zip(train.labels, train.complete(), strict=True) if t]


def test_without_further_modalities_such_samples_are_left_out(folder, caplog):
    config = dataclasses.replace(of_missing(folder), others=())
    sizes = [len(part) for part in load_splits(config).values()]
    assert sum(sizes) == 120 - 48 - 2  # two in five, an image alone and one that is broken
    assert "no image" in caplog.text
    assert "no caption" in caplog.text


def test_strict_raises_at_the_first_sample_that_cannot_be_used(folder):
    with pytest.raises(ValueError, match="row 3: fewer than two modalities"):
        load_pairs(folder / "fewer.json", partial=("back",), strict=True)
    with pytest.raises(ValueError, match="row 8: unreadable image"):
        load_splits(of_missing(folder, strict=True))


@pytest.fixture(autouse=True, scope="module")
def fewer(folder):
    rows = json.loads((folder / "pairs.json").read_text())
    rows[8]["image"] = None
    (folder / "fewer.json").write_text(json.dumps(rows))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"image": None}, "no picture in the column 'image'"),
        ({"caption": None}, "no sample of .* has both an image"),
    ],
)
def test_data_without_any_pair_are_refused(folder, tmp_path, change, said):
    rows = [row | change for row in json.loads((folder / "pairs.json").read_text())]
    rows = [row for row in rows if row["image"] is None or row["image"] != "broken.png"]
    place = folder / f"{next(iter(change))}.json"
    place.write_text(json.dumps(rows))
    with pytest.raises(ValueError, match=said):
        load_splits(dataclasses.replace(of_missing(folder), source=str(place)))


def test_a_split_without_a_further_modality_is_refused_with_what_to_do(folder):
    rows = json.loads((folder / "pairs.json").read_text())
    rows = [row | {"back": None} if row["split"] == "val" else row for row in rows]
    (folder / "bare.json").write_text(json.dumps(rows))
    with pytest.raises(ValueError, match="each split needs one: .* leave it out of data.others"):
        load_splits(dataclasses.replace(of_missing(folder), source=str(folder / "bare.json")))


def test_equal_rows_without_a_picture_stay_apart_and_no_split_is_tied_to_them(folder, tmp_path):
    rows = json.loads((folder / "pairs.json").read_text())
    for row in rows:
        del row["split"]
    (folder / "whole.json").write_text(json.dumps(rows))
    config = dataclasses.replace(of_missing(folder), source=str(folder / "whole.json"))
    parts = load_splits(config)
    assert sum(map(len, parts.values())) == 118
    assert max(len(part) for part in parts.values()) < 110
    for part in parts.values():
        assert not bool(part.present()[0].all())


def test_further_photos_stand_as_a_viewer_shows_them(tmp_path):
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:4] = 255  # the upper half is white
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    rows = [{"image": "turned.png", "back": "turned.png", "caption": f"photo {i}"} for i in "abc"]
    splits = ("train", "val", "test")
    rows = [row | {"split": name} for row, name in zip(rows, splits, strict=True)]
    (tmp_path / "pairs.json").write_text(json.dumps(rows))
    data = load_splits(of_missing(tmp_path, label=None))["train"]
    assert not bool(data.images[0, :, :4].any())
    torch.testing.assert_close(data.others["back"].pixels, data.images)


def test_rows_of_one_picture_have_the_first_further_picture_that_is_there(folder, caplog):
    backs = [None, "back6.png", "back7.png", None, "back9.png"]
    rows = [
        {"image": f"image{6 if i < 3 else 11}.png", "caption": f"text {i}", "back": back}
        for i, back in enumerate(backs)
    ]
    (folder / "joined.json").write_text(json.dumps(rows))
    for name in ("val", "test"):
        (folder / f"joined-{name}.json").write_text(json.dumps(rows[:1] + rows[4:]))
    given = {name: str(folder / f"joined-{name}.json") for name in ("val", "test")}
    config = of_missing(folder, label=None, held_out=0.0, **given)
    config = dataclasses.replace(config, source=str(folder / "joined.json"))
    train = load_splits(config)["train"]
    assert train.captions == [["text 0", "text 1", "text 2"], ["text 3", "text 4"]]
    for row, name in enumerate(("back6.png", "back9.png")):
        pixels = np.asarray(Image.open(folder / name).convert("RGB")).transpose(2, 0, 1)
        assert np.array_equal(train.others["back"].pixels[row].numpy(), pixels)
    assert (
        "left out: 1 further picture of the column 'back', of 1 sample with one of an"
        in caplog.text
    )


def contrast(a, b, tau):
    """Symmetric InfoNCE of rows that belong together, as its formula."""
    logits = F.normalize(a) @ F.normalize(b).T / tau
    own = torch.arange(len(a))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def test_each_loss_is_of_the_samples_that_have_both():
    torch.manual_seed(0)
    towers = {"back": ConvTower((4,), 2)}
    encoder = ModalEncoder(ConvTower((4,), 2), BagTower(9, 8), 6, others=towers).double().eval()
    config = Config(data=DataConfig(source="somewhere", others=("back",)))
    lines = further_of(config)
    further = FurtherLosses(lines, [tt.InfoNCE(tt.Constant(0.2)), tt.InfoNCE(tt.Constant(0.3))])
    module = ContrastiveModule(encoder, tt.InfoNCE(0.4), further=further).double().eval()
    ids = torch.randint(2, 9, (6, 3))
    texts = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    images, back = torch.rand(2, 6, 3, 8, 8, dtype=torch.float64)
    index = torch.arange(6)
    there = {
        "image": torch.tensor([0, 1, 1, 1, 0, 1]).bool(),
        "caption": torch.tensor([1, 0, 1, 1, 1, 1]).bool(),
        "back": torch.tensor([1, 1, 1, 0, 1, 1]).bool(),
    }
    others = {"back": (back, there["back"], index)}

    def asked(has):
        masks = (has["image"], has["caption"])
        given = {"back": (back, has["back"], index)}
        return module(images, texts, index, (index, index), others=given, present=masks)["loss"]

    z = {
        "image": encoder.encode_image(images),
        "caption": encoder.encode_text(texts),
        "back": encoder.encode_other("back", back),
    }
    expected = torch.zeros((), dtype=torch.float64)
    for one, other, tau in (
        *(("image", "caption", 0.4), ("image", "back", 0.2)),
        ("back", "caption", 0.3),
    ):
        both = there[one] & there[other]
        expected = expected + contrast(z[one][both], z[other][both], tau)
    found = asked(there)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    wanted = torch.autograd.grad(expected, list(encoder.parameters()), retain_graph=True)
    got = torch.autograd.grad(found, list(encoder.parameters()))
    for gradient, right in zip(got, wanted, strict=True):
        torch.testing.assert_close(gradient, right, rtol=1e-6, atol=1e-7)
    none = torch.zeros(6, dtype=torch.bool)
    alone = asked(there | {"image": none})  # no picture in the batch: back and caption are left
    both = there["back"] & there["caption"]
    right = contrast(z["back"][both], z["caption"][both], 0.3)
    torch.testing.assert_close(alone, right, rtol=1e-6, atol=1e-6)
    nothing = asked({"image": none, "caption": none, "back": none})
    nothing.backward()
    assert nothing.item() == 0
    assert not any(p.grad is not None and bool(p.grad.any()) for p in encoder.parameters())
    torch.testing.assert_close(
        module(images, texts, index, (index, index), others=others)["loss"],
        asked({name: ~none for name in there} | {"back": there["back"]}),
        rtol=1e-6,
        atol=1e-6,
    )


def config_of(make_config, output, folder, **more):
    fields = {"data__source": str(folder / "pairs.json"), "data__others": ("back",)}
    fields |= {"data__limit": None, "data__image_size": 8, "data__label": "kind"}
    fields |= {"model__grid": 2, "optim__batch_size": 12}
    return make_config(output, **fields | more)


@pytest.fixture(scope="module")
def run(make_config, folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("run") / "run"
    return train(config_of(make_config, output, folder, evaluation__metric="all/mean_recall"))


def hits(x, y, k=1):
    """Share of rows whose own is among the k nearest."""
    scores = F.normalize(x) @ F.normalize(y).T
    best = scores.topk(k, dim=1).indices
    return float((best == torch.arange(len(x))[:, None]).any(dim=1).double().mean())


@torch.no_grad()
def test_retrieval_is_that_of_the_samples_that_have_both(run, folder):
    encoder, tokenizer, _ = load_encoder(run.output / "checkpoints" / "best")
    rows = json.loads((folder / "pairs.json").read_text())
    rows = [row for row in rows if row["split"] == "test"]

    def picture(name):
        pixels = np.asarray(Image.open(folder / name).convert("RGB"))
        return torch.from_numpy(pixels.copy()).permute(2, 0, 1)

    for one, other in (("image", "caption"), ("image", "back"), ("back", "caption")):
        both = [row for row in rows if row[one] and row[other]]
        z = {}
        for name in (one, other):
            if name == "caption":
                z[name] = encoder.encode_text(tokenizer([row[name] for row in both]))
            else:
                pixels = torch.stack([picture(row[name]) for row in both])
                z[name] = (
                    encoder.encode_image(pixels)
                    if name == "image"
                    else encoder.encode_other(name, pixels)
                )
        prefix = "" if (one, other) == ("image", "caption") else f"{one}+{other}/"
        assert run.test[f"{prefix}x2y/n"] == len(both)
        for way, sides in (("x2y", (one, other)), ("y2x", (other, one))):
            expected = hits(*(z[name] for name in sides), k=5)
            assert run.test[f"{prefix}{way}/hit@5"] == pytest.approx(expected)


def test_the_run_says_what_lacks_and_is_evaluated_again(run, folder):
    record = json.loads((run.output / "results.json").read_text())
    said = record["protocol"]["missing"]
    assert said.startswith("16 of 40 test samples lack an image or a caption")
    again = evaluate(run.output, bootstrap=0, progress=False)
    for name in ("x2y/hit@5", "image+back/x2y/hit@5", "all/mean_recall"):
        assert again[name] == run.test[name]
    with np.load(run.output / "embeddings.npz") as kept:
        assert len(kept["x"]) == len(kept["label_of_x"]) == 24
    with np.load(run.output / IMAGES) as shown:
        assert len(shown["images"]) == 24


def test_it_goes_on_bit_for_bit(make_config, folder, tmp_path, check_resumed):
    configs = [
        config_of(make_config, tmp_path / name, folder, data__left_out=0.2)
        for name in ("whole", "broken")
    ]
    check_resumed(*configs, ContrastiveModule, 4, 6)


def test_clusters_are_of_those_that_have_a_caption(folder, make_config, tmp_path, monkeypatch):
    parts = load_splits(dataclasses.replace(of_missing(folder), label=None))

    def by_length(texts, **_):
        return torch.tensor([[len(text) / 10.5, 1.0] for text in texts])

    class Two:
        centroids = torch.eye(2)

    monkeypatch.setattr("tauten.structure.embed_captions", by_length)
    monkeypatch.setattr(
        "tauten.structure.clustering.embedded_clusters",
        lambda texts, count, **_: (Two, by_length(texts)),
    )
    splits, classes = with_classes(parts, DataConfig(source="a", clusters=2))
    for name, part in splits.items():
        for texts, label in zip(parts[name].captions, part.labels, strict=True):
            longer = bool(texts) and len(texts[0]) > 10
            assert label == ("" if not texts else f"cluster {int(not longer)}")
    assert set(classes.counts) <= {"cluster 0", "cluster 1"}
