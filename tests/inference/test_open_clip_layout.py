"""Models in open_clip's layout: loaded for use, and written for open_clip."""

import json
import math

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch.nn import functional as F

import tauten as tt
from tauten.cli import main
from tauten.inference import export
from tauten.inference.open_clip_layout import name_tokenizer
from tauten.models import HFTokenizer

from ..models import open_clip_folder as oc

TEXTS = ["a red", "mat"]


@pytest.fixture
def model(tmp_path):
    """A tiny model of open_clip, as loaded."""
    return tt.load(f"open_clip:{oc.save(tmp_path / 'm')}")


def test_what_is_written_is_what_open_clip_reads(model, tmp_path):
    with torch.no_grad():
        for weight in model.towers.module.parameters():
            weight.add_(0.05 * torch.randn_like(weight))
    folder = export(model, tmp_path / "out", to="open_clip")
    state = load_file(folder / "open_clip_model.safetensors")
    assert {name: value.shape for name, value in state.items()} == {
        name: value.shape for name, value in oc.weights().items()
    }
    assert float(state["logit_scale"]) == pytest.approx(3.0)
    ids = HFTokenizer.load(f"open_clip:{folder}")(TEXTS)["input_ids"]
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 56, 3), np.uint8))
    side = picture.resize((44, 32), Image.Resampling.BICUBIC).crop((6, 0, 38, 32))
    pixels = torch.from_numpy(np.asarray(side) / 255).permute(2, 0, 1)[None].float()
    settings = json.loads((folder / "open_clip_config.json").read_text())["preprocess_cfg"]
    mean, std = (torch.tensor(settings[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    close = {"atol": 1e-5, "rtol": 0}
    wanted = F.normalize(oc.embed_image(state, (pixels - mean) / std))
    torch.testing.assert_close(model.encode_image(picture), wanted, **close)
    torch.testing.assert_close(
        model.encode_text(TEXTS), F.normalize(oc.embed_text(state, ids)), **close
    )
    assert 'from_pretrained("local-dir:out")' in (folder / "README.md").read_text()
    again = tt.load(folder)
    torch.testing.assert_close(again.encode_text(TEXTS), model.encode_text(TEXTS), **close)
    name_tokenizer(folder, "me/birds")
    text = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]["text_cfg"]
    assert text["hf_tokenizer_name"] == "me/birds"


def test_a_tower_of_another_kind_is_refused(run, model, tmp_path, capsys):
    assert main(["export", str(run), "--to", "open_clip", "--output", str(tmp_path / "out")]) == 1
    said = capsys.readouterr().err
    assert "its text tower is BagTower" in said
    config = model.towers.module.image_tower.model.config
    config.hidden_act = "relu"
    with pytest.raises(ValueError, match="its activations are relu and gelu"):
        export(model, tmp_path / "out", to="open_clip")
    config.hidden_act, config.image_size = "gelu", 64
    with pytest.raises(ValueError, match="pictures have 32 pixels, its tower 64"):
        export(model, tmp_path / "out", to="open_clip")


def test_scale_of_a_run_is_that_of_its_end(tmp_path):
    from tauten.training import from_model, specs, train

    from ..training.conftest import tiny

    start = from_model(tiny(tmp_path / "run"), f"open_clip:{oc.save(tmp_path / 'm')}")
    start.control = specs.control("constant", value=0.05)
    start.data.image_size, start.model.max_tokens = 0, 6
    start.model.checkpointing = True
    run = train(start).output
    folder = export(run, tmp_path / "out", to="open_clip")
    state = load_file(folder / "open_clip_model.safetensors")
    assert float(state["logit_scale"]) == pytest.approx(math.log(20))
    assert len(state["positional_embedding"]) == 6
    text = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"]["text_cfg"]
    assert text["context_length"] == 6
    assert tt.load(run).encode_text(["cat"]).shape == (1, oc.DIM)


def test_the_texts_of_a_clip_go_to_sentence_transformers(model, tmp_path):
    library = pytest.importorskip("sentence_transformers")
    folder = export(model, tmp_path / "out")
    told = library.SentenceTransformer(str(folder), device="cpu").encode(TEXTS)
    torch.testing.assert_close(torch.as_tensor(told), model.encode_text(TEXTS), atol=1e-5, rtol=0)
