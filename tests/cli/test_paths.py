"""Mistyped paths are reported before PyTorch is imported, in the sentences that come later, too."""

import subprocess
import sys
from pathlib import Path

import pytest

from foveal.cli.paths import check_checkpoint, check_data
from foveal.errors import FovealError
from foveal.models.weights_file import WeightsFile

PROBE = """
import sys
import foveal_commands
foveal_commands.start()
from foveal.cli.app import main
try:
    main(sys.argv[1:])
except SystemExit as left:
    assert "torch" not in sys.modules
    sys.exit(left.code)
"""
COMMANDS = {
    "train photos.transnext_atto --data nowhere": "There is no folder nowhere: pass --data with",
    "train photos.transnext_atto --data . --checkpoint nothing.pt": "nothing.pt does not exist; pass the path of",
    "evaluate --checkpoint nothing.pt": "nothing.pt does not exist; pass the path of",
    "evaluate imagenet.transnext_micro --pretrained --data nowhere": "There is no folder nowhere: pass --data with",
    "predict nothing.jpg --checkpoint .": "There is no image at nothing.jpg: check the path.",
    "predict https://example.org/a.jpg --checkpoint .": "is a URL: download the file",
    "predict . --checkpoint nothing.pt": "nothing.pt does not exist; pass the path of",
    "export --checkpoint nothing.pt": "nothing.pt does not exist; pass the path of",
    "explain . --checkpoint nothing.pt": "nothing.pt does not exist; pass the path of",
    "ablate transnext.roadmap --data nowhere": "There is no folder nowhere: pass --data with",
}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_missing_path_is_reported_before_pytorch_is_imported(command, tmp_path):
    run = [sys.executable, "-c", PROBE, *command.split()]
    done = subprocess.run(run, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1, done.stderr
    assert COMMANDS[command] in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_missing_checkpoint_has_the_sentence_of_the_file_that_cannot_be_opened(tmp_path):
    with pytest.raises(FovealError) as early:
        check_checkpoint(tmp_path / "nothing.pt")
    with pytest.raises(FovealError) as late:
        WeightsFile.open(tmp_path / "nothing.pt")
    assert str(early.value) == str(late.value)


@pytest.mark.parametrize(
    "data", ["hf:owner/pets", "https:/host/train-{000..010}.tar", "shards/train-000.tar", "s3:/a/b"]
)
def test_data_that_is_no_folder_is_left_to_what_reads_it(data, tmp_path):
    check_data(Path(data))
