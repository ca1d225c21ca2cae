"""The device batch is found on a CUDA device by trying. Run by `make test-gpu`."""

import json

import pytest

from foveal.errors import FovealError
from foveal.tasks.classification.digits import write_digits
from foveal.tasks.recipes import create_task, get_recipe
from foveal.training import device_batch, fit

pytestmark = pytest.mark.gpu


@pytest.fixture
def train(tmp_path):
    def run():
        settings = dict(epochs=1, epoch_steps=1, batch_size=256, device_batch_size="auto", warmup_epochs=0, workers=0)
        recipe = get_recipe("digits.transnext_atto").with_training(**settings)
        fit(create_task(recipe, write_digits(tmp_path / "digits")), recipe.train, tmp_path / "run")
        return json.loads((tmp_path / "run" / "run.json").read_text())

    return run


def test_a_small_batch_fits_whole(train):
    begun = train()
    assert begun["batching"]["device"] == 256
    assert "The device batch is 256, the largest that fits into the memory of cuda:0." in begun["notices"]


def test_a_device_without_free_memory_is_one_sentence(train, monkeypatch):
    monkeypatch.setattr(device_batch, "SPARE", 0.9999)
    with pytest.raises(FovealError, match=r"^Not even device batches of 1 fit into the memory of cuda"):
        train()
