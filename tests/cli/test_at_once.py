"""Help, lists and errors do not wait for PyTorch."""

import subprocess
import sys

import pytest

from foveal_commands import COMMANDS

SLOW = ("torch", "timm", "torchvision", "accelerate", "transformers", "matplotlib", "sklearn", "scipy")
# Runs the console script with an importer in front that refuses what is slow.
PROGRAM = f"""
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {SLOW}:
            raise AssertionError(f"{{name}} was imported")
sys.meta_path.insert(0, Refuse())
import foveal_script
foveal_script.main()
"""


def run(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", PROGRAM, *words], capture_output=True, text=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_help_of_a_command_imports_nothing_slow(name):
    done = run(name, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"usage: foveal {name}" in done.stdout


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["trian"], "did you mean train"),
        (["train", "digits.transnext_ato"], "did you mean digits.transnext_atto"),
        (["train", "digits.transnext_atto", "--epoch", "3"], "did you mean --epochs"),
        (["train", "digits.transnext_atto", "--epochs", "three"], "a whole number, not 'three'"),
        (["train"], "A recipe is missing"),
        (["evaluate", "imagenet.transnext_tny", "--pretrained"], "did you mean imagenet.transnext_tiny"),
        (["evaluate", "imagenet.transnext_tiny"], "Weights are missing"),
        (["predict", "--checkpoint", "best.pt"], "An image is missing"),
        (["predict", "a.png", "--top-k", "0", "--checkpoint", "best.pt"], "--top-k must be at least 1"),
        (["explain", "a.png", "--methd", "grad"], "did you mean --method"),
        (["models", "tinny"], "did you mean tiny"),
        (["tables", "transnext.roadmp"], "did you mean transnext.roadmap"),
        (["ablate", "transnext.roadmp"], "did you mean transnext.roadmap"),
    ],
)
def test_a_mistake_is_reported_before_anything_slow_is_imported(words, sentence):
    done = run(*words)
    assert done.returncode in (1, 2)
    assert sentence in done.stderr
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["train", "--list"], "digits.transnext_atto"),
        (["train", "--list", "--json"], '"ablation.transnext.roadmap.'),
        (["models"], "transnext_tiny.in1k"),
        (["tables"], "transnext.imagenet"),
        (["ablate"], "transnext.roadmap"),
        (["tables", "transnext.imagenet"], "TransNeXt-Tiny"),
        (["--version"], "foveal "),
    ],
)
def test_lists_import_nothing_slow(words, line):
    done = run(*words)
    assert (done.returncode, done.stderr) == (0, "")
    assert line in done.stdout


def test_the_package_run_as_a_module_answers_as_the_script_does():
    words = [sys.executable, "-X", "importtime", "-m", "foveal.cli", "train", "--help"]
    done = subprocess.run(words, capture_output=True, text=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert done.returncode == 0
    assert "foveal.cli.app" in imported
    assert not imported & set(SLOW)


def test_a_program_that_imports_foveal_has_its_models_in_timm_at_once():
    program = "import sys; sys.argv = ['-m']; import foveal, timm; assert timm.is_model('transnext_tiny'); foveal.ops"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


@pytest.mark.parametrize("name", ["TransNeXt", "flops", "optimize", "models", "ops", "__version__"])
def test_public_names_are_there_in_a_process_of_the_command_line_too(name):
    program = (
        f"import foveal_commands; foveal_commands.start(); import foveal; foveal.{name}; from foveal import {name}"
    )
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_an_unknown_name_of_the_package_is_an_attribute_error():
    program = "import foveal_commands; foveal_commands.start(); import foveal; hasattr(foveal, 'nothing') and 1 / 0"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
