"""A pretend CUDA device on the CPU, for tests of where tensors lie and of who waits for a device.

Tensors of the device hold numbers in main memory, say that they lie on ``cuda:0``, and refuse to
meet others as CUDA does. Copies to the device, and reads of it by the host, are written down.
"""

import sys
from contextlib import nullcontext
from unittest import mock

import torch
from torch import Tensor
from torch.nn.utils import clip_grad
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from hostreads import WAITING, Pausing

group_tensors = clip_grad._group_tensors_by_device_and_dtype
CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)
MIXED = "Expected all tensors to be on the same device, but found at least two devices, {}: {}"
#: what is asked of torch.cuda, and its answers
ASKED = {
    "_lazy_init": None,
    "current_device": 0,
    "current_stream": mock.MagicMock(),
    "device_count": 1,
    "empty_cache": None,
    "get_device_capability": (9, 0),
    "get_rng_state": torch.zeros(16, dtype=torch.uint8),
    "is_available": True,
    "is_bf16_supported": True,
    "manual_seed_all": None,
    "set_device": None,
    "set_rng_state": None,
    "stream": nullcontext(),
    "Stream": mock.MagicMock(),
    "synchronize": None,
}
#: operations that take not even a number () of the other side
STRICT = {"cat", "stack", "index_select", "gather", "scatter", "index_add", "index_copy"}
INDEXED = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}


class Pretend(Tensor):
    """A tensor of the pretend device."""

    __torch_function__ = torch._C._disabled_torch_function_impl
    device = property(lambda self: CUDA)
    is_cuda = property(lambda self: True)
    is_cpu = property(lambda self: False)

    @staticmethod
    def __new__(cls, inner):
        return Tensor._make_wrapper_subclass(
            cls, inner.shape, strides=inner.stride(), dtype=inner.dtype, device=CPU
        )

    def __init__(self, inner):
        self.inner = inner

    def __repr__(self):
        return f"{self.inner!r} on {self.device}"

    def record_stream(self, stream):
        pass

    def __format__(self, spec):
        return format(self.item() if self.dim() == 0 else str(self), spec)

    def __reduce_ex__(self, protocol):
        return self.inner.__reduce_ex__(protocol)

    def __deepcopy__(self, memo):
        again = Pretend(self.inner.clone()).requires_grad_(self.requires_grad)
        again.__dict__.update({k: v for k, v in self.__dict__.items() if k != "inner"})
        return memo.setdefault(id(self), again)

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        return dispatch(func, args, kwargs or {}, None)


class Move(torch.autograd.Function):
    """The way to the device, or back; gradients go the other way."""

    @staticmethod
    def forward(ctx, tensor):
        ctx.there = isinstance(tensor, Pretend)
        return tensor.inner.clone() if ctx.there else Pretend(tensor.detach().clone())

    @staticmethod
    def backward(ctx, gradient):
        return gradient if isinstance(gradient, Pretend) == ctx.there else Move.apply(gradient)


def inside(tree):
    return tree_map_only(Pretend, lambda t: t.inner, tree)


def dispatch(func, args, kwargs, gpu):
    """Run an operation on the numbers inside, and refuse tensors of two devices."""
    name = func._schema.name.split("::")[1]
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    there = [t for t in tensors if isinstance(t, Pretend)]
    here = [t for t in tensors if not isinstance(t, Pretend)]
    device = kwargs.get("device")
    if "device" in kwargs:
        kwargs = kwargs | {"device": CPU}
    asked = device is not None and torch.device(device).type == "cuda"
    if not there and not asked:
        made = func(*args, **kwargs)
        filling = gpu is not None and not tensors and gpu.in_gradients()
        return Pretend(made) if filling and made.dim() else made
    if there and here:
        mixed(name, args, there, here, gpu)
    generator = kwargs.get("generator")
    if generator is not None:
        raise RuntimeError("Expected a 'cuda' device type for generator but found 'cpu'")
    if gpu is not None and waits(name, args, kwargs):
        gpu.note(False)
    out = func(*inside(args), **inside(kwargs))
    if any(a.alias_info is not None and a.alias_info.is_write for a in func._schema.arguments):
        return kwargs.get("out", args[0]) if func._schema.returns else None
    return tree_map_only(Tensor, Pretend, out)


def waits(name, args, kwargs):
    """Return whether the host waits for the result, or for its shape."""
    if name == "repeat_interleave":
        return kwargs.get("output_size") is None
    if name not in INDEXED:
        return name in WAITING
    masks = [t for t in args[1] if t is not None and t.dtype in (torch.bool, torch.uint8)]
    filled = name != "index" and len(args) > 2 and args[2].numel() == 1
    return bool(masks) and not filled


def mixed(name, args, there, here, gpu):
    """Refuse what CUDA refuses of tensors on the device and others; note what it copies."""
    if name == "copy_":
        if gpu is not None:
            gpu.note(isinstance(args[0], Pretend))
        return
    if name in INDEXED and isinstance(args[0], Pretend):
        values = [t for t in args[2:3] if isinstance(t, Tensor) and not isinstance(t, Pretend)]
        if not any(t.dim() for t in values):
            if gpu is not None and len(here) > len(values):
                gpu.note(True)
            return
    written = not isinstance(args[0], Pretend) and name.endswith("_")
    if written or any(t.dim() for t in here) or name.rstrip("_") in STRICT:
        shapes = [f"{t.device} {tuple(t.shape)}" for t in (*there, *here)]
        raise RuntimeError(MIXED.format(name, ", ".join(shapes)))


def by_device(lists, *args):
    """Group tensors as torch does, by the devices that they say they are on."""
    groups = group_tensors(lists, *args)
    return {(of[0][0].device, dtype): (of, at) for (_, dtype), (of, at) in groups.items()}


def asked_at():
    """Return the innermost line of tauten, or else of a test, that is at work."""
    frame, first = sys._getframe(2), "torch"
    while frame is not None:
        file = frame.f_code.co_filename
        place = f"{file}:{frame.f_lineno} {frame.f_code.co_name}"
        if "/tauten/" in file:
            return place[place.rindex("/tauten/") + 8 :]
        if first == "torch" and "/tests/" in file and file != __file__:
            first = place
        frame = frame.f_back
    return first


class _Dispatch(TorchDispatchMode):
    def __init__(self, gpu):
        super().__init__()
        self.gpu = gpu

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return dispatch(func, args, kwargs or {}, self.gpu)


class PretendGPU(Pausing, TorchFunctionMode):
    """A block in which ``"cuda"`` is the pretend device.

    Attributes:
        copies: the place of each copy from main memory to the device.
        reads: the place of each read of numbers of the device.
        waits: the place of each read, and of each copy that is not ``non_blocking``: there the host
            waits until the device has done all that it was given.
    """

    def __init__(self):
        super().__init__()
        self.copies, self.reads, self.waits = [], [], []
        self.paused = self.calls = 0

    def __enter__(self):
        self.engine = torch.autograd._engine_run_backward
        self.patches = [mock.patch.object(torch.cuda, n, return_value=v) for n, v in ASKED.items()]
        self.patches += [
            mock.patch.object(
                torch.cuda.random, "get_rng_state", return_value=ASKED["get_rng_state"]
            ),
            mock.patch.object(torch.autograd, "_engine_run_backward", self._run_backward),
            mock.patch.object(clip_grad, "_group_tensors_by_device_and_dtype", by_device),
        ]
        for patch in self.patches:
            patch.start()
        self.swaps = torch.__future__.get_swap_module_params_on_conversion()
        torch.__future__.set_swap_module_params_on_conversion(True)
        self.mode = _Dispatch(self)
        self.mode.__enter__()
        return super().__enter__()

    def __exit__(self, *args):
        super().__exit__(*args)
        self.mode.__exit__(*args)
        torch.__future__.set_swap_module_params_on_conversion(self.swaps)
        for patch in self.patches:
            patch.stop()

    def in_gradients(self):
        """Return whether autograd itself makes a tensor, such as zeros for a lacking gradient."""
        return not self.calls and torch._C._current_autograd_node() is not None

    def note(self, copied, waits=True):
        """Write down where tauten, or else the test, asked for a copy or a read."""
        if not self.paused:
            place = asked_at()
            (self.copies if copied else self.reads).append(place)
            if waits:
                self.waits.append(place)

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        special = getattr(self, f"_{name}", None) if name in SPECIAL else None
        if special is not None:
            return special(func, *args, **kwargs)
        device = kwargs.get("device")
        if device is not None and torch.device(device).type == "cpu":
            args, kwargs = inside(args), inside(kwargs)
        self.calls += 1
        try:
            return func(*args, **kwargs)
        finally:
            self.calls -= 1

    def _run_backward(self, *args, **kwargs):
        """Run autograd's engine, with the mode at work in it as outside."""
        calls, self.calls = self.calls, 0
        super().__enter__()
        try:
            return self.engine(*args, **kwargs)
        finally:
            super().__exit__(None, None, None)
            self.calls = calls

    def _to(self, func, tensor, *args, **kwargs):
        copy, free = kwargs.pop("copy", False), kwargs.get("non_blocking", False)
        if args and isinstance(args[0], Tensor):
            device, dtype = args[0].device, args[0].dtype
        else:
            args = args[:1] if args and isinstance(args[0], torch.dtype) else args[:2]
            device, dtype, free, _ = torch._C._nn._parse_to(*args, **kwargs)
        moved = tensor if device is None else self.move(tensor, device, waits=not free)
        if dtype is not None and dtype != moved.dtype:
            return func(moved, dtype)
        return moved.clone() if copy and moved is tensor else moved

    def move(self, tensor, device, waits=True):
        """Return a tensor on that device; itself if it lies there."""
        there = torch.device(device).type == "cuda"
        if there == isinstance(tensor, Pretend):
            return tensor
        self.note(there, waits=waits or not there)
        return Move.apply(tensor)

    def _cuda(self, func, tensor, *args, **kwargs):
        return self.move(tensor, CUDA)

    def _cpu(self, func, tensor, *args, **kwargs):
        return self.move(tensor, CPU)

    def _type_as(self, func, tensor, other):
        return self._to(Tensor.to, tensor, other)

    def _pin_memory(self, func, tensor, *args):
        return tensor

    def _get_device(self, func, tensor):
        return 0 if isinstance(tensor, Pretend) else -1

    def _data_ptr(self, func, tensor):
        return func(inside(tensor))

    def _untyped_storage(self, func, tensor):
        return func(inside(tensor))

    def _tolist(self, func, tensor):
        if isinstance(tensor, Pretend):
            self.note(False)
        return func(inside(tensor))

    def _numpy(self, func, tensor, *args, **kwargs):
        if isinstance(tensor, Pretend):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        return func(tensor, *args, **kwargs)

    ___array__ = _numpy

    def _tensor(self, func, data, *args, device=None, **kwargs):
        return self._made(func, data, *args, device=device, **kwargs)

    def _as_tensor(self, func, data, *args, device=None, **kwargs):
        if isinstance(data, Tensor):
            moved = data if device is None else self.move(data, device)
            return moved.to(*args, **kwargs) if args or kwargs else moved
        return self._made(func, data, *args, device=device, **kwargs)

    def _made(self, func, data, *args, device=None, **kwargs):
        requires_grad = kwargs.pop("requires_grad", False)
        made = func(data, *args, **kwargs)
        if device is not None:
            made = self.move(made, device)
        return made.requires_grad_() if requires_grad else made

    def _new_tensor(self, func, tensor, data, *, dtype=None, device=None, **kwargs):
        dtype, device = dtype or tensor.dtype, device or tensor.device
        return self._made(torch.tensor, data, dtype=dtype, device=device, **kwargs)

    def _one_hot(self, func, tensor, num_classes=-1):
        if not isinstance(tensor, Pretend):
            return func(tensor, num_classes)
        if num_classes < 0:
            self.note(False)
        return Pretend(func(tensor.inner, num_classes))


SPECIAL = {
    name[1:]
    for name in vars(PretendGPU)
    if name.startswith("_") and name not in ("__torch_function__", "_made", "_run_backward")
}
