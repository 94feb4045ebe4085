"""The slow imports, done once for all forks of ``forks.py``."""

import gc

import torch
from torch import distributed, multiprocessing  # noqa: F401
from torch.distributed import fsdp  # noqa: F401

from tauten import comparison, data, models, training  # noqa: F401
from tauten.training.loop import trainer  # noqa: F401

torch.set_num_threads(1)
gc.freeze()
