# mypy: ignore-errors
"""Triton kernels: the reductions of a block of S, their cotangents, and products with these.

Import it only where triton is installed. Whether its kernels are compiled or interpreted on the CPU
(``TRITON_INTERPRET=1``) is decided at that import.

Shapes: n rows and m columns of the block, d dimensions. A program has one tile (ROWS, COLS); what
it sums along rows or columns goes to a place of its own, so that results do not depend on the order
in which programs run. Pointers that are None are left out when a kernel is compiled.

Numbers a and b of a term have an axis: 0 for one per row, 1 for one per column, 2 for one for all.
"""

import triton
import triton.language as tl

from tauten.pairwise.triton_terms import reduced, slope, slope_of_a, slope_of_b, value, weighted


@triton.jit
def reduce_kernel(
    x,
    y,
    x_scale,
    y_scale,
    sim,
    n,
    m,
    d,
    x_stride,
    y_stride,
    sim_stride,
    label_x,
    label_y,
    same_x,
    same_y,
    ignore,
    same_x_stride,
    same_y_stride,
    ignore_stride,
    row_a,
    row_b,
    row_partial,
    col_a,
    col_b,
    col_partial,
    SAME: tl.constexpr,
    OWN: tl.constexpr,
    ROW_TERM: tl.constexpr,
    ROW_HOW: tl.constexpr,
    ROW_A: tl.constexpr,
    ROW_B: tl.constexpr,
    COL_TERM: tl.constexpr,
    COL_HOW: tl.constexpr,
    COL_A: tl.constexpr,
    COL_B: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
    STEP: tl.constexpr,
):
    """Compute a reduction of rows and one of columns, for each tile alone.

    row_partial is (tiles across, n) and col_partial (tiles down, m). Without x, S is read from sim.
    """
    tile_row, tile_col = _place(n, m, ROWS, COLS)
    row = tile_row * ROWS + tl.arange(0, ROWS)
    col = tile_col * COLS + tl.arange(0, COLS)
    s = _similarity(
        x, y, x_scale, y_scale, sim, row, col, n, m, d, x_stride, y_stride, sim_stride, STEP
    )
    out = _left_out(
        label_x, label_y, same_x, same_y, ignore, row, col, n, m,
        same_x_stride, same_y_stride, ignore_stride, SAME, OWN,
    )  # fmt: skip
    if row_partial is not None:
        a = _number(row_a, row, col, n, m, ROW_A)
        b = _number(row_b, row, col, n, m, ROW_B)
        part = reduced(value(s, a, b, ROW_TERM), out, ROW_HOW, 1)
        tl.store(row_partial + tile_col * n + row, part, mask=row < n)
    if col_partial is not None:
        a = _number(col_a, row, col, n, m, COL_A)
        b = _number(col_b, row, col, n, m, COL_B)
        part = reduced(value(s, a, b, COL_TERM), out, COL_HOW, 0)
        tl.store(col_partial + tile_row * m + col, part, mask=col < m)


@triton.jit
def cotangent_kernel(
    x,
    y,
    x_scale,
    y_scale,
    sim,
    n,
    m,
    d,
    x_stride,
    y_stride,
    sim_stride,
    label_x,
    label_y,
    same_x,
    same_y,
    ignore,
    same_x_stride,
    same_y_stride,
    ignore_stride,
    row_a,
    row_b,
    row_result,
    row_factor,
    row_grad_a,
    row_grad_b,
    col_a,
    col_b,
    col_result,
    col_factor,
    col_grad_a,
    col_grad_b,
    SAME: tl.constexpr,
    OWN: tl.constexpr,
    ROW_TERM: tl.constexpr,
    ROW_HOW: tl.constexpr,
    ROW_A: tl.constexpr,
    ROW_B: tl.constexpr,
    COL_TERM: tl.constexpr,
    COL_HOW: tl.constexpr,
    COL_A: tl.constexpr,
    COL_B: tl.constexpr,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
    STEP: tl.constexpr,
):
    """Write the cotangent of S to sim, and for each tile alone those of the numbers.

    The gradient of a number per column is (tiles down, m), that of any other (tiles across, n).
    """
    tile_row, tile_col = _place(n, m, ROWS, COLS)
    row = tile_row * ROWS + tl.arange(0, ROWS)
    col = tile_col * COLS + tl.arange(0, COLS)
    s = _similarity(
        x, y, x_scale, y_scale, sim, row, col, n, m, d, x_stride, y_stride, sim_stride, STEP
    )
    out = _left_out(
        label_x, label_y, same_x, same_y, ignore, row, col, n, m,
        same_x_stride, same_y_stride, ignore_stride, SAME, OWN,
    )  # fmt: skip
    grad = tl.zeros((ROWS, COLS), tl.float32)
    if row_factor is not None:
        a = _number(row_a, row, col, n, m, ROW_A)
        b = _number(row_b, row, col, n, m, ROW_B)
        factor = tl.load(row_factor + row, mask=row < n, other=0.0)[:, None]
        shift = tl.load(row_result + row, mask=row < n, other=0.0)[:, None]
        weight = weighted(value(s, a, b, ROW_TERM), factor, shift, ROW_HOW)
        grad += weight * slope(s, a, b, ROW_TERM)
        if row_grad_a is not None:
            part = tl.where(out, 0.0, weight * slope_of_a(s, a, b, ROW_TERM))
            _store(row_grad_a, part, row, col, n, m, tile_row, tile_col, ROW_A)
        if row_grad_b is not None:
            part = tl.where(out, 0.0, weight * slope_of_b(s, a, b, ROW_TERM))
            _store(row_grad_b, part, row, col, n, m, tile_row, tile_col, ROW_B)
    if col_factor is not None:
        a = _number(col_a, row, col, n, m, COL_A)
        b = _number(col_b, row, col, n, m, COL_B)
        factor = tl.load(col_factor + col, mask=col < m, other=0.0)[None, :]
        shift = tl.load(col_result + col, mask=col < m, other=0.0)[None, :]
        weight = weighted(value(s, a, b, COL_TERM), factor, shift, COL_HOW)
        grad += weight * slope(s, a, b, COL_TERM)
        if col_grad_a is not None:
            part = tl.where(out, 0.0, weight * slope_of_a(s, a, b, COL_TERM))
            _store(col_grad_a, part, row, col, n, m, tile_row, tile_col, COL_A)
        if col_grad_b is not None:
            part = tl.where(out, 0.0, weight * slope_of_b(s, a, b, COL_TERM))
            _store(col_grad_b, part, row, col, n, m, tile_row, tile_col, COL_B)
    inside = (row < n)[:, None] & (col < m)[None, :]
    place = sim + row[:, None] * sim_stride + col[None, :]
    tl.store(place, tl.where(out, 0.0, grad), mask=inside)


@triton.jit
def product_kernel(
    weight,
    scale,
    vectors,
    total,
    n,
    k,
    d,
    weight_row_stride,
    weight_col_stride,
    vectors_stride,
    total_stride,
    ROWS: tl.constexpr,
    COLS: tl.constexpr,
    STEP: tl.constexpr,
):
    """Compute total (n, d) += (weight (n, k) · scale (k)) @ vectors (k, d), vectors of 16 bits.

    Nothing is rounded to 16 bits: see :func:`_times`.
    """
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    col = tl.program_id(1) * COLS + tl.arange(0, COLS)
    products = tl.zeros((ROWS, COLS), tl.float32)
    for start in range(0, k, STEP):
        at = start + tl.arange(0, STEP)
        w = tl.load(
            weight + row[:, None] * weight_row_stride + at[None, :] * weight_col_stride,
            mask=(row < n)[:, None] & (at < k)[None, :],
            other=0.0,
        )
        if scale is not None:
            w *= tl.load(scale + at, mask=at < k, other=0.0)[None, :]
        v = tl.load(
            vectors + at[:, None] * vectors_stride + col[None, :],
            mask=(at < k)[:, None] & (col < d)[None, :],
            other=0.0,
        )
        products = _times(w, v, products)
    place = total + row[:, None] * total_stride + col[None, :]
    inside = (row < n)[:, None] & (col < d)[None, :]
    tl.store(place, tl.load(place, mask=inside, other=0.0) + products, mask=inside)


@triton.jit
def _place(n, m, ROWS: tl.constexpr, COLS: tl.constexpr):
    """Return the place of a tile, in bands of 8 rows of tiles, so that neighbours share vectors."""
    down, across = tl.cdiv(n, ROWS), tl.cdiv(m, COLS)
    band, within = tl.program_id(0) // (8 * across), tl.program_id(0) % (8 * across)
    height = min(down - band * 8, 8)
    return band * 8 + within % height, within // height


@triton.jit
def _similarity(
    x, y, x_scale, y_scale, sim, row, col, n, m, d, x_stride, y_stride, sim_stride,
    STEP: tl.constexpr,
):  # fmt: skip
    """Return the tile of S, zero outside."""
    if x is None:
        inside = (row < n)[:, None] & (col < m)[None, :]
        s = tl.load(sim + row[:, None] * sim_stride + col[None, :], mask=inside, other=0.0)
    else:
        s = tl.zeros((row.shape[0], col.shape[0]), tl.float32)
        for start in range(0, d, STEP):
            at = start + tl.arange(0, STEP)
            left = tl.load(
                x + row[:, None] * x_stride + at[None, :],
                mask=(row < n)[:, None] & (at < d)[None, :],
                other=0.0,
            )
            right = tl.load(
                y + col[None, :] * y_stride + at[:, None],
                mask=(col < m)[None, :] & (at < d)[:, None],
                other=0.0,
            )
            s = tl.dot(left, right, s)
        if x_scale is not None:
            s *= tl.load(x_scale + row, mask=row < n, other=0.0)[:, None]
            s *= tl.load(y_scale + col, mask=col < m, other=0.0)[None, :]
    return s


@triton.jit
def _left_out(
    label_x, label_y, same_x, same_y, ignore, row, col, n, m,
    same_x_stride, same_y_stride, ignore_stride, SAME: tl.constexpr, OWN: tl.constexpr,
):  # fmt: skip
    """Return pairs that are masked or outside; positives are the pairs of equal labels."""
    out = ((row < n)[:, None] & (col < m)[None, :]) == 0
    if label_x is not None:
        labels = tl.load(label_x + row, mask=row < n, other=0)[:, None]
        other = (labels == tl.load(label_y + col, mask=col < m, other=0)[None, :]) == 0
        if OWN:
            out = out | (other == 0)
        for k in tl.static_range(SAME):
            labels = tl.load(same_x + k * same_x_stride + row, mask=row < n, other=0)[:, None]
            theirs = tl.load(same_y + k * same_y_stride + col, mask=col < m, other=0)[None, :]
            out = out | ((labels == theirs) & other)
        if ignore is not None:
            ignored = tl.load(
                ignore + row[:, None].to(tl.int64) * ignore_stride + col[None, :],
                mask=(row < n)[:, None] & (col < m)[None, :],
                other=0,
            )
            out = out | (ignored != 0)
    return out


@triton.jit
def _number(number, row, col, n, m, AXIS: tl.constexpr):
    """Return a term's number; 0 where the term has none."""
    if number is None:
        loaded = 0.0
    elif AXIS == 0:
        loaded = tl.load(number + row, mask=row < n, other=0.0)[:, None]
    elif AXIS == 1:
        loaded = tl.load(number + col, mask=col < m, other=0.0)[None, :]
    else:
        loaded = tl.load(number)
    return loaded


@triton.jit
def _store(place, part, row, col, n, m, tile_row, tile_col, AXIS: tl.constexpr):
    """Store a number's gradient over the tile, summed along the other axis."""
    if AXIS == 1:
        tl.store(place + tile_row * m + col, tl.sum(part, 0), mask=col < m)
    else:
        tl.store(place + tile_col * n + row, tl.sum(part, 1), mask=row < n)


@triton.jit
def _times(weight, vectors, total):
    """Return total + weight @ vectors, for a float32 weight: bfloat16 in 2 parts, float16 in 3."""
    if vectors.dtype == tl.bfloat16:
        high = weight.to(tl.bfloat16)
        low = (weight - high.to(tl.float32)).to(tl.bfloat16)
        total = tl.dot(low, vectors, total)
        total = tl.dot(high, vectors, total)
    else:
        total = tl.dot(weight, vectors.to(tl.float32), total, input_precision="tf32x3")
    return total
