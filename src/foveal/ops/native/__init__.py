"""The compiled CPU kernels: C++ in this folder, built with the package, loaded here through ctypes.

The library is plain C at its border: it is given pointers and PyTorch's own parallel loop, so it is built without
PyTorch and serves every release of it.
"""

from __future__ import annotations

import ctypes
import functools
import sysconfig
from pathlib import Path

import torch

_NAME = "_kernels"
_REBUILD = (
    "run `make native` in a clone, else "
    "`pip install --force-reinstall --no-deps --no-cache-dir --no-binary foveal foveal`"
)

# Multiply-adds below which a thread is not worth waking: some tens of microseconds.
WORK_A_THREAD = 1_000_000


class Unavailable(RuntimeError):
    """The compiled kernels cannot be used here; the text says why."""


def _load() -> tuple[ctypes.CDLL, ctypes.c_void_p]:
    folder = Path(__file__).parent
    files = sorted(f for f in folder.glob(f"{_NAME}*") if f.suffix in (".so", ".pyd", ".dylib"))
    ours = [f for f in files if f.name == _NAME + str(sysconfig.get_config_var("EXT_SUFFIX"))]
    files = ours or files
    if not files:
        raise Unavailable(
            "the compiled kernels were not built when foveal was installed, for want of a C++ compiler or because it "
            f"failed; with one, {_REBUILD}"
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


# Opened at import: while torch.compile traces a call, nothing but a plain global can be asked.
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
    """The instruction set in use: "avx512", "avx2" or "baseline", the best that the processor has. With a name it is
    changed first, for the whole process and unguarded: for tests and measurements, while no other thread computes.
    Raises ValueError where the processor lacks it, and Unavailable without kernels."""
    if _library is None:
        raise Unavailable(_reason)
    function = _library.foveal_instruction_set
    function.argtypes, function.restype = [ctypes.c_char_p], ctypes.c_char_p
    answer = function(name.encode() if name else None)
    if answer is None:
        raise ValueError(f"this processor cannot run the {name!r} kernels")
    return answer.decode()


def tile() -> int:
    """How many queries attention takes together, in the instruction set in use. Raises Unavailable without kernels."""
    if _library is None:
        raise Unavailable(_reason)
    function = _library.foveal_tile
    function.argtypes, function.restype = [], ctypes.c_int64
    return function()


def threads_for(work: int) -> int:
    """How many of PyTorch's threads a call of `work` multiply-adds is shared among."""
    return max(1, min(torch.get_num_threads(), work // WORK_A_THREAD))


class Kernel:
    """One compiled operator, called with `structure`, which has a field `workspace`."""

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
        """Run on PyTorch's threads; the tensors behind the pointers must stay alive until this returns."""
        run, workspace = self._functions
        address = ctypes.addressof(call)
        memory = torch.empty(workspace(address) + 16, dtype=torch.float32, device="cpu")
        call.workspace = (memory.data_ptr() + 63) // 64 * 64
        run(address, _parallel)
