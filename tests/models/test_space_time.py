import argparse
import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from tauten.models import DualEncoder, SpaceTimeViT, load_published
from tauten.models.space_time import MEAN, STD
from tauten.training import ModelConfig
from tauten.training.encoders import build_encoder

# two heads of four, two layers, 3 frames of 2 x 2 patches of 4 pixels, 5 dimensions in common
WIDTH, HEADS, DEPTH, FRAMES, GRID, PATCH, DIM = 8, 2, 2, 3, 2, 4, 5
VOCABULARY, CONTEXT = 11, 6
TEXTS = torch.tensor([[9, 1, 4, 10, 0, 0], [9, 3, 10, 0, 0, 0]])


def drawn(shapes, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {
        name: (torch.randn(shape, generator=generator) * 0.4).double()
        for name, shape in shapes.items()
    }


def clip_block(prefix):
    shapes = {
        f"{prefix}.attn.in_proj_weight": (3 * WIDTH, WIDTH),
        f"{prefix}.attn.in_proj_bias": (3 * WIDTH,),
        f"{prefix}.attn.out_proj.weight": (WIDTH, WIDTH),
        f"{prefix}.attn.out_proj.bias": (WIDTH,),
        f"{prefix}.mlp.c_fc.weight": (4 * WIDTH, WIDTH),
        f"{prefix}.mlp.c_fc.bias": (4 * WIDTH,),
        f"{prefix}.mlp.c_proj.weight": (WIDTH, 4 * WIDTH),
        f"{prefix}.mlp.c_proj.bias": (WIDTH,),
    }
    return shapes | norm(f"{prefix}.ln_1") | norm(f"{prefix}.ln_2")


def norm(prefix):
    return {f"{prefix}.weight": (WIDTH,), f"{prefix}.bias": (WIDTH,)}


def text_side(prefix):
    shapes = {
        f"{prefix}token_embedding.weight": (VOCABULARY, WIDTH),
        f"{prefix}positional_embedding": (CONTEXT, WIDTH),
        f"{prefix}text_projection": (WIDTH, DIM),
    }
    for layer in range(DEPTH):
        shapes |= clip_block(f"{prefix}transformer.resblocks.{layer}")
    return shapes | norm(f"{prefix}ln_final")


def avion():
    shapes = {
        "logit_scale": (),
        "visual.class_embedding": (WIDTH,),
        "visual.positional_embedding": (GRID**2 + 1, WIDTH),
        "visual.temporal_embedding": (FRAMES, WIDTH),
        "visual.conv1.weight": (WIDTH, 3, PATCH, PATCH),
        "visual.image_projection": (WIDTH, DIM),
    }
    for layer in range(DEPTH):
        shapes |= clip_block(f"visual.transformer.resblocks.{layer}")
    shapes |= norm("visual.ln_pre") | norm("visual.ln_post") | text_side("textual.")
    return drawn(shapes)


def lavila():
    shapes = {
        "logit_scale": (),
        "image_projection": (WIDTH, DIM),
        "visual.cls_token": (1, 1, WIDTH),
        "visual.pos_embed": (1, GRID**2 + 1, WIDTH),
        "visual.temporal_embed": (1, FRAMES, WIDTH),
        "visual.patch_embed.proj.weight": (WIDTH, 3, PATCH, PATCH),
    }
    for layer in range(DEPTH):
        block = f"visual.blocks.{layer}"
        for attention in ("attn", "timeattn"):
            shapes |= {
                f"{block}.{attention}.qkv.weight": (3 * WIDTH, WIDTH),
                f"{block}.{attention}.qkv.bias": (3 * WIDTH,),
                f"{block}.{attention}.proj.weight": (WIDTH, WIDTH),
                f"{block}.{attention}.proj.bias": (WIDTH,),
            }
        shapes |= {
            f"{block}.mlp.fc1.weight": (4 * WIDTH, WIDTH),
            f"{block}.mlp.fc1.bias": (4 * WIDTH,),
            f"{block}.mlp.fc2.weight": (WIDTH, 4 * WIDTH),
            f"{block}.mlp.fc2.bias": (WIDTH,),
        }
        for number in (1, 2, 3):
            shapes |= norm(f"{block}.norm{number}")
    return drawn(shapes | norm("visual.ln_pre") | norm("visual.norm") | text_side(""))


# ---- a literal reference of one clip, token by token


def quick_gelu(x):
    return x * torch.sigmoid(1.702 * x)


def layer_norm(state, name, x, eps):
    return F.layer_norm(x, (WIDTH,), state[f"{name}.weight"], state[f"{name}.bias"], eps)


def attend(x, qkv_weight, qkv_bias, weight, bias, allowed):
    """Each token attends to the tokens that ``allowed`` lists for it."""
    q, k, v = (x @ qkv_weight.T + qkv_bias).chunk(3, dim=1)
    rows = []
    for i in range(len(x)):
        parts = []
        for head in range(HEADS):
            own = slice(head * WIDTH // HEADS, (head + 1) * WIDTH // HEADS)
            scores = torch.stack([q[i, own] @ k[j, own] for j in allowed[i]])
            weights = (scores / math.sqrt(WIDTH // HEADS)).softmax(0)
            parts.append(sum(w * v[j, own] for w, j in zip(weights, allowed[i], strict=True)))
        rows.append(torch.cat(parts))
    return torch.stack(rows) @ weight.T + bias


def tokens_of(clip, kernel, class_token, positions, times):
    """The class token, then frame by frame the patches row by row."""
    mean, std = (torch.tensor(v, dtype=clip.dtype)[:, None, None] for v in (MEAN, STD))
    tokens = [class_token + positions[0]]
    for t, frame in enumerate((clip - mean) / std):
        for place in range(GRID**2):
            row, column = PATCH * (place // GRID), PATCH * (place % GRID)
            patch = frame[:, row : row + PATCH, column : column + PATCH]
            embedded = torch.stack([(patch * one).sum() for one in kernel])
            tokens.append(embedded + positions[1 + place] + times[t])
    return torch.stack(tokens)


def clip_layers(state, prefix, x, allowed, gelu, eps):
    for layer in range(DEPTH):
        name = f"{prefix}.{layer}"
        parts = ("attn.in_proj_weight", "attn.in_proj_bias")
        parts += ("attn.out_proj.weight", "attn.out_proj.bias")
        weights = [state[f"{name}.{part}"] for part in parts]
        x = x + attend(layer_norm(state, f"{name}.ln_1", x, eps), *weights, allowed)
        hidden = layer_norm(state, f"{name}.ln_2", x, eps) @ state[f"{name}.mlp.c_fc.weight"].T
        hidden = gelu(hidden + state[f"{name}.mlp.c_fc.bias"])
        x = x + hidden @ state[f"{name}.mlp.c_proj.weight"].T + state[f"{name}.mlp.c_proj.bias"]
    return x


def reference_avion(state, clip):
    visual = {name.removeprefix("visual."): value for name, value in state.items()}
    names = ("conv1.weight", "class_embedding", "positional_embedding", "temporal_embedding")
    x = tokens_of(clip, *(visual[name] for name in names))
    x = layer_norm(visual, "ln_pre", x, 1e-6)
    every = [range(len(x))] * len(x)
    x = clip_layers(visual, "transformer.resblocks", x, every, F.gelu, 1e-6)
    return layer_norm(visual, "ln_post", x[0], 1e-6) @ visual["image_projection"]


def reference_lavila(state, clip):
    visual = {name.removeprefix("visual."): value for name, value in state.items()}
    names = ("cls_token", "pos_embed", "temporal_embed")
    token, positions, times = (visual[name].squeeze(0) for name in names)
    x = tokens_of(clip, visual["patch_embed.proj.weight"], token[0], positions, times)
    x = layer_norm(visual, "ln_pre", x, 1e-5)
    patches = range(1, len(x))
    place, frame = (lambda i: (i - 1) % GRID**2), (lambda i: (i - 1) // GRID**2)
    over_time = [range(len(x))] + [
        [0, *(j for j in patches if place(j) == place(i))] for i in patches
    ]
    over_space = [range(len(x))] + [
        [0, *(j for j in patches if frame(j) == frame(i))] for i in patches
    ]
    for layer in range(DEPTH):
        name = f"blocks.{layer}"

        def attention(kind, x, allowed, name=name):
            parts = ("qkv.weight", "qkv.bias", "proj.weight", "proj.bias")
            return attend(x, *(visual[f"{name}.{kind}.{part}"] for part in parts), allowed)

        moved = x + attention("timeattn", layer_norm(visual, f"{name}.norm3", x, 1e-6), over_time)
        x = x + attention("attn", layer_norm(visual, f"{name}.norm1", moved, 1e-6), over_space)
        hidden = layer_norm(visual, f"{name}.norm2", x, 1e-6) @ visual[f"{name}.mlp.fc1.weight"].T
        hidden = quick_gelu(hidden + visual[f"{name}.mlp.fc1.bias"])
        x = x + hidden @ visual[f"{name}.mlp.fc2.weight"].T + visual[f"{name}.mlp.fc2.bias"]
    return layer_norm(visual, "norm", x[0], 1e-6) @ state["image_projection"]


def reference_text(state, prefix, ids, gelu):
    text = {name.removeprefix(prefix): value for name, value in state.items()}
    x = text["token_embedding.weight"][ids] + text["positional_embedding"]
    before = [range(i + 1) for i in range(len(x))]
    x = clip_layers(text, "transformer.resblocks", x, before, gelu, 1e-5)
    x = layer_norm(text, "ln_final", x, 1e-5)
    return x[ids.argmax()] @ text["text_projection"]


PUBLISHED = {
    "avion": (avion, reference_avion, "textual.", F.gelu),
    "lavila": (lavila, reference_lavila, "", quick_gelu),
}


def load(state, **options):
    return load_published(state, head_width=WIDTH // HEADS, **options).double().eval()


@pytest.mark.parametrize("kind", PUBLISHED)
def test_both_towers_equal_the_literal_reference(kind):
    make, reference, prefix, gelu = PUBLISHED[kind]
    state = make()
    encoder = load(state)
    for name in ("mean", "std"):
        exact = torch.tensor(MEAN if name == "mean" else STD, dtype=torch.float64)
        setattr(encoder.image_tower, name, exact.view(1, 3, 1, 1))
    clips = torch.rand(2, FRAMES, 3, 8, 8, dtype=torch.float64)
    wanted = torch.stack([reference(state, clip) for clip in clips])
    torch.testing.assert_close(encoder.encode_image(clips), wanted, rtol=1e-9, atol=1e-9)
    inputs = {"input_ids": TEXTS, "attention_mask": torch.ones_like(TEXTS)}
    wanted = torch.stack([reference_text(state, prefix, ids, gelu) for ids in TEXTS])
    torch.testing.assert_close(encoder.encode_text(inputs), wanted, rtol=1e-9, atol=1e-9)


def test_fused_and_parallel_names_load_the_same():
    plain = avion()
    fused = {}
    for name, value in plain.items():
        if name.startswith("visual."):
            name = name.replace("attn.in_proj_weight", "attn.Wqkv.weight")
            name = name.replace("attn.in_proj_bias", "attn.Wqkv.bias")
            name = name.replace("mlp.c_fc", "mlp.fc1").replace("mlp.c_proj", "mlp.fc2")
            value = value.flatten(1) if name.endswith("conv1.weight") else value
        fused[f"module.{name}"] = value
    again = load(fused).state_dict()
    for name, value in load(plain).state_dict().items():
        assert torch.equal(again[name], value), name


@pytest.mark.parametrize("kind", PUBLISHED)
def test_from_a_file_and_built_again(kind, tmp_path):
    state = PUBLISHED[kind][0]()
    checkpoint = {"epoch": 3, "state_dict": state, "args": argparse.Namespace(lr=0.1)}
    torch.save(checkpoint | {"best_acc1": np.float64(51.7)}, tmp_path / "c.pt")
    first = load(tmp_path / "c.pt")
    again = DualEncoder.from_description(first.describe()).double().eval()
    again.load_state_dict(first.state_dict())
    clips = torch.rand(2, FRAMES, 3, 8, 8, dtype=torch.float64)
    assert torch.equal(again.encode_image(clips), first.encode_image(clips))
    inputs = {"input_ids": TEXTS, "attention_mask": torch.ones_like(TEXTS)}
    assert torch.equal(again.encode_text(inputs), first.encode_text(inputs))


def test_more_frames_and_places():
    state = avion()
    tower = load(state, frames=6, image_size=16).image_tower
    assert tower(torch.rand(1, 6, 3, 16, 16, dtype=torch.float64)).shape == (1, WIDTH)
    old, new = state["visual.temporal_embedding"], tower.times
    assert new.shape == (6, WIDTH)
    torch.testing.assert_close(new[0], old[0])
    torch.testing.assert_close(new[1], 0.75 * old[0] + 0.25 * old[1], rtol=1e-5, atol=1e-6)
    assert tower.positions.shape == (17, WIDTH)
    assert torch.equal(tower.positions[0], state["visual.positional_embedding"][0])


def test_one_frame_has_no_times():
    state = avion()
    del state["visual.temporal_embedding"]
    assert torch.equal(load(state, frames=4).image_tower.times, torch.zeros(4, WIDTH).double())


def test_divided_attention_starts_as_no_attention_over_time():
    torch.manual_seed(0)
    options = {"width": 8, "depth": 1, "heads": 2, "patch_size": 4, "image_size": 8, "frames": 3}
    tower = SpaceTimeViT(**options, attention="divided").eval()
    clips = torch.rand(2, 3, 3, 8, 8)
    before = tower(clips)
    tower.layers[0].temporal_attn.q_proj.weight.data.normal_()
    assert torch.equal(tower(clips), before)
    tower.layers[0].temporal_attn.v_proj.weight.data.normal_()
    assert not torch.allclose(tower(clips), before)


def test_strictness():
    state = avion()
    del state["visual.ln_post.bias"]
    with pytest.raises(ValueError, match=r"1 weights are missing \(image_tower.norm_after.bias\)"):
        load(state)
    with pytest.raises(ValueError, match=r"1 are left over \(image_tower.extra\)"):
        load(lavila() | {"visual.extra": torch.zeros(1)})
    with pytest.raises(ValueError, match="head_width must divide the widths 8 and 8, got 64"):
        load_published(avion())
    with pytest.raises(ValueError, match="neither of AVION"):
        load({"encoder.weight": torch.zeros(1)})


def test_from_a_configuration(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "WIDTH", 64)
    path = tmp_path / "avion.pt"
    torch.save({"state_dict": avion()}, path)
    config = ModelConfig(image=str(path), text="a folder", dim=DIM)
    encoder = build_encoder(config, VOCABULARY, frames=5, image_size=12)
    assert encoder.augmentation is not None
    assert encoder.encode_image(torch.rand(2, 5, 3, 12, 12)).shape == (2, DIM)
    with pytest.raises(ValueError, match="knows 11 tokens and has model.dim=5: .* has 12"):
        build_encoder(config, VOCABULARY + 1, frames=5, image_size=12)
    with pytest.raises(ValueError, match="set data.frames, and model.text"):
        build_encoder(config, VOCABULARY)


def test_files_that_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such checkpoint"):
        load_published(tmp_path / "none.pt")
    torch.save({"state_dict": {"a": pytest.raises}}, tmp_path / "code.pt")
    with pytest.raises(ValueError, match="code.pt is no checkpoint that can be read safely"):
        load_published(tmp_path / "code.pt")


def test_errors():
    with pytest.raises(ValueError, match="patch_size must divide image_size"):
        SpaceTimeViT(image_size=30)
    with pytest.raises(ValueError, match="got 'both'"):
        SpaceTimeViT(attention="both")
    tower = load(avion()).image_tower
    with pytest.raises(ValueError, match=r"takes clips \(N, 3, 3, 8, 8\), got \(1, 2, 3, 8, 8\)"):
        tower(torch.zeros(1, 2, 3, 8, 8))
