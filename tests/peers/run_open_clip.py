"""open_clip's training main, from shards of pictures and captions."""

import io
import json
import os
import sys
import tarfile
from pathlib import Path

import open_clip
from open_clip_train import data
from PIL import Image
from shared import BATCH, LABELS, SAMPLES, build, captions, pictures

from tauten.integrations.open_clip import main

MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 1, "width": 32, "head_width": 16, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1},
}


def write_shards(folder: Path) -> str:
    """Write two shards and return their pattern; half of the samples have a member ``index``."""
    folder.mkdir(exist_ok=True)
    for shard in (0, 1):
        with tarfile.open(folder / f"{shard}.tar", "w") as tar:
            for i in range(shard, SAMPLES, 2):
                file = io.BytesIO()
                array = (pictures()[i].permute(1, 2, 0) * 255).byte().numpy()
                Image.fromarray(array).save(file, "png")
                members = {"png": file.getvalue(), "txt": captions()[i].encode()}
                if shard:
                    members["index"] = str(i).encode()
                else:
                    members["json"] = json.dumps({"key": f"{i:05d}", "url": "x"}).encode()
                for ending, content in members.items():
                    info = tarfile.TarInfo(f"s{i}x.{ending}")
                    info.size = len(content)
                    tar.addfile(info, io.BytesIO(content))
    return str(folder / "{0..1}.tar")


def run():
    out = Path(os.environ["OUT"])
    (out / "tiny.json").write_text(json.dumps(MODEL))
    open_clip.add_model_config(out / "tiny.json")
    data._SAMPLE_SHUFFLE_SIZE = 1  # its seed is the time
    logs = out / "logs"
    options = (
        f"--model tiny --train-data {write_shards(out / 'shards')} --train-num-samples {SAMPLES} "
        f"--dataset-type webdataset --batch-size {BATCH} --epochs 3 --workers 2 --lr 1e-3 "
        f"--warmup 1 --logs {logs} --name run --report-to tensorboard --log-every-n-steps 1 "
        "--save-frequency 1 --aug-cfg scale=(1.0,1.0) --device cpu --precision fp32"
    ).split()
    if os.environ.get("ACCUMULATE"):
        options += ["--accum-freq", os.environ["ACCUMULATE"]]
    if list((logs / "run" / "checkpoints").glob("*.pt")):
        options += ["--resume", "latest"]
    sys.exit(main(options, build(), LABELS))


run()
