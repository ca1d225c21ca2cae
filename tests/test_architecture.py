"""The architecture of DESIGN.md: imports between packages, third-party libraries, and file sizes."""

import ast
import re
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "foveal"
FILES = sorted(SOURCE.rglob("*.py"))
ALL_MAY_KNOW = {
    *(
        "errors",
        "files",
        "image_files",
        "listed_model",
        "near",
        "options",
        "pixels",
        "plotting",
        "types",
        "version",
        "wording",
    ),
}
KNOWN_TO_THESE = {"plotting": {"errors", "files"}, "image_files": {"errors", "pixels"}}  # the others know errors alone

# Allowed imports by path besides torch and the standard library; the longest matching path applies.
OUTSIDE = {
    "": {"timm"},
    "ops": set(),
    "ops/triton": {"triton"},
    "models": {"timm", "safetensors"},
    "models/weights_file.py": {"safetensors", "numpy"},
    "models/fetching.py": {"huggingface_hub"},
    "training": {"timm", "accelerate", "numpy"},
    "training/progress.py": {"rich"},
    "training/device_batch.py": {"psutil"},
    "tasks": {"timm", "numpy", "PIL", "torchvision"},
    "tasks/dense/shapes": {"skimage", "numpy", "PIL", "torchvision"},
    "tasks/video.py": {"av", "PIL"},
    "tasks/detection": {"timm", "numpy", "PIL", "torchvision", "faster_coco_eval"},
    "tasks/detection/data/yolo_layout.py": {"yaml"},
    "tasks/segmentation/upernet.py": {"transformers"},
    "tasks/detection/dino": {"torchvision", "transformers", "scipy"},
    "tasks/segmentation/mask2former": {"transformers", "scipy"},
    "tasks/classification/digits.py": {"sklearn", "numpy", "PIL"},
    "tasks/classification/corruption_library.py": {"imagecorruptions", "numpy"},
    "tasks/classification/data/hub.py": {"datasets", "PIL"},
    "tasks/classification/data/imagenet.py": {"scipy"},
    "tasks/classification/data/shards.py": {"braceexpand"},
    "tasks/classification/data/shard_images.py": {"webdataset", "numpy", "PIL"},
    "ablation": set(),
    "ablation/statistics.py": {"scipy"},
    "integrations/transformers": {"timm", "transformers"},
    "export": {"numpy", "onnx_ir", "onnxscript", "openvino"},
    "export/int8": {"numpy", "onnx", "onnx_ir", "onnxruntime", "openvino"},
    "explain": {"numpy", "PIL"},
    "app": {"timm", "numpy", "PIL"},
    "app/server.py": {"starlette", "PIL"},
    "app/reading.py": {"starlette"},
    "app/answering.py": {"starlette", "numpy"},
    "app/serve.py": {"uvicorn"},
    "pixels.py": {"numpy", "PIL"},
    "image_files.py": {"PIL"},
    "plotting.py": {"matplotlib"},
    "runtime": {"numpy", "PIL"},
    "runtime/onnx_runtime.py": {"numpy", "onnxruntime"},
    "runtime/openvino_runtime.py": {"numpy", "openvino"},
    "explain/figures": {"matplotlib", "numpy", "PIL"},
    "bench": {"timm"},
    "bench/plot.py": {"matplotlib"},
    "bench/plot_accuracy.py": {"matplotlib"},
    "bench/tables.py": {"rich"},
    "report": {"matplotlib", "numpy", "PIL", "torchvision"},
    "report/page_attention.py": {"sklearn", "numpy", "PIL", "torchvision"},
    "cli": {"tyro", "docstring_parser", "rich", "numpy", "PIL"},
    "cli/app.py": {"foveal_commands"},
    "cli/run_file.py": {"tomllib", "tomli"},  # the standard library has it from Python 3.11 on
    "cli/help.py": {"foveal_commands"},
    "__init__.py": {"foveal_commands"},
}
OPTIONAL = {
    *("accelerate", "av", "braceexpand", "datasets", "faster_coco_eval", "imagecorruptions", "matplotlib", "onnx"),
    *("onnx_ir", "onnxruntime"),
    *("onnxscript", "openvino", "scipy", "skimage", "sklearn", "starlette", "tensorboard", "transformers", "triton"),
    *("psutil", "uvicorn", "webdataset", "yaml"),
}

# Files that import an optional package on import, and modules that others must therefore not import on import.
ASKED_FOR_LATE = {
    r"export/(onnx_(file|operators)|openvino_file)\.py": r"\.(onnx_(file|operators)|openvino_file)(\.|$)",
    r"ops/([^/]+/)?triton(/|_kernels\.py)": r"\.triton(_kernels)?(\.|$)",
    r"tasks/detection/dino/(?!__init__)": r"\.detection\.dino\.",
    r"app/(server|reading|answering)\.py": r"\.app\.(server|reading|answering)(\.|$)",
    r"integrations/transformers/": r"\.integrations\.transformers(\.|$)",
    r"tasks/segmentation/mask2former/(?!__init__)": r"\.segmentation\.mask2former\.",
}


@dataclass(frozen=True)
class Import:
    """Full name of a `module`, e.g. "foveal.ops.backend", and whether it is imported when its file is."""

    module: str
    line: int
    at_import: bool

    @property
    def package(self) -> str:
        return self.module.partition(".")[0]


def place(file: Path) -> str:
    return file.relative_to(SOURCE).as_posix()


def room(file: Path) -> str:
    """The folder below src/foveal, or the name of a top-level file."""
    return place(file).partition("/")[0].removesuffix(".py")


def _runs_later(node: ast.AST) -> bool:
    """Whether the body only runs when called, or only for type checkers."""
    if isinstance(node, ast.If):
        return ast.unparse(node.test).endswith("TYPE_CHECKING")
    return isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)


@cache
def imports(file: Path) -> tuple[Import, ...]:
    tree = ast.parse(file.read_text())
    deferred = {id(inner) for node in ast.walk(tree) if _runs_later(node) for inner in ast.walk(node)}
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ["foveal", *file.relative_to(SOURCE).parts[:-1]][: None if node.level <= 1 else 1 - node.level]
            module = ".".join([*(base if node.level else []), *([node.module] if node.module else [])])
            modules = [f"{module}.{alias.name}" for alias in node.names]
        else:
            continue
        found += [Import(module, node.lineno, id(node) not in deferred) for module in modules]
    return tuple(found)


@cache
def floors() -> dict[str, int]:
    """The package order of DESIGN.md, from the bottom: a package may import those on lower floors."""
    line = re.search(r"`(\w+(?:, \w+)*(?: -> \w+(?:, \w+)*)+ -> torch)`", (ROOT / "DESIGN.md").read_text())[1]
    storeys = [names.split(", ") for names in reversed(line.split(" -> "))]
    return {name: floor for floor, names in enumerate(storeys) for name in names}


def test_the_design_names_every_package():
    rooms = {path.name for path in SOURCE.iterdir() if path.is_dir() and any(path.rglob("*.py"))}
    assert rooms == set(floors()) - {"torch"}


@pytest.mark.parametrize("file", FILES, ids=place)
def test_imports_between_packages_go_one_way(file):
    here = room(file)
    if here == "__init__":
        allowed = {"ops", "models", *ALL_MAY_KNOW}
    elif here in ALL_MAY_KNOW:
        allowed = KNOWN_TO_THESE.get(here, {"errors"} - {here})
    else:
        assert here in floors(), "DESIGN.md does not say on which floor this room is"
        allowed = {here, *ALL_MAY_KNOW, *(name for name, floor in floors().items() if floor < floors()[here])}
    for found in imports(file):
        if found.package != "foveal":
            continue
        target = [*found.module.split("."), "", ""][1]
        if target in {path.stem for path in SOURCE.iterdir()}:
            assert target in allowed, f"line {found.line}: {here} may not know {target}"
        else:  # a name of the package itself, which imports ops and models
            assert "models" in allowed, f"line {found.line}: {here} may not know the package that it is a part of"


@pytest.mark.parametrize("file", FILES, ids=place)
def test_third_party_libraries_are_imported_only_where_allowed(file):
    matching = [p for p in OUTSIDE if not p or Path(place(file)).match(f"{p}/*") or file.is_relative_to(SOURCE / p)]
    matching += [p for p in OUTSIDE if re.match(p.replace("*", "[^/]+") + "/", place(file))]
    allowed = OUTSIDE[max(matching, key=len)] | {"torch", "foveal", *sys.stdlib_module_names}
    assert {f"{i.package} (line {i.line})" for i in imports(file) if i.package not in allowed} == set()


@pytest.mark.parametrize("file", FILES, ids=place)
def test_optional_packages_are_imported_lazily(file):
    if any(re.match(files, place(file)) for files in ASKED_FOR_LATE):
        return  # these files need the package; imports of these files are tested below
    assert {i.package for i in imports(file) if i.at_import} & OPTIONAL == set()


@pytest.mark.parametrize(("files", "modules"), ASKED_FOR_LATE.items())
def test_modules_that_need_optional_packages_are_imported_lazily(files, modules):
    """No other file imports one of them when it is imported itself."""
    for file in FILES:
        if not re.match(files, place(file)):
            assert [i.module for i in imports(file) if i.at_import and re.search(modules, i.module)] == [], place(file)


@pytest.mark.parametrize("file", FILES, ids=place)
def test_a_file_has_at_most_600_lines(file):
    assert len(file.read_text().splitlines()) <= 600


@pytest.mark.parametrize("file", FILES, ids=place)
def test_modules_and_their_public_names_have_docstrings(file):
    tree = ast.parse(file.read_text())
    kinds = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
    public = [node for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
    assert [node.name for node in public if not ast.get_docstring(node)] == []
    assert ast.get_docstring(tree) or file.name == "__main__.py"


@pytest.mark.parametrize("file", FILES, ids=place)
def test_broad_exception_handlers_reraise(file):
    """`except Exception` hides errors unless it raises them again."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ExceptHandler) and ast.unparse(node.body[-1]) != "raise":
            caught = ast.unparse(node.type) if node.type else "everything"
            assert caught not in ("everything", "Exception", "BaseException"), f"line {node.lineno}"


def test_every_test_file_has_a_name_of_its_own():
    """Pytest imports test files by their names: of two with the same name it collects one."""
    names = [path.name for path in (ROOT / "tests").rglob("test_*.py")]
    assert sorted({name for name in names if names.count(name) > 1}) == []
