"""A counter of what hands a number of a tensor to the host, which on a GPU waits for the device."""

import traceback
from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from tauten.reads import FREE


@contextmanager
def the_cpu_waits():
    """Let the CPU be treated as a device whose reads wait, such as a GPU."""
    FREE.discard("cpu")
    try:
        yield
    finally:
        FREE.add("cpu")


@contextmanager
def the_cpu_is_free():
    """Undo :func:`the_cpu_waits` in a block."""
    FREE.add("cpu")
    try:
        yield
    finally:
        FREE.discard("cpu")


#: operations whose result, or its shape, is a number that the host must know
WAITING = {
    "_linalg_check_errors",
    "_local_scalar_dense",
    "_unique",
    "_unique2",
    "allclose",
    "bincount",
    "equal",
    "is_nonzero",
    "item",
    "masked_select",
    "nonzero",
    "nonzero_numpy",
    "repeat_interleave",
    "unique_consecutive",
    "unique_dim",
}
#: methods that copy to the host without an operation that a mode sees on the CPU
COPYING = ("tolist", "numpy", "cpu", "__array__")


class Pausing:
    """A counter; ``pause`` leaves out what is of the host by right."""

    paused = 0

    @contextmanager
    def pause(self):
        self.paused += 1
        try:
            yield
        finally:
            self.paused -= 1


class HostReads(Pausing, TorchDispatchMode):
    """The places of all reads in a block."""

    def __init__(self):
        super().__init__()
        self.places = []

    def __enter__(self):
        self.before = {name: getattr(torch.Tensor, name) for name in COPYING}
        for name, method in self.before.items():
            setattr(torch.Tensor, name, self._seen(method))
        return super().__enter__()

    def __exit__(self, *args):
        for name, method in self.before.items():
            setattr(torch.Tensor, name, method)
        return super().__exit__(*args)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name.split("::")[1]
        masked = name.startswith(("index", "_index_put")) and any(
            isinstance(part, torch.Tensor) and part.dtype in (torch.bool, torch.uint8)
            for part in (args[1] if isinstance(args[1], (list, tuple)) else [])
        )
        if name in WAITING or masked:
            self._note()
        return func(*args, **(kwargs or {}))

    def _seen(self, method):
        def read(tensor, *args, **kwargs):
            self._note()
            with self.pause():  # one read, whatever it is made of
                return method(tensor, *args, **kwargs)

        return read

    def _note(self):
        if not self.paused:
            self.places.append("".join(traceback.format_stack(limit=12)[:-2]))
