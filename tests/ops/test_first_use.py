"""No Triton kernel is trusted unseen: its first use is a trial, the verdict is kept, and a wrong kernel never runs."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

import foveal.ops
import foveal.ops.triton  # before the tests pretend that there is an interpreter, which it would use
import foveal.version
from foveal.ops import BackendError, backend, explain, use_backend, verdicts
from foveal.ops.deviation import Deviation
from support.fake_kernels import TRIALS, Fake, arguments, fake_operator, write_kernels

triton = pytest.importorskip("triton", reason="kernels need Triton")
WRONG = {
    "output": (dict(forward="1.01 * x * weight"), "the output"),
    "gradient of x": (dict(backward="(1.01 * grad * weight, (grad * x).sum((0, 1, 2)))"), "the gradient of x"),
    "gradient of weight": (dict(backward="(grad * weight, (grad * x)[1:].sum((0, 1, 2)))"), "the gradient of weight"),
    "not a number": (dict(forward="(x * weight).index_fill(0, torch.tensor([0]), torch.nan)"), "off by inf"),
    "dtype": (dict(forward="(x * weight).double()"), "off by inf"),
    "shape": (dict(backward="(grad * weight, (grad * x)[0, 0])"), "off by inf"),
    "memory beside a slice": (
        dict(forward="x.as_strided(x.shape, torch.empty(x.shape).stride()) * weight"),
        "the output",
    ),
}
DOES_NOT_COMPILE = dict(forward="fail(triton.TritonError('at 3:7: no such layout'))")
WARNED = pytest.mark.filterwarnings("ignore:foveal.ops.fake:RuntimeWarning")


@pytest.fixture(autouse=True)
def first_use_on_a_cpu(tmp_path, monkeypatch):
    """Let kernels run on a CPU, and be tried there, with an empty cache."""
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    monkeypatch.setenv("FOVEAL_CHECK_KERNELS", "1")
    monkeypatch.setenv("FOVEAL_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def make(tmp_path, monkeypatch):
    """Create an operator from the code of its kernels, and make it known to ``explain`` during the test."""

    def make(name: str = "", **code: str) -> Fake:
        fake = fake_operator(write_kernels(tmp_path / "kernels.py", **code), name)
        monkeypatch.setitem(backend._operators, fake.name, fake.operator)
        return fake

    return make


def start_anew(fake: Fake, monkeypatch):
    """Forget what this process knows, as if another one had started."""
    monkeypatch.setattr(verdicts, "_known", {})
    monkeypatch.setattr(verdicts, "_warned", set())
    verdicts._digest.cache_clear()
    fake.kernels.calls.clear()


def files() -> list[Path]:
    return sorted(Path(os.environ["FOVEAL_CACHE"], "kernels").glob("*"))


def chosen(fake: Fake, *call) -> str:
    return explain(fake.name, *(call or arguments())).chosen


def test_the_first_call_tries_the_kernels_and_later_calls_do_nothing(make):
    fake, (x, weight) = make(), arguments()
    assert torch.equal(fake(x, weight), x * weight)
    assert fake.kernels.calls == [*TRIALS, "forward"]
    for _ in range(5):
        fake(x, weight)
        assert chosen(fake) == "triton"
    assert fake.kernels.calls == [*TRIALS, *["forward"] * 6]


@WARNED
@pytest.mark.parametrize("wrong", WRONG)
def test_wrong_numbers_never_reach_the_caller(make, wrong):
    code, what = WRONG[wrong]
    fake, (x, weight) = make(**code), arguments()
    assert torch.equal(fake(x, weight), x * weight)
    explanation = explain(fake.name, x, weight)
    assert explanation.chosen == "torch"
    assert what in explanation.reasons["triton"]
    assert "not taken: on a small input it is off by " in str(explanation)


@WARNED
def test_kernels_that_do_not_compile_are_left_out_with_the_compilers_message(make):
    fake, (x, weight) = make(**DOES_NOT_COMPILE), arguments()
    assert torch.equal(fake(x, weight), x * weight)
    assert "on a small input it raises TritonError: at 3:7: no such layout" in str(explain(fake.name, x, weight))


def test_the_backend_asked_for_raises_the_reason_instead_of_warning(make):
    fake, (x, weight) = make(**WRONG["gradient of x"][0]), arguments()
    reason = r"cannot run on backend 'triton': on a small input it is off .* of x"
    with warnings.catch_warnings(record=True) as seen, use_backend("triton"):
        warnings.simplefilter("always")
        with pytest.raises(BackendError, match=reason):
            fake(x, weight)
    assert seen == []
    with pytest.warns(RuntimeWarning):  # now that it is left out
        fake(x, weight)


def test_a_wrong_kernel_warns_once_and_says_how_to_report_it(make):
    fake, call = make(**WRONG["output"][0]), arguments()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        for _ in range(3):
            fake(*call)
            chosen(fake)
    (one,) = seen
    assert one.category is RuntimeWarning
    text = str(one.message)
    assert text.startswith(f"foveal.ops.{fake.name} does not use its Triton kernels for float32 on ")
    assert explain(fake.name, *call).reasons["triton"] in text
    assert "python benchmarks/gpu_pass.py" in text
    assert "FOVEAL_CHECK_KERNELS=0" in text


@WARNED
def test_a_verdict_is_about_one_dtype(make):
    fake = make(forward="x * weight if x.dtype is torch.float32 else 1.05 * x * weight")
    assert chosen(fake, *arguments(torch.float32)) == "triton"
    assert chosen(fake, *arguments(torch.bfloat16)) == "torch"
    assert chosen(fake, *arguments(torch.float16)) == "torch"


def test_half_types_may_round_but_no_more(make):
    fake = make(forward="(x.float() * weight.float() * (1 + 2**-8)).to(x.dtype)")
    assert chosen(fake, *arguments(torch.bfloat16)) == "triton"
    with pytest.warns(RuntimeWarning):
        assert chosen(fake, *arguments(torch.float16)) == "torch"


def test_float32_maps_with_half_parameters_may_round_their_gradients(make):
    (x, _), (_, weight) = arguments(torch.float32), arguments(torch.bfloat16)
    fake = make(backward="(grad * weight, (grad * x).sum((0, 1, 2)).to(weight.dtype))")
    assert chosen(fake, x, weight) == "triton"


@WARNED
def test_a_verdict_is_about_the_numbers_that_kernels_are_compiled_for(make):
    fake = make(forward="x * weight if weight.shape[0] != 5 else 1.05 * x * weight")
    assert chosen(fake, *arguments(width=4)) == "triton"
    assert chosen(fake, *arguments(width=5)) == "torch"


PROCESS = """
import json, sys
from pathlib import Path
from support.fake_kernels import arguments, fake_operator
found = {}
for name in ("right", "wrong", "raising"):
    fake = fake_operator(Path(sys.argv[1], f"{name}.py"), name)
    fake(*arguments())
    found[name] = len(fake.kernels.calls), fake.operator.explain(*arguments()).chosen
print(json.dumps(found))
"""


def test_another_process_reads_the_verdict_until_a_source_changes(tmp_path):
    """Four processes, with a copy of foveal: the sources are the kernels' own file and all of foveal.ops."""
    shutil.copytree(Path(foveal.__file__).parent, tmp_path / "foveal", ignore=shutil.ignore_patterns("__pycache__"))
    for name, code in {"right": {}, "wrong": WRONG["output"][0], "raising": DOES_NOT_COMPILE}.items():
        write_kernels(tmp_path / f"{name}.py", **code)
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), str(Path(__file__).parents[1])])}

    def process() -> dict[str, tuple[int, str]]:
        command = [sys.executable, "-c", PROCESS, str(tmp_path)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        assert done.stderr.count("does not use its Triton kernels") == 2
        return {name: tuple(found) for name, found in json.loads(done.stdout).items()}

    tried = {"right": (len(TRIALS) + 1, "triton"), "wrong": (len(TRIALS), "torch"), "raising": (1, "torch")}
    read = {"right": (1, "triton"), "wrong": (0, "torch"), "raising": (0, "torch")}
    assert process() == tried
    assert process() == read
    append_a_comment(tmp_path / "right.py")
    assert process() == {**read, "right": tried["right"]}
    append_a_comment(tmp_path / "foveal" / "ops" / "triton" / "depthwise.py")
    assert process() == tried
    assert len(files()) == 3 + 1 + 3


def append_a_comment(source: Path):
    source.write_text(source.read_text() + "# changed\n")


@pytest.mark.parametrize(
    ("place", "name"),
    [(torch, "__version__"), (triton, "__version__"), (torch.version, "cuda"), (verdicts, "__version__")],
    ids=["torch", "triton", "cuda", "foveal"],
)
def test_another_version_asks_for_another_verdict(make, monkeypatch, place, name):
    fake = make()
    assert chosen(fake) == "triton"
    start_anew(fake, monkeypatch)
    monkeypatch.setattr(place, name, "99.0")
    assert chosen(fake) == "triton"
    assert fake.kernels.calls == TRIALS
    assert len(files()) == 2


def damaged(verdict: dict) -> dict[str, bytes]:
    """File contents that are not a valid verdict for these facts."""
    without = {key: value for key, value in verdict.items() if key != "reason"}
    contents = {"of another device": {**verdict, "device": "another"}, "no reason": without, "number": 3, "list": [1]}
    contents["a reason of another type"] = {**verdict, "reason": 3}
    texts = {name: json.dumps(content).encode() for name, content in contents.items()}
    return {**texts, "cut": json.dumps(verdict).encode()[:40], "empty": b"", "not text": b"\xff\xfe\x00"}


def test_a_damaged_file_is_replaced_by_a_new_verdict(make, monkeypatch):
    fake = make()
    chosen(fake)
    (file,) = files()
    whole = file.read_bytes()
    assert json.loads(whole)["reason"] is None
    for name, content in damaged(json.loads(whole)).items():
        file.write_bytes(content)
        start_anew(fake, monkeypatch)
        assert chosen(fake) == "triton", name
        assert fake.kernels.calls == TRIALS, name
        assert files() == [file]
        assert file.read_bytes() == whole, name


def no_home():
    raise RuntimeError("Could not determine home directory.")


@pytest.mark.parametrize("reason", ["a file is in the way", "the user has no home"])
def test_without_a_cache_folder_every_process_tries_the_kernels(make, monkeypatch, tmp_path, reason):
    if reason == "a file is in the way":  # which no user may write into, unlike a read-only folder
        (tmp_path / "cache").write_text("")
    else:
        monkeypatch.delenv("FOVEAL_CACHE")
        monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
        monkeypatch.setattr(Path, "home", no_home)
    fake = make()
    for _ in range(2):
        start_anew(fake, monkeypatch)
        assert chosen(fake) == "triton"
        assert chosen(fake) == "triton"
        assert fake.kernels.calls == TRIALS


@pytest.mark.parametrize(
    "error",
    ["RuntimeError('Failed to find C compiler')", "OSError('No space left')", "torch.OutOfMemoryError('no memory')"],
)
def test_a_failure_of_the_moment_is_not_held_against_the_kernels_in_another_process(make, monkeypatch, error):
    fake = make(forward=f"fail({error})")
    with pytest.warns(RuntimeWarning, match=error.partition("(")[0].removeprefix("torch.")):
        assert chosen(fake) == "torch"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert chosen(fake) == "torch"
    assert files() == []
    start_anew(fake, monkeypatch)
    fake.kernels.forward = lambda x, weight: x * weight
    assert chosen(fake) == "triton"


def test_an_error_of_the_device_is_held_against_the_kernels(make):
    fake = make(forward="fail(torch.AcceleratorError('an illegal memory access was encountered'))")
    with pytest.warns(RuntimeWarning, match="illegal memory access"):
        assert chosen(fake) == "torch"
    assert len(files()) == 1


def test_no_random_number_is_drawn_from_the_global_generator(make):
    before = torch.get_rng_state()
    assert chosen(make()) == "triton"
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16], ids=str)
def test_the_default_dtype_has_no_influence(make, dtype):
    torch.set_default_dtype(dtype)
    try:
        assert chosen(make()) == "triton"
    finally:
        torch.set_default_dtype(torch.float32)


CONTEXTS = {
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "default device": lambda: torch.device("meta"),
    "fake tensors": FakeTensorMode,
}


@pytest.mark.parametrize("context", CONTEXTS)
def test_the_callers_context_has_no_influence(make, context):
    fake, call = make(), arguments()
    mode = CONTEXTS[context]()
    with mode:
        if isinstance(mode, FakeTensorMode):
            call = tuple(map(mode.from_tensor, call))
        found = fake(*call)
    assert found.shape == (1, 2, 1, 4)
    assert fake.kernels.calls[:4] == TRIALS
    assert chosen(fake) == "triton"


def test_operations_of_the_trial_are_not_counted_as_the_callers(make):
    fake, call = make(forward="x @ torch.diag(weight)"), arguments()
    with FlopCounterMode(display=False) as counter:
        assert chosen(fake, *call) == "triton"
    assert counter.get_total_flops() == 0


def test_threads_that_come_together_share_one_trial(make):
    fake, call = make(), arguments()
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda _: fake(*call), range(8)))
    assert sorted(fake.kernels.calls) == sorted([*TRIALS, *["forward"] * 8])


@WARNED
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
@pytest.mark.parametrize(("code", "target"), [({}, "triton"), (WRONG["gradient of x"][0], "torch")])
def test_torch_compile_traces_the_verdict_and_no_trial(make, code, target, dynamic):
    torch.compiler.reset()
    fake, (x, weight) = make(**code), arguments()
    operations, calls = [], []

    def compiler(graph, inputs):
        operations.extend(node for node in graph.graph.nodes if "foveal" in str(node.target))
        calls.extend(fake.kernels.calls)
        return graph.forward

    found = torch.compile(fake, fullgraph=True, backend=compiler, dynamic=dynamic)(x, weight)
    assert torch.equal(found, x * weight)
    assert calls == TRIALS  # all of them before the graph is run
    assert [node.args[-1] for node in operations] == [target]


def test_export_keeps_the_verdict(make):
    fake, call = make(), arguments()

    class Net(torch.nn.Module):
        def forward(self, x, weight):
            return fake(x, weight)

    program = torch.export.export(Net(), call)
    assert [node.args[-1] for node in program.graph.nodes if "foveal" in str(node.target)] == ["triton"]
    assert fake.kernels.calls == TRIALS


def test_while_a_cuda_graph_is_captured_unseen_kernels_are_left_out_and_nothing_is_kept(make, monkeypatch):
    capturing, tried = True, []
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: capturing)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "a GPU")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    monkeypatch.setattr(verdicts, "examine", lambda *key: tried.append(key) or Deviation("the output", 0.0, 1.0))
    question = make().name, (torch.float32, torch.float32), (4,), torch.device("cuda", 0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert "while a CUDA graph is captured: call the operator once before" in verdicts.distrust(*question)
    assert (tried, files()) == ([], [])
    capturing = False
    assert verdicts.distrust(*question) is None
    assert len(tried) == 1
    capturing = True
    assert verdicts.distrust(*question) is None
    monkeypatch.setattr(verdicts, "_known", {})
    assert verdicts.distrust(*question) is None  # from the file
    assert len(tried) == 1


def test_kernels_are_used_unseen_if_the_environment_says_so(make, monkeypatch):
    monkeypatch.setenv("FOVEAL_CHECK_KERNELS", "0")
    fake, (x, weight) = make(**WRONG["output"][0]), arguments()
    with use_backend("triton"):
        assert torch.equal(fake(x, weight), 1.01 * x * weight)
    assert fake.kernels.calls == ["forward"]
    assert files() == []


def test_the_interpreter_is_trusted_unless_the_environment_asks(make, monkeypatch):
    monkeypatch.delenv("FOVEAL_CHECK_KERNELS")
    fake = make(**WRONG["output"][0])
    assert chosen(fake) == "triton"
    assert fake.kernels.calls == []
