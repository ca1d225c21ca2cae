"""Aggregated attention: specification, checks, and the choice of an implementation."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from foveal.types import Size

from ..backend import Implementation, Operator, forced_backend, register
from ..fused import lazy_triton
from ..numerics import accumulation_dtype
from ..standard import is_standard, standard
from . import cpu, torch_ops
from .offsets import TABLE_BACKENDS, fits_axis, offset_count
from .reference import aggregated_attention_reference
from .resize import dense_bias
from .schema import FUSED, POOL_BIAS, TABLE
from .standard_form import aggregated_attention_standard


def aggregated_attention(
    q: Tensor,
    k: Tensor | None,
    v: Tensor | None,
    k_pool: Tensor,
    v_pool: Tensor,
    scale: Tensor,
    query_embedding: Tensor | None = None,
    local_bias: Tensor | None = None,
    pool_bias: Tensor | None = None,
    tokens: Tensor | None = None,
    token_bias: Tensor | None = None,
    *,
    pool_bias_table: Tensor | None = None,
    table_sizes: tuple[Size, Size] | None = None,
    window: int = 3,
    length: int | None = None,
    dropout_p: float = 0.0,
) -> Tensor:
    """Aggregated (pixel-focused) attention of TransNeXt, equations 10-12 of the paper.

    Every query attends to the k*k keys around it and all pooled keys in one softmax, plus positional attention:

        q_i  = (unit(q_i) + query_embedding) * scale * log(n_i),   n_i = window keys inside the map + length
        A_i  = softmax over j in the window and pooled p together, of
                 q_i . unit(k_j) + local_bias_j   and   q_i . unit(kp_p) + pool_bias_ip
        y_i  = sum_j (A_ij + unit(q_i) . tokens_j + token_bias_j) v_j + sum_p A_ip vp_p

    ``unit`` divides by the L2 norm over the head dimension (eps 1e-12). Window positions outside the map have
    probability 0, value 0 and do not count in n_i. Without embedding, tokens and token_bias this is the paper's
    pixel-focused attention; with ``window=0`` it is attention to the pooled keys alone, as in the last stage, whose
    pooled map is the map itself.

    Args:
        q, k, v: (B, H, W, h, d), not normalised; any strides. With ``window=0``, k and v are None.
        k_pool, v_pool: (B, Hp, Wp, h, d), from the pooled map; P = Hp * Wp.
        scale: (h,), softplus of the learned temperature.
        query_embedding: (h, d), or None for 0.
        local_bias: (h, k*k), window offsets row by row, the centre is the query itself; or None for 0.
        pool_bias: (h, H*W, P); or None for 0. Fastest as the transpose of a contiguous (h, P, H*W).
        tokens, token_bias: (h, d, k*k) and (h, k*k), positional attention; or None for 0.
        pool_bias_table: (h, Dr, Dc), instead of pool_bias: the bias of every offset from a pooled cell to a query, rows
            and columns ascending; ``offsets`` defines them and counts them. The Triton kernels and the compiled CPU
            kernels read the table in place; the other backends expand it to a pool_bias.
        table_sizes: ((Hr, Wr), (Pr, Pc)), if the table belongs to another map and pooled map than those of this call:
            the bias is resized bilinearly, first over pooled cells, then over pixels. None for these maps.
        window: k, odd, or 0 for no window.
        length: the number of pooled keys that n_i counts; None for the actual number, P. A fixed number disables length
            scaling.
        dropout_p: dropout of the probabilities A (training only; the caller passes 0 otherwise).

    Returns:
        (B, H, W, h, d) in the dtype of q. Half types are summed in float32. All tensors get gradients; a second
        derivative exists on the backend "reference" only.

    Raises:
        ValueError: shapes that do not fit together, an even window above 0, or pool_bias and its table at once.
        BackendError: the backend selected with ``use_backend`` cannot take this call.
    """
    call = _normalise(
        q, k, v, k_pool, v_pool, scale, query_embedding, local_bias, pool_bias, tokens, token_bias,
        pool_bias_table=pool_bias_table, table_sizes=table_sizes, window=window, length=length, dropout_p=dropout_p,
    )  # fmt: skip
    return OPERATOR.choose(*call).run(*call)


def reads_table(q: Tensor, parameter: Tensor, window: int, dropout_p: float = 0.0, *, resized: bool = False) -> bool:
    """Whether a call with these queries, and all maps in their dtype, reads a table in place; "meta" counts as a CPU.

    If not, a table is expanded at every call, and it is better to expand it once and pass the dense bias.

    Args:
        parameter: one of the call's parameters, which share a dtype.
        resized: whether the call has ``table_sizes``.
    """
    if is_standard():
        return False
    if q.device.type == "meta":
        return True
    scale = parameter.new_empty(0, dtype=accumulation_dtype(parameter.dtype))
    omitted = parameter if window else scale
    sizes = [*q.shape[1:3], *q.shape[1:3]] if resized else []
    tensors = (q, q, q, q, q, scale, parameter, omitted, parameter, omitted, omitted)
    call = (*tensors, window, 0, dropout_p, sizes)
    able = [i for i in OPERATOR.implementations if i.name in TABLE_BACKENDS and forced_backend() in (None, i.name)]
    return any(implementation.unsupported(*call) is None for implementation in able)


def _normalise(
    q, k, v, k_pool, v_pool, scale, query_embedding=None, local_bias=None, pool_bias=None, tokens=None, token_bias=None,
    *, pool_bias_table=None, table_sizes=None, window=3, length=None, dropout_p=0.0,
):  # fmt: skip
    """Check a call and fill in defaults. Implementations get one form: the tensors, with a table in place of the dense
    bias, then window, length, dropout, and the sizes [H, W, Hp, Wp] that a table belongs to: [] for those of the call,
    None without a table."""
    if window < 0 or (window > 0 and window % 2 == 0):
        raise ValueError(f"window must be odd (3, 5, 7, ...), or 0 for none, got {window}")
    if window == 0:
        if k is not None or v is not None:
            raise ValueError("window=0 has no window keys: pass None for k and v")
        k = v = q[:, :0] if isinstance(q, Tensor) else None
    _check_tensors(
        dict(q=q, k=k, v=v, k_pool=k_pool, v_pool=v_pool, scale=scale),
        dict(query_embedding=query_embedding, local_bias=local_bias, pool_bias=pool_bias, tokens=tokens,
             token_bias=token_bias, pool_bias_table=pool_bias_table),
    )  # fmt: skip
    if q.ndim != 5 or k_pool.ndim != 5:
        raise ValueError(
            "q and k_pool must be (batch, height, width, heads, dim); reshape the outputs of the linear layers"
        )
    b, height, width, heads, dim = q.shape
    pooled = k_pool.shape[1] * k_pool.shape[2]
    keys = (b, height if window else 0, width, heads, dim)
    expected = {
        "k": (k, keys),
        "v": (v, keys),
        "k_pool": (k_pool, (b, *k_pool.shape[1:3], heads, dim)),
        "v_pool": (v_pool, k_pool.shape),
        "scale": (scale, (heads,)),
        "query_embedding": (query_embedding, (heads, dim)),
        "local_bias": (local_bias, (heads, window * window)),
        "pool_bias": (pool_bias, (heads, height * width, pooled)),
        "tokens": (tokens, (heads, dim, window * window)),
        "token_bias": (token_bias, (heads, window * window)),
    }
    tensors = [q]
    for name, (tensor, shape) in expected.items():
        if tensor is None:
            tensor = scale.new_zeros(()).expand(shape)
        elif tuple(tensor.shape) != tuple(shape):
            raise ValueError(
                f"{name} must have shape {tuple(shape)} beside q of shape {tuple(q.shape)}, got {tuple(tensor.shape)}"
            )
        tensors.append(tensor)
    sizes = None
    if pool_bias_table is not None:
        sizes = _table_sizes(pool_bias_table, pool_bias, table_sizes, q, k_pool)
        tensors[POOL_BIAS] = pool_bias_table
    elif table_sizes is not None:
        raise ValueError("table_sizes belongs to a pool_bias_table: pass both or neither")
    return (*tensors, window, pooled if length is None else length, dropout_p, sizes)


def _check_tensors(needed: dict[str, object], optional: dict[str, object]) -> None:
    for name, value in (needed | optional).items():
        if value is None and name in needed:
            raise ValueError(f"{name} is required: only the biases, the embedding and the tokens may be None")
        if value is not None and not isinstance(value, Tensor):
            raise ValueError(f"{name} must be a tensor, got {type(value).__name__}")


def _table_sizes(
    table: Tensor, pool_bias: Tensor | None, sizes: tuple[Size, Size] | None, q: Tensor, k_pool: Tensor
) -> list[int]:
    """Return [H, W, Hp, Wp], or [] without ``sizes``. Raises ValueError if the table does not have their offsets."""
    if pool_bias is not None:
        raise ValueError("pass pool_bias or pool_bias_table, not both: they hold the same bias")
    if sizes is None:
        size, pool = (q.shape[1], q.shape[2]), (k_pool.shape[1], k_pool.shape[2])
        beside = f"q of shape {tuple(q.shape)} and k_pool of shape {tuple(k_pool.shape)}"
    else:
        size, pool = sizes
        beside = f"table_sizes {sizes}"
        if min(*size, *pool) < 1:
            raise ValueError(f"table_sizes must be ((height, width), (pooled height, pooled width)), got {sizes}")
    axes = list(zip(table.shape[1:], size, pool))
    if table.ndim != 3 or table.shape[0] != q.shape[3] or not all(fits_axis(*axis) for axis in axes):
        shape = (q.shape[3], *map(offset_count, size, pool))
        raise ValueError(f"pool_bias_table must have shape {shape} beside {beside}, got {tuple(table.shape)}")
    return [] if sizes is None else [*size, *pool]


def _dense(call: tuple) -> tuple:
    """Drop the last entry of a normalised call, and expand a table to a dense bias."""
    arguments, sizes = list(call[:-1]), call[-1]  # PyTorch 2.11 traces ``*arguments`` as a tuple
    if sizes is not None:
        q, k_pool = arguments[0], arguments[3]
        arguments[POOL_BIAS] = dense_bias(arguments[POOL_BIAS], sizes, q.shape[1:3], k_pool.shape[1:3])
    return tuple(arguments)


def _either(dense: Callable, table: Callable) -> Callable:
    """Run the operator of a dense position bias or that of a table, which both take no dropout: it is always 0."""

    def run(*call):
        *arguments, _, sizes = call
        return dense(*arguments) if sizes is None else table(*arguments, sizes)

    return run


def _no_dropout(*call) -> str | None:
    return "attention dropout runs only on the reference" if call[-2] > 0 else None


def _kernels():
    from . import triton

    return triton


def _table_kernels():
    from .triton import table

    return table


def _triton() -> Implementation:
    dense, table = lazy_triton(FUSED, _kernels), lazy_triton(TABLE, _table_kernels)

    def unsupported(*call) -> str | None:
        return (dense if call[-1] is None else table).unsupported(*call)

    return Implementation(dense.name, dense.summary, _either(dense.run, table.run), unsupported)


OPERATOR = register(
    Operator(
        "aggregated_attention",
        _normalise,
        (
            standard(aggregated_attention_standard, _no_dropout),
            _triton(),
            Implementation(
                "cpu",
                "compiled kernels, one pass",
                _either(
                    FUSED.add("cpu", cpu.forward, cpu.backward),
                    TABLE.add("cpu", cpu.table_forward, cpu.table_backward),
                ),
                cpu.unsupported,
            ),
            Implementation(
                "torch",
                "shifted views, plain PyTorch, any device",
                _either(
                    FUSED.add("torch", torch_ops.forward, torch_ops.backward),
                    TABLE.add("torch", torch_ops.table_forward, torch_ops.table_backward),
                ),
                _no_dropout,
            ),
            Implementation(
                "reference",
                "unfold, plain PyTorch",
                lambda *call: aggregated_attention_reference(*_dense(call)),
                lambda *call: None,
            ),
        ),
    )
)
