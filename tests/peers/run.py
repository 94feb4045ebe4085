"""Run one training of a peer, once torchvision can be imported: ``python run.py PEER``."""

import runpy
import sys
from pathlib import Path

import torch

# torchvision is built for another torch: it imports once the operators it registers fakes for exist
OPERATORS = torch.library.Library("torchvision", "DEF")
for name in ("nms", "qnms"):
    OPERATORS.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")

runpy.run_path(str(Path(__file__).with_name(f"run_{sys.argv[1]}.py")), run_name="__main__")
