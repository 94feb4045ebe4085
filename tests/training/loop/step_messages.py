"""One of two processes that train, and what they send in each step; run by test_messages.py.

Run as ``python step_messages.py RANK PORT FOLDER OUT RECIPE``. OUT gets, for each step, the names
of the functions of torch.distributed that were called. What DistributedDataParallel sends itself is
not among them.
"""

import json
import os
import sys
from pathlib import Path

import torch
from torch import distributed
from transformers.trainer_callback import CallbackHandler

from tauten import messages
from tauten.pairwise import exchange
from tauten.recipes import get
from tauten.training import train
from tauten.training.loop.trainer import ContrastiveTrainer

SENDING = (
    *("all_reduce", "reduce", "broadcast", "barrier", "batch_isend_irecv", "isend", "irecv"),
    *("all_gather", "all_gather_into_tensor", "all_gather_single", "gather", "scatter"),
    *("all_to_all", "all_to_all_single", "reduce_scatter", "reduce_scatter_tensor"),
    *("reduce_scatter_single", "all_gather_object", "gather_object", "broadcast_object_list"),
    *("scatter_object_list", "all_gather_coalesced", "all_reduce_coalesced", "send", "recv"),
)


class Sent:
    """The names of what is sent, from the start of a step to its end."""

    def __init__(self):
        self.names, self.steps, self.depth = [], [], 0

    def counting(self, name, function):
        """Return the function, which notes its name; what it calls itself is not counted."""

        def called(*args, **kwargs):
            if not self.depth:
                self.names.append(name)
            self.depth += 1
            try:
                return function(*args, **kwargs)
            finally:
                self.depth -= 1

        return called

    def watch(self):
        for name in SENDING:
            if hasattr(distributed, name):
                setattr(distributed, name, self.counting(name, getattr(distributed, name)))
        messages._all_gather = self.counting("all_gather", messages._all_gather)
        exchange._reduce_scatter = self.counting("reduce_scatter", exchange._reduce_scatter)
        step, end = ContrastiveTrainer.training_step, CallbackHandler.on_step_end

        def training_step(trainer, *args, **kwargs):
            self.names.clear()
            return step(trainer, *args, **kwargs)

        def on_step_end(handler, args, state, control):
            control = end(handler, args, state, control)
            if not control.should_log and state.global_step < state.max_steps:
                self.steps.append(list(self.names))
            return control

        ContrastiveTrainer.training_step = training_step
        CallbackHandler.on_step_end = on_step_end


def main(rank, port, folder, out, recipe):
    torch.set_num_threads(1)
    os.environ.update(RANK=rank, LOCAL_RANK=rank, WORLD_SIZE="2", MASTER_PORT=port)
    os.environ.update(MASTER_ADDR="127.0.0.1", ACCELERATE_USE_CPU="true")
    config = get(recipe)(Path(folder), epochs=1)
    config.progress = config.tensorboard = False
    config.data.limit, config.optim.batch_size, config.log_every = 96, 16, 1000
    config.model.channels, config.model.dim, config.model.text_width = (4, 4, 4), 8, 8
    config.evaluation.bootstrap, config.evaluation.every = 0, 1.0
    sent = Sent()
    sent.watch()
    train(config)
    Path(out).write_text(json.dumps(sent.steps))


if __name__ == "__main__":
    main(*sys.argv[1:])
