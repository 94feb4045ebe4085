"""When the kernels of a GPU are used, that they compile for one, and that their cases pass."""

import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

import tauten as tt
from tauten.pairwise import (
    PairMask,
    Reduction,
    Scaled,
    Softplus,
    engine,
    reduce_pairs,
    triton_sweeps,
)
from tauten.pairwise.whole import held

needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
ONE = torch.ones(1, 1)
ROWS = [Reduction("rows", "logsumexp", Scaled(), (ONE,))]


def run_cases(interpreted):
    environment = {**os.environ, "TRITON_INTERPRET": "1" if interpreted else "0"}
    cases = Path(__file__).with_name("triton_cases.py")
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(cases)]
    if not interpreted and find_spec("xdist"):  # each case compiles kernels of its own
        command += ["-n", str(min(8, os.cpu_count() or 1))]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-2000:]


@needs_triton
def test_the_cases_in_interpreter_mode():
    run_cases(interpreted=True)


@needs_triton
@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_the_cases_on_a_gpu():
    run_cases(interpreted=False)


def launches(monkeypatch, dtype, reductions, mask):
    """Each kernel and its arguments, as a forward and a backward pass give them."""
    found = {}
    monkeypatch.setattr(triton_sweeps, "unsupported", lambda *args: None)
    monkeypatch.setattr(
        triton_sweeps,
        "_launch",
        lambda kernel, grid, arguments, at: found.setdefault(kernel, arguments),
    )
    x, y = (torch.zeros(160, 64, dtype=dtype, requires_grad=True) for _ in range(2))
    results = triton_sweeps.reduce_triton(x, y, reductions, mask, cosine=True)
    torch.autograd.grad(sum(r.sum() for r in results), x)
    return found


def compiled(kernel, arguments, capability):
    """PTX and shared memory of a kernel for these arguments."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from tauten.pairwise import triton_kernels

    function = getattr(triton_kernels, kernel)
    pointers = {
        torch.float32: "*fp32",
        torch.bfloat16: "*bf16",
        torch.float16: "*fp16",
        torch.int64: "*i64",
        torch.int32: "*i32",
        torch.uint8: "*u8",
    }
    signature, constants = {}, {}
    for at, name in enumerate(function.arg_names):
        given = arguments[name]
        if given is None or name.isupper():
            signature[name], constants[at,] = "constexpr", given
        else:
            signature[name] = pointers[given.dtype] if isinstance(given, torch.Tensor) else "i32"
    source = ASTSource(function, signature, constants)
    options = {"num_warps": triton_sweeps.WARPS, "num_stages": triton_sweeps.STAGES}
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32), options=options)
    return made.asm["ptx"], made.metadata.shared


@needs_triton
@pytest.mark.skipif("TRITON_INTERPRET" in os.environ, reason="interpreted kernels do not compile")
@pytest.mark.parametrize(("dtype", "capability"), [(torch.bfloat16, 90)])
def test_the_kernels_compile_for_a_gpu(monkeypatch, tmp_path, dtype, capability):
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    reductions = [
        Reduction("rows", "logsumexp", Scaled(), (torch.zeros(160, 1, requires_grad=True),)),
        Reduction("cols", "sum", Softplus(), (torch.zeros(1, 160), ONE)),
    ]
    ids = torch.arange(160)
    mask = PairMask(ids, own=True, same=[(ids, ids)], ignore=torch.zeros(160, 160).bool())
    found = launches(monkeypatch, dtype, reductions, mask)
    assert set(found) == {"reduce_kernel", "cotangent_kernel", "product_kernel"}
    for kernel, arguments in found.items():
        ptx, shared = compiled(kernel, arguments, capability)
        assert "mma" in ptx
        assert shared <= 99 * 1024


def test_without_a_gpu_it_is_refused_and_auto_goes_on(monkeypatch):
    x = torch.randn(600, 4, generator=torch.Generator().manual_seed(0))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(triton_sweeps, "_installed", lambda: True)
    with pytest.raises(ValueError, match="embeddings are on cpu, and it needs CUDA; use tile="):
        tt.InfoNCE(0.1, tile="triton")(x, x)
    (tiled,) = reduce_pairs(x, x, ROWS)
    torch.testing.assert_close(tiled, (x @ x.T).logsumexp(1))


def test_without_triton_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(triton_sweeps, "_installed", lambda: False)
    with pytest.raises(ValueError, match=r"pip install 'tauten\[triton\]'"):
        reduce_pairs(ONE, ONE, ROWS, tile="triton")


def test_over_processes_it_is_refused():
    class TwoRanks:
        size = 2

    with pytest.raises(ValueError, match="in one process, and 2 share"):
        reduce_pairs(ONE, ONE, ROWS, tile="triton", ranks=TwoRanks())


@pytest.mark.parametrize(
    ("kind", "tile", "sides", "expected"),
    [
        ("cpu", "auto", (1024, 1024), True),
        ("cpu", "auto", (1024, 1025), False),
        ("cuda", "auto", (4096, 4096), True),
        ("cuda", "auto", (4096, 4097), False),
        ("cuda", 4096, (8, 8), False),
        ("cuda", "dense", (100_000, 100_000), True),
    ],
)
def test_a_gpu_holds_larger_matrices(kind, tile, sides, expected):
    assert held(tile, *sides, torch.device(kind)) is expected


@pytest.mark.parametrize(("reason", "called"), [(None, "kernels"), ("it cannot", (4096, 4096))])
def test_auto_takes_the_kernels_of_a_gpu_where_they_can(monkeypatch, reason, called):
    """On meta tensors, which like a GPU's are not read."""
    found = []
    monkeypatch.setattr(engine, "unsupported", lambda *args: reason)
    monkeypatch.setattr(engine, "reduce_triton", lambda *args, **kw: found.append("kernels"))
    monkeypatch.setattr(engine, "reduce_tiled", lambda *args, tile, **kw: found.append(tile))
    side = torch.empty(5000, 4, device="meta")
    engine.reduce_pairs(side, side, ROWS)
    assert found == [called]
