"""The compiled CPU kernels: C++ in this folder, built with the package, loaded here through ctypes.

The library's interface is plain C: it is given pointers and PyTorch's own parallel loop, so it is built without PyTorch
and serves every release of it.
"""

from __future__ import annotations

import ctypes
import functools
import sysconfig
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

_NAME = "_kernels"
_REBUILD = (
    "run `make native` in a clone, else "
    "`pip install --force-reinstall --no-deps --no-cache-dir --no-binary foveal foveal`"
)

# Multiply-adds below which a thread is not worth waking: some tens of microseconds.
WORK_PER_THREAD = 1_000_000


class Unavailable(RuntimeError):
    """The compiled kernels cannot be used here; the message gives the reason."""


def _load() -> tuple[ctypes.CDLL, ctypes.c_void_p]:
    folder = Path(__file__).parent
    files = sorted(f for f in folder.glob(f"{_NAME}*") if f.suffix in (".so", ".pyd", ".dylib"))
    ours = [f for f in files if f.name == _NAME + str(sysconfig.get_config_var("EXT_SUFFIX"))]
    files = ours or files
    if not files:
        raise Unavailable(
            "the compiled kernels were not built when foveal was installed: there was no C++ compiler, or it failed; "
            f"with one, {_REBUILD}"
        )
    try:
        library = ctypes.CDLL(str(files[0]))
    except OSError as error:
        raise Unavailable(f"the compiled kernels cannot be loaded: {error}") from error
    return library, _parallel_for()


def _parallel_for() -> ctypes.c_void_p:
    """PyTorch's parallel loop over its own threads, in its stable C interface."""
    for file in sorted((Path(torch.__file__).parent / "lib").glob("libtorch_cpu.*")):
        try:
            return ctypes.cast(ctypes.CDLL(str(file)).torch_parallel_for, ctypes.c_void_p)
        except (OSError, AttributeError):
            continue
    raise Unavailable("this PyTorch does not offer its parallel loop to compiled kernels (torch_parallel_for)")


# Loaded at import: while torch.compile traces a call, only plain globals can be read.
_library: ctypes.CDLL | None = None
_parallel: ctypes.c_void_p | None = None
_reason: str | None = None
try:
    _library, _parallel = _load()
except Unavailable as error:
    _reason = str(error)


def why_unavailable() -> str | None:
    """Why the kernels cannot be used here, or None."""
    return _reason


def instruction_set(name: str | None = None) -> str:
    """Return the instruction set in use: "avx512", "avx2" or "baseline", by default the best that the processor has.

    With a name it is changed first, for the whole process and without locking: for tests and measurements, while no
    other thread computes. Raises ValueError if the processor lacks it, and Unavailable without kernels.
    """
    if _library is None:
        raise Unavailable(_reason)
    function = _library.foveal_instruction_set
    function.argtypes, function.restype = [ctypes.c_char_p], ctypes.c_char_p
    answer = function(name.encode() if name else None)
    if answer is None:
        raise ValueError(f"this processor cannot run the {name!r} kernels")
    return answer.decode()


def tile() -> int:
    """Return how many queries attention processes together in the instruction set in use. Raises Unavailable without
    kernels."""
    if _library is None:
        raise Unavailable(_reason)
    function = _library.foveal_tile
    function.argtypes, function.restype = [], ctypes.c_int64
    return function()


def threads_for(work: int) -> int:
    """Return how many of PyTorch's threads share a call of ``work`` multiply-adds."""
    return max(1, min(torch.get_num_threads(), work // WORK_PER_THREAD))


class Kernel:
    """One compiled operator, called with ``structure``, which has a field ``workspace``."""

    def __init__(self, name: str, structure: type[ctypes.Structure]):
        global _reason
        self.name = name
        if _library is not None and not self._built_for(structure):
            _reason = f"the compiled kernels are older or newer than this Python code: {_REBUILD}"

    def _built_for(self, structure: type[ctypes.Structure]) -> bool:
        size = getattr(_library, f"foveal_{self.name}_size", None)
        if size is None or not hasattr(_library, "foveal_tile"):
            return False
        size.argtypes, size.restype = [], ctypes.c_int64
        return size() == ctypes.sizeof(structure)

    @functools.cached_property
    def _functions(self):
        run = getattr(_library, f"foveal_{self.name}")
        run.argtypes, run.restype = [ctypes.c_void_p, ctypes.c_void_p], None
        workspace = getattr(_library, f"foveal_{self.name}_workspace")
        workspace.argtypes, workspace.restype = [ctypes.c_void_p], ctypes.c_int64
        return run, workspace

    def __call__(self, call: ctypes.Structure) -> None:
        """Run on PyTorch's threads; the tensors that the pointers refer to must stay alive until this returns."""
        run, workspace = self._functions
        address = ctypes.addressof(call)
        memory = torch.empty(workspace(address) + 16, dtype=torch.float32, device="cpu")
        call.workspace = (memory.data_ptr() + 63) // 64 * 64
        run(address, _parallel)


class Map(ctypes.Structure):
    """``Map`` of native.h."""

    _fields_ = [("data", ctypes.c_void_p)] + [(n, ctypes.c_int64) for n in ("batch", "row", "column", "head")]


def map_of(x: Tensor) -> Map:
    """Describe a map (B, H, W, h, d) or (B, H, W, C), whose last dimension must be contiguous."""
    return Map(x.data_ptr(), *x.stride()[:-1])


def side_by_side(x: Tensor) -> Tensor:
    """Return x with its last dimension contiguous."""
    return x if x.stride(-1) == 1 or x.shape[-1] == 1 else x.contiguous()


def contiguous_float(x: Tensor) -> Tensor:
    """Return x in float32, contiguous."""
    return x if x.dtype is torch.float32 and x.is_contiguous() else x.float().contiguous()


def unsupported_maps(parameters: Iterable[Tensor], /, **maps: Tensor) -> str | None:
    """Why the compiled kernels cannot take these activations, or None: a device, a dtype, or missing kernels.

    Parameters may have any dtype: they are converted.
    """
    tensors = maps.values()
    devices = {t.device.type for t in (*tensors, *parameters)} - {"cpu"}
    if devices:
        return f"tensors on {devices.pop()}"
    dtypes = {t.dtype for t in tensors}
    if dtypes not in ({torch.float32}, {torch.bfloat16}):
        found = ", ".join(sorted(str(d).removeprefix("torch.") for d in dtypes))
        *names, last = maps
        if not names:
            return f"{last} must be float32 or bfloat16, not {found}"
        return f"{', '.join(names)} and {last} must all be float32 or all bfloat16, not {found}"
    return why_unavailable()
