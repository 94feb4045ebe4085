"""Models in open_clip's layout, against open_clip's forward pass written out."""

import copy
import math

import pytest
import torch

from tauten.models import DualEncoder, HFTokenizer
from tauten.models.hf_weights import read_config
from tauten.models.image_settings import image_settings
from tauten.models.named import joint_name, open_clip_place, scale_and_bias
from tauten.training import Config, from_model, specs

from . import open_clip_folder as oc


def changed(**parts):
    config = copy.deepcopy(oc.CONFIG)
    for name, options in parts.items():
        part = config["model_cfg"] if name == "model_cfg" else config["model_cfg"].get(name)
        (config[name] if part is None else part).update(options)
    return config


def quick(x):
    return x * torch.sigmoid(1.702 * x)


@pytest.mark.parametrize("act", [torch.nn.functional.gelu, quick])
def test_embeddings_are_those_of_open_clip(tmp_path, act):
    name = f"open_clip:{oc.save(tmp_path / 'm', changed(model_cfg={'quick_gelu': act is quick}))}"
    encoder = DualEncoder.from_pretrained(name, name).eval()
    pixels, state = torch.rand(3, 3, oc.SIDE, oc.SIDE), oc.weights()
    tokens = HFTokenizer.load(name)(["a red", "mat"])
    settings = oc.CONFIG["preprocess_cfg"]
    mean, std = (torch.tensor(settings[key]).view(1, 3, 1, 1) for key in ("mean", "std"))
    with torch.no_grad():
        x, y = encoder.encode_image(pixels), encoder.encode_text(tokens)
        theirs = oc.embed_image(state, (pixels - mean) / std, act)
        said = oc.embed_text(state, tokens["input_ids"], act)
    torch.testing.assert_close(x, theirs, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(y, said, atol=1e-5, rtol=1e-5)
    # "mat" is padded to the length of the longer text, which changes nothing
    alone = encoder.encode_text(HFTokenizer.load(name)(["mat"]))
    torch.testing.assert_close(y[1:], alone, atol=1e-5, rtol=1e-5)


def test_a_start_has_scale_bias_places_and_pictures(tmp_path):
    state = oc.weights() | {"logit_bias": torch.tensor(-4.0)}
    config = changed(preprocess_cfg={"resize_mode": "squash", "interpolation": "bilinear"})
    name = f"open_clip:{oc.save(tmp_path / 'm', config, state)}"
    assert scale_and_bias(name) == (pytest.approx(math.exp(-3.0)), -4.0)
    settings = image_settings(name)
    assert (settings.size, settings.edge, settings.resample) == (oc.SIDE, None, "bilinear")
    assert settings.mean == (0.4, 0.5, 0.6)
    assert HFTokenizer.load(name, 64).max_length == oc.PLACES
    own = Config(control=specs.control("learnable"), loss=specs.loss("siglip"))
    started = from_model(own, name)
    assert (started.model.dim, started.data.image_size) == (oc.DIM, 0)
    assert started.control.value == pytest.approx(math.exp(-3.0))
    assert started.loss.bias == -4.0


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"vision_cfg": {"timm_model_name": "convnext_base"}}, "a model of timm"),
        ({"vision_cfg": {"layers": [3, 4, 6, 3]}}, "a residual network"),
        ({"vision_cfg": {"pool_type": "avg"}}, "vision_cfg.pool_type=avg"),
        ({"vision_cfg": {"no_ln_pre": True}}, "vision_cfg.no_ln_pre=True"),
        ({"text_cfg": {"hf_model_name": "roberta-base"}}, "a model of Hugging Face"),
        ({"text_cfg": {"pool_type": "last"}}, "text_cfg.pool_type=last"),
        ({"text_cfg": {"tokenizer_kwargs": {"clean": "x"}}}, "text_cfg.tokenizer_kwargs"),
        ({"model_cfg": {"multimodal_cfg": {"width": 8}}}, "it is a CoCa"),
        ({"preprocess_cfg": {"resize_mode": "longest"}}, "pads its pictures"),
    ],
)
def test_other_kinds_are_refused_by_name(tmp_path, parts, message):
    name = f"open_clip:{oc.save(tmp_path / 'm', changed(**parts))}"
    with pytest.raises(ValueError, match=message):
        image_settings(name)
    if "preprocess_cfg" not in parts:
        with pytest.raises(ValueError, match=message):
            joint_name(name)


def test_damaged_or_missing_parts_are_said(tmp_path):
    folder = oc.save(tmp_path / "m", state={"logit_scale": torch.tensor(1.0)})
    with pytest.raises(ValueError, match="its weights are not those of its open_clip_config"):
        DualEncoder.from_pretrained(f"open_clip:{folder}", f"open_clip:{folder}")
    with pytest.raises(ValueError, match=r"is in the layout of open_clip: give open_clip:"):
        read_config(folder)
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match="has no open_clip_config.json"):
        joint_name(f"open_clip:{tmp_path / 'none'}")
    (folder / "open_clip_model.safetensors").unlink()
    with pytest.raises(ValueError, match="has no weights: none of open_clip_model.safetensors"):
        scale_and_bias(f"open_clip:{folder}")
    torch.save(oc.weights(), folder / "open_clip_pytorch_model.bin")
    assert scale_and_bias(f"open_clip:{folder}")[0] == pytest.approx(math.exp(-3.0))


def test_names_of_open_clip(monkeypatch, tmp_path):
    import sys
    import types

    assert open_clip_place("hf-hub:org/name") == "org/name"
    assert open_clip_place(str(tmp_path)) == str(tmp_path)
    monkeypatch.setitem(sys.modules, "open_clip", None)
    assert open_clip_place("org/name") == "org/name"
    with pytest.raises(ImportError, match=r"pip install 'tauten\[open-clip\]'"):
        open_clip_place("ViT-B-32")
    package = types.ModuleType("open_clip")
    package.list_models = lambda: ["ViT-B-32"]
    package.list_pretrained_tags_by_model = lambda name: ["laion", "old"]
    package.get_pretrained_cfg = lambda name, tag: {
        "hf_hub": {"laion": "laion/CLIP-B/", "old": "timm/x/old.bin"}[tag]
    }
    monkeypatch.setitem(sys.modules, "open_clip", package)
    assert open_clip_place("ViT-B-32/laion") == "laion/CLIP-B"
    assert open_clip_place("org/name") == "org/name"
    for other in ("ViT-B-32", "ViT-B-32/old", "ViT-B-32/none"):
        with pytest.raises(ValueError, match="open_clip has laion, old"):
            open_clip_place(other)
