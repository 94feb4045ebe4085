"""A tiny model in open_clip's layout, and what it embeds, written out after open_clip's code."""

import json
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers, processors
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast

WIDTH, HEADS, DIM, SIDE, PATCH, PLACES, WORDS = 16, 2, 12, 32, 8, 8, 30
CONFIG = {
    "model_cfg": {
        "embed_dim": DIM,
        "vision_cfg": {
            "image_size": SIDE, "layers": 2, "width": WIDTH, "head_width": 8, "patch_size": PATCH
        },
        "text_cfg": {
            "context_length": PLACES, "vocab_size": WORDS, "width": WIDTH, "heads": HEADS,
            "layers": 2, "hf_tokenizer_name": "mine",
        },
    },
    "preprocess_cfg": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.25, 0.3]},
}  # fmt: skip


def weights(seed=0):
    """Return random weights under open_clip's names."""
    drawn = torch.Generator().manual_seed(seed)

    def rand(*shape):
        return 0.3 * torch.randn(*shape, generator=drawn)

    def tower(prefix):
        state = {}
        for k in range(2):
            block = f"{prefix}transformer.resblocks.{k}."
            state |= {
                f"{block}attn.in_proj_weight": rand(3 * WIDTH, WIDTH),
                f"{block}attn.in_proj_bias": rand(3 * WIDTH),
                f"{block}attn.out_proj.weight": rand(WIDTH, WIDTH),
                f"{block}attn.out_proj.bias": rand(WIDTH),
                f"{block}mlp.c_fc.weight": rand(4 * WIDTH, WIDTH),
                f"{block}mlp.c_fc.bias": rand(4 * WIDTH),
                f"{block}mlp.c_proj.weight": rand(WIDTH, 4 * WIDTH),
                f"{block}mlp.c_proj.bias": rand(WIDTH),
                **norm(f"{block}ln_1"),
                **norm(f"{block}ln_2"),
            }
        return state

    def norm(name):
        return {f"{name}.weight": 1 + rand(WIDTH), f"{name}.bias": rand(WIDTH)}

    return {
        "logit_scale": torch.tensor(3.0),
        "visual.class_embedding": rand(WIDTH),
        "visual.conv1.weight": rand(WIDTH, 3, PATCH, PATCH),
        "visual.positional_embedding": rand(1 + (SIDE // PATCH) ** 2, WIDTH),
        "visual.proj": rand(WIDTH, DIM),
        **norm("visual.ln_pre"),
        **norm("visual.ln_post"),
        **tower("visual."),
        "token_embedding.weight": rand(WORDS, WIDTH),
        "positional_embedding": rand(PLACES, WIDTH),
        "text_projection": rand(WIDTH, DIM),
        **norm("ln_final"),
        **tower(""),
    }


def save(folder: Path, config=CONFIG, state=None):
    """Write the model and a tokenizer of letters; the end of a text has the largest id."""
    folder.mkdir()
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    save_file(weights() if state is None else state, folder / "open_clip_model.safetensors")
    names = ["<unk>", "<pad>", *"abcdefghijklmnopqrstuvwxyz", "</s>"]
    numbers = {name: number for number, name in enumerate(names)}
    letters = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
    letters.normalizer = normalizers.Lowercase()
    letters.pre_tokenizer = pre_tokenizers.Split(Regex("."), "isolated")
    end = [("</s>", numbers["</s>"])]
    letters.post_processor = processors.TemplateProcessing("$A </s>", None, end)
    special = {"pad_token": "<pad>", "unk_token": "<unk>", "eos_token": "</s>"}
    PreTrainedTokenizerFast(tokenizer_object=letters, **special).save_pretrained(folder)
    return folder


def embed_image(state, pixels, act=F.gelu):
    """Return open_clip's embedding of normalised pixels (N, 3, SIDE, SIDE)."""
    x = F.conv2d(pixels, state["visual.conv1.weight"], stride=PATCH).flatten(2).transpose(1, 2)
    first = state["visual.class_embedding"].expand(len(x), 1, -1)
    x = torch.cat([first, x], 1) + state["visual.positional_embedding"]
    x = _blocks(state, "visual.", _norm(state, "visual.ln_pre", x), None, act)
    return _norm(state, "visual.ln_post", x[:, 0]) @ state["visual.proj"]


def embed_text(state, ids, act=F.gelu):
    """Return open_clip's embedding of ids (N, L), pooled at the largest."""
    length = ids.shape[1]
    x = state["token_embedding.weight"][ids] + state["positional_embedding"][:length]
    mask = torch.full((length, length), -torch.inf).triu(1)
    x = _norm(state, "ln_final", _blocks(state, "", x, mask, act))
    return x[torch.arange(len(ids)), ids.argmax(1)] @ state["text_projection"]


def _norm(state, name, x):
    return F.layer_norm(x, (WIDTH,), state[f"{name}.weight"], state[f"{name}.bias"])


def _blocks(state, prefix, x, mask, act):
    for k in range(2):
        block = f"{prefix}transformer.resblocks.{k}."
        y = _norm(state, f"{block}ln_1", x)
        q, k_, v = F.linear(
            y, state[f"{block}attn.in_proj_weight"], state[f"{block}attn.in_proj_bias"]
        ).chunk(3, -1)
        heads = [t.unflatten(-1, (HEADS, -1)).transpose(1, 2) for t in (q, k_, v)]
        scores = heads[0] @ heads[1].transpose(2, 3) / (WIDTH // HEADS) ** 0.5
        scores = scores if mask is None else scores + mask
        y = (scores.softmax(-1) @ heads[2]).transpose(1, 2).flatten(2)
        x = x + F.linear(
            y, state[f"{block}attn.out_proj.weight"], state[f"{block}attn.out_proj.bias"]
        )
        y = _norm(state, f"{block}ln_2", x)
        y = act(F.linear(y, state[f"{block}mlp.c_fc.weight"], state[f"{block}mlp.c_fc.bias"]))
        x = x + F.linear(y, state[f"{block}mlp.c_proj.weight"], state[f"{block}mlp.c_proj.bias"])
    return x
