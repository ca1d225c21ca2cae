"""Every Triton kernel compiles for its target GPUs, without a GPU: registers, shared memory, and no recompilation for
new image sizes."""

import importlib
import inspect
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

triton = pytest.importorskip("triton", reason="kernels need Triton to compile")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("the interpreter replaces the kernels", allow_module_level=True)

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from foveal.ops.aggregated_attention.triton.layout import Shape  # noqa: E402
from foveal.ops.aggregated_attention.triton.tiles import SIZES  # noqa: E402

OPS = "foveal.ops"
ATTENTION = f"{OPS}.aggregated_attention"
KERNELS = {
    "attention": (f"{ATTENTION}.triton.forward_pass", "forward_kernel"),
    "query gradients": (f"{ATTENTION}.triton.query_gradients", "query_gradients_kernel"),
    "key gradients": (f"{ATTENTION}.triton.key_gradients", "key_gradients_kernel"),
    "pool gradients": (f"{ATTENTION}.triton.pool_gradients", "pool_gradients_kernel"),
    "bias gradients": (f"{ATTENTION}.triton.pool_gradients", "bias_gradients_kernel"),
    "resized rows": (f"{ATTENTION}.triton.position_bias", "resize_rows_kernel"),
    "table columns": (f"{ATTENTION}.triton.table_gradients", "gather_columns_kernel"),
    "table rows": (f"{ATTENTION}.triton.table_gradients", "gather_rows_kernel"),
    "gate": (f"{OPS}.gated_dwconv.triton_kernels", "forward_kernel"),
    "gate gradients": (f"{OPS}.gated_dwconv.triton_kernels", "backward_kernel"),
    "depthwise": (f"{OPS}.triton.depthwise", "depthwise_kernel"),
    "weight gradient": (f"{OPS}.triton.depthwise", "weight_gradient_kernel"),
}
PAIRS = list(KERNELS)[:5]  # of a query and a key
WINDOWS = PAIRS[:3]
BIASED = [name for name in PAIRS if name != "key gradients"]
SHARED_MEMORY = {80: 163 * 1024, 90: 227 * 1024, 100: 227 * 1024}  # bytes per block, by architecture
# Parameters and their gradients, and other tensors that are float32 for any activation dtype.
FLOAT32 = "scale|embedding|local_bias|tokens|token_bias|pool_bias|weight|bias|lse|delta|grad_bias|table|.*shares"


def kernel(name: str):
    module, function = KERNELS[name]
    return getattr(importlib.import_module(module), function)


@dataclass(frozen=True)
class Build:
    """A kernel with the compile-time settings of a call."""

    name: str
    arch: int = 90
    dtype: str = "bf16"
    dim: int = 24
    window: int = 3
    bias: str = "keys"
    pooled: int = 49

    @property
    def id(self) -> str:
        return f"{self.name}, sm_{self.arch}, {self.dtype}, dim {self.dim}, window {self.window}, {self.bias}"

    def constants(self) -> tuple[dict, dict]:
        """Constants of the kernel, and options of the compiler."""
        size = 4 if self.dtype == "fp32" else 2
        shape = Shape(8, 14, 14, 3, self.dim, self.pooled, self.window)
        known = {
            **shape.constants(), **dict(ALIGN=16 // size, BIAS_FORM=self.bias, COLUMN_BLOCK=128),
            **dict(RESIZED=self.bias == "resized", CELLS=16, LANES=64),
            **dict(KERNEL=self.window, TAPS=8, PIXELS=64, CHANNELS=64, BIAS=True),
        }  # fmt: skip
        options = dict(num_warps=shape.warps(size) if self.name in WINDOWS else 4, num_stages=1)
        return {name: value for name, value in known.items() if name in kernel(self.name).arg_names}, options

    def compile(self):
        function = kernel(self.name)
        constants, options = self.constants()
        signature = {n: self.type_of(n) for n in function.arg_names} | dict.fromkeys(constants, "constexpr")
        pointers = [i for i, name in enumerate(function.arg_names) if name.endswith("_ptr")]
        aligned = {(i,): [["tt.divisibility", 16]] for i in pointers}
        source = ASTSource(function, signature, constexprs=constants, attrs=aligned)
        return triton.compile(source, target=GPUTarget("cuda", self.arch, 32), options=options)

    def type_of(self, argument: str) -> str:
        if not argument.endswith("_ptr"):
            return "i32"
        if re.fullmatch("(bias_keys|cells)_ptr", argument):
            return "*i32"
        parameter = re.fullmatch(f"(grad_)?({FLOAT32})_ptr", argument)
        return "*fp32" if parameter else f"*{self.dtype}"


BUILDS = [Build(name, arch) for name in KERNELS for arch in SHARED_MEMORY]
BUILDS += [Build(name, dtype=dtype) for name in KERNELS for dtype in ("fp16", "fp32")]
BUILDS += [Build(name, dim=dim) for name in PAIRS for dim in (32, 64)]
BUILDS += [Build(name, bias="queries") for name in BIASED]
BUILDS += [
    Build(name, bias=bias, window=window, pooled=pooled)
    for name in BIASED
    for bias in ("table", "resized")
    for window, pooled in ((3, 49), (3, 144), (0, 49), (0, 144))
]
BUILDS += [Build(name, arch, bias="resized") for name in ("table columns", "table rows") for arch in SHARED_MEMORY]
BUILDS += [Build(name, window=7) for name in (*WINDOWS, "depthwise", "weight gradient")]
BUILDS += [Build("attention", pooled=144), Build("query gradients", pooled=144)]


def local_memory(cubin: bytes, folder: Path) -> int | None:
    """Bytes of local memory per thread (register spills) according to cuobjdump; None if it is not installed."""
    tools = Path(inspect.getfile(triton)).parent / "backends" / "nvidia" / "bin"
    tool = shutil.which("cuobjdump", path=f"{tools}{os.pathsep}{os.environ.get('PATH', '')}")
    if tool is None:
        return None
    (folder / "kernel.cubin").write_bytes(cubin)
    usage = subprocess.run([tool, "-res-usage", folder / "kernel.cubin"], capture_output=True, text=True, check=True)
    return int(re.search(r"STACK:(\d+)", usage.stdout)[1])


@pytest.mark.parametrize("build", BUILDS, ids=lambda build: build.id)
def test_a_kernel_compiles_within_the_limits_of_its_architecture(build, tmp_path):
    compiled = build.compile()
    assert compiled.asm["cubin"][:4] == b"\x7fELF"
    assert compiled.metadata.shared <= SHARED_MEMORY[build.arch]
    spilled = local_memory(compiled.asm["cubin"], tmp_path)
    if spilled is not None and build.dtype != "fp32" and build.dim <= 32:
        assert spilled <= 1280


@pytest.mark.parametrize("name", KERNELS)
def test_values_that_depend_on_the_image_are_not_specialised(name):
    numbers = [p for p in kernel(name).params if not p.is_constexpr and not p.name.endswith("_ptr")]
    assert len(numbers) > 5
    assert [p.name for p in numbers if not p.do_not_specialize] == []


def test_tensor_cores_compute_half_precision_products():
    assert "mma.sync" in Build("attention").compile().asm["ptx"]
    assert "tf32" not in Build("attention", dtype="fp32").compile().asm["ptx"]


def test_maps_are_loaded_16_bytes_at_a_time():
    ptx = Build("attention").compile().asm["ptx"]
    assert re.search(r"ld\.global\.v4\.b32", ptx)
    assert set(SIZES) >= {"q_pixel", "height", "pooled"}
