"""A model of open_clip is read, trained further by tauten, and read by open_clip again."""

import json
import os
from pathlib import Path

import open_clip
import torch
from open_clip.push_to_hf_hub import save_for_hf
from open_clip.tokenizer import default_bpe
from open_clip.transform import PreprocessCfg
from PIL import Image
from shared import LABELS, captions, pictures
from torch.nn import functional as F
from transformers import CLIPTokenizer

import tauten as tt
from tauten.cli import main

MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 32, "head_width": 16, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
OUT = Path(os.environ["OUT"])
TEXTS = ["class 0 sample 3", "A photo of two dogs, sitting on a very long mat beside the 27 doors!"]


def clip_tokenizer() -> CLIPTokenizer:
    """Return transformers' tokenizer with the vocabulary that open_clip carries."""
    theirs = open_clip.SimpleTokenizer(default_bpe())
    renamed = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
    numbers = {renamed.get(token, token): number for token, number in theirs.encoder.items()}
    return CLIPTokenizer(vocab=numbers, merges=list(theirs.bpe_ranks))


def photos() -> list[Image.Image]:
    """Return pictures that are wide, high, and of the model's size."""
    arrays = [pictures(side)[0] for side in (32, 60)] + [pictures(60)[1][:, :44], pictures(60)[2]]
    arrays[-1] = arrays[-1][:, :, :40]
    return [Image.fromarray((a.permute(1, 2, 0) * 255).byte().numpy()) for a in arrays]


def differences(folder: Path, name: str) -> dict[str, float]:
    """Compare the embeddings of open_clip's model in a folder with those of tauten's."""
    theirs, prepare = open_clip.create_model_from_pretrained(f"local-dir:{folder}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{folder}")
    ours = tt.load(name)
    with torch.no_grad():
        x = F.normalize(theirs.eval().encode_image(torch.stack([prepare(p) for p in photos()])))
        y = F.normalize(theirs.encode_text(tokenizer(TEXTS)))
    return {
        "image": float((ours.encode_image(photos()) - x).abs().max()),
        "text": float((ours.encode_text(TEXTS) - y).abs().max()),
    }


def run() -> None:
    torch.manual_seed(0)
    found = {}
    (OUT / "pairs").mkdir()
    for i, picture in enumerate(pictures()):
        array = (picture.permute(1, 2, 0) * 255).byte().numpy()
        Image.fromarray(array).save(OUT / "pairs" / f"{i}.png")
        (OUT / "pairs" / f"{i}.txt").write_text(captions()[i])
    for act in (False, True):
        folder = OUT / f"quick_{act}"
        model = open_clip.CLIP(**MODEL, quick_gelu=act)
        open_clip.set_model_preprocess_cfg(model, vars(PreprocessCfg(size=32)))
        save_for_hf(model, clip_tokenizer(), MODEL | {"quick_gelu": act}, str(folder), True)
        found[f"read quick_gelu={act}"] = differences(folder, f"open_clip:{folder}")
    words = (
        f"train pairs --data {OUT / 'pairs'} --model open_clip:{folder} --control.kind learnable "
        f"--epochs 2 --optim.batch-size 16 --data.held-out 0.2 --no-progress --no-tensorboard "
        f"--output {OUT / 'run'}"
    )
    assert main(words.split()) == 0
    trained = OUT / "trained"
    assert main(f"export {OUT / 'run'} --to open_clip --output {trained}".split()) == 0
    found["written"] = differences(trained, str(OUT / "run"))
    found["read again"] = differences(trained, f"open_clip:{trained}")
    before, after = (
        open_clip.create_model(f"local-dir:{f}").state_dict() for f in (folder, trained)
    )
    found["trained"] = {"moved": float((before["visual.proj"] - after["visual.proj"]).norm())}
    (OUT / "differences.json").write_text(json.dumps(found))


assert len(LABELS)
run()
