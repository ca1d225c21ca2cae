"""Operator calls over all supported shapes."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

import foveal
from foveal.ops import use_backend

Tensors = dict[str, Tensor]
Size = tuple[int, int]


@dataclass(frozen=True)
class Call:
    """An operator call: operator, map size and other shape settings. ``tensors`` generates the arguments."""

    operator: str
    batch: int = 2
    height: int = 5
    width: int = 7
    heads: int = 2
    dim: int = 5
    pool: tuple[int, int] = (2, 3)
    window: int = 3
    table: bool = False  # the position bias as a table of offsets
    reference: tuple[Size, Size] | None = None  # sizes of another map and pooled map that the table belongs to
    # Activations are views into wider memory at an odd offset: slices, as of a fused linear layer's output (1), or
    # every other element (2).
    strided: int = 0
    options: dict[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        parts = [self.operator, f"{self.batch}x{self.height}x{self.width}", f"heads {self.heads}x{self.dim}"]
        if self.operator == "aggregated_attention":
            parts.append("pool {}x{}".format(*self.pool))
        parts += [
            f"window {self.window}",
            "table" if self.table else "",
            "of {}x{} and {}x{}".format(*self.reference[0], *self.reference[1]) if self.reference else "",
            ("", "sliced", "strided")[self.strided],
            *map(str, self.options.items()),
        ]
        return ", ".join(part for part in parts if part)

    @property
    def reduction(self) -> int:
        """Terms of the longest sum in an output or a gradient."""
        window = max(self.window, 5) if self.operator == "multiscale_dwconv" else self.window
        return max(self.batch * self.height * self.width, 1) * (window**2 + self.pool[0] * self.pool[1])

    def tensors(
        self, dtype: torch.dtype = torch.float64, parameters: torch.dtype | None = None, device: str = "cpu"
    ) -> Tensors:
        """Random arguments by name, generated in float64 so that every dtype gets the same values."""
        generator = torch.Generator().manual_seed(0)

        def draw(*shape: int, spread: float = 1.0) -> Tensor:
            return spread * torch.randn(shape, generator=generator, dtype=torch.float64)

        activations, others = getattr(self, f"_{self.operator}")(draw)
        activations = {name: t.to(device, dtype) for name, t in activations.items()}
        if self.strided:
            activations = {name: _embedded(t, self.strided) for name, t in activations.items()}
        return {**activations, **{name: t.to(device, parameters or dtype) for name, t in others.items()}}

    def _aggregated_attention(self, draw) -> tuple[Tensors, Tensors]:
        shape = (self.batch, self.height, self.width, self.heads, self.dim)
        pooled = (self.batch, *self.pool, self.heads, self.dim)
        area, keys = self.window**2, self.pool[0] * self.pool[1]
        bias = dict(pool_bias=(self.height * self.width, keys))
        if self.table:
            sizes = self.reference or ((self.height, self.width), self.pool)
            bias = dict(pool_bias_table=tuple(map(offset_count, *sizes)))
        maps = ("q", "k", "v") if self.window else ("q",)
        activations = {name: draw(*shape) for name in maps} | dict(k_pool=draw(*pooled), v_pool=draw(*pooled))
        return activations, dict(
            scale=draw(self.heads).abs() + 1,
            query_embedding=draw(self.heads, self.dim, spread=0.3),
            local_bias=draw(self.heads, area, spread=0.5),
            **{name: draw(self.heads, *shape, spread=0.5) for name, shape in bias.items()},
            tokens=draw(self.heads, self.dim, area, spread=0.3),
            token_bias=draw(self.heads, area, spread=0.3),
        )

    def _gated_dwconv(self, draw) -> tuple[Tensors, Tensors]:
        channels = self.heads * self.dim
        shape = (self.batch, self.height, self.width, channels)
        weight = draw(channels, 1, self.window, self.window, spread=1 / self.window)
        return dict(g=draw(*shape), v=draw(*shape)), dict(weight=weight, bias=draw(channels))

    def _multiscale_dwconv(self, draw) -> tuple[Tensors, Tensors]:
        """Three groups of channels if there are enough channels, else one."""
        channels = self.heads * self.dim
        third = channels // 3
        groups = ((channels - 2 * third, self.window), (third, 1), (third, 5)) if third else ((channels, self.window),)
        weights = {f"weights.{i}": draw(n, 1, k, k, spread=1 / k) for i, (n, k) in enumerate(groups)}
        biases = {f"biases.{i}": draw(n) for i, (n, _) in enumerate(groups)}
        return dict(x=draw(self.batch, self.height, self.width, channels)), {**weights, **biases}

    def _dynamic_dwconv(self, draw) -> tuple[Tensors, Tensors]:
        channels = self.heads * self.dim
        weight = draw(self.batch, channels, self.window, self.window, spread=1 / self.window)
        x = draw(self.batch, self.height, self.width, channels)
        return dict(x=x), dict(weight=weight, bias=draw(self.batch, channels))

    def arguments(self, tensors: dict[str, Any]) -> dict[str, Any]:
        """The operator's arguments: tensors "name.0", "name.1", ... are combined into a list; options are added."""
        together: dict[str, Any] = {}
        for name, tensor in tensors.items():
            stem, _, number = name.partition(".")
            if number:
                together.setdefault(stem, []).append(tensor)
            else:
                together[name] = tensor
        attention: dict[str, Any] = {}
        if self.operator == "aggregated_attention":
            attention = dict(window=self.window) | ({} if self.window else dict(k=None, v=None))
            attention |= dict(table_sizes=self.reference) if self.reference else {}
        return {**together, **attention, **self.options}

    def run(self, tensors: Tensors, backend: str | None = None) -> Tensor:
        """Output of the operator."""
        with use_backend(backend):
            return getattr(foveal.ops, self.operator)(**self.arguments(tensors))

    def run_with_gradients(self, tensors: Tensors, backend: str | None = None, form=None) -> Tensors:
        """The output and its gradients for a fixed weighting, by argument; ``form`` replaces the operator."""
        leaves = {name: t.detach().requires_grad_() for name, t in tensors.items()}
        out = form(**self.arguments(leaves)) if form else self.run(leaves, backend)
        generator = torch.Generator().manual_seed(1)
        # Multiples of 1/8, so that every dtype gets the same weighting.
        weighting = (torch.randint(-16, 17, out.shape, generator=generator) / 8).to(out.device, out.dtype)
        gradients = torch.autograd.grad(out, list(leaves.values()), weighting)
        return {"output": out.detach(), **dict(zip(leaves, gradients, strict=True))}


def offset_count(size: int, pool: int) -> int:
    """Number of offsets along one axis: one per pixel if the pool divides the size, else one per half pixel."""
    return 2 * size - size // pool if size % pool == 0 else 4 * size - 3


def _embedded(t: Tensor, step: int) -> Tensor:
    """The same values with stride `step` in a wider row that is otherwise NaN."""
    wide = t.new_full((*t.shape[:-1], step * t.shape[-1] + 3), torch.nan)
    view = wide[..., 1 : step * t.shape[-1] + 1 : step]
    view.copy_(t)
    return view


OPERATORS = ("aggregated_attention", "gated_dwconv", "dynamic_dwconv", "multiscale_dwconv")
MAPS = ((1, 1), (1, 5), (7, 1), (2, 3), (5, 7), (13, 11), (8, 8), (4, 17))
# Maps and pools for tables of offsets: pools that divide two, one or no sides; one pixel; sides wider than a vector.
TABLES = (
    (8, 12, (2, 3)), (8, 7, (4, 3)), (7, 8, (3, 4)), (7, 5, (3, 2)), (1, 1, (1, 1)), (1, 9, (1, 4)), (13, 1, (5, 1)),
    (5, 5, (4, 4)), (6, 6, (6, 6)), (4, 40, (2, 5)), (3, 37, (2, 7)),
)  # fmt: skip
# The same for tables of another map, which are resized: map, pool, and the map and pool that the table belongs to.
# Larger and smaller, on both axes or one, a pool that stays, one pixel, vectors that read one or all of its pixels.
RESIZED = (
    ((9, 12), (3, 4), (6, 8), (2, 4)), ((6, 8), (2, 4), (9, 12), (3, 4)), ((8, 20), (2, 5), (8, 8), (2, 2)),
    ((5, 7), (2, 3), (4, 6), (2, 3)), ((4, 50), (2, 3), (7, 7), (3, 3)), ((3, 3), (1, 1), (12, 30), (3, 8)),
    ((7, 5), (3, 2), (1, 1), (1, 1)), ((1, 1), (1, 1), (5, 7), (2, 3)), ((3, 17), (3, 17), (4, 9), (4, 9)),
)  # fmt: skip
WINDOWS = (1, 3, 5, 7, 9)


def small_calls() -> list[Call]:
    """One call per operator, small enough for numerical derivatives and for loops."""
    return [Call(o, batch=2, height=3, width=4, heads=2, dim=2, pool=(1, 2)) for o in OPERATORS]


def all_calls() -> list[Call]:
    """Every operator with every map and window size, followed by options of individual operators."""
    calls = [
        Call(o, height=h, width=w, window=k, pool=(max(h // 3, 1), max(w // 2, 1)), strided=(h + w + k) % 3)
        for o in OPERATORS
        for h, w in MAPS
        for k in WINDOWS
    ]
    attention = Call("aggregated_attention")
    calls += [replace(attention, heads=h, dim=d) for h, d in ((1, 1), (3, 24), (1, 24), (5, 1))]
    calls += [replace(attention, pool=pool) for pool in ((1, 1), (1, 6), (4, 1), (5, 7))]
    calls += [replace(attention, options=dict(length=length)) for length in (1, 49)]
    calls += [
        replace(attention, table=True, height=h, width=w, window=k, pool=pool, dim=d, strided=k == 5)
        for h, w, pool in TABLES
        for k, d in ((3, 24), (5, 32))
    ]
    calls += [
        replace(attention, table=True, height=h, width=w, pool=pool, reference=tuple(reference), dim=24)
        for (h, w), pool, *reference in RESIZED
    ]
    calls += [
        replace(attention, window=0, height=h, width=w, pool=(h, w), dim=d, table=table)
        for h, w, d, table in ((1, 1, 5, False), (5, 7, 24, True), (3, 17, 8, False), (4, 33, 5, True))
    ]
    scales = Call("multiscale_dwconv", height=9, width=10, window=7)
    calls += [replace(scales, options=dict(identity=i, gelu=g)) for i in (False, True) for g in (False, True)]
    calls += [
        replace(Call(o, height=6, width=9), heads=h, dim=d, options=options)
        for o, options in (("gated_dwconv", {}), ("dynamic_dwconv", {}), ("multiscale_dwconv", dict(gelu=True)))
        for h, d in ((1, 1), (1, 16), (1, 24), (3, 25), (5, 32))  # vector lanes: fewer, all, more, many more
    ]
    return calls + [replace(Call(o), batch=0, strided=strided) for o in OPERATORS for strided in range(3)]
