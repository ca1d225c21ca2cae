"""Peak memory, measured in a subprocess, matches known allocations."""

import os
import sys
from dataclasses import dataclass

import pytest
import torch

from foveal.bench.measure import peak_on_cpu
from foveal.bench.settings import Setting
from foveal.bench.subjects import Prepared

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the peak can be reset on Linux only")
MIB = 2**20


@dataclass(frozen=True)
class Hungry:
    """Allocates and frees some MiB several times per call; keeps `kept` MiB from its first call on."""

    at_most: int
    kept: int = 0
    held: int = 64
    name: str = "hungry"
    form: str = "eager"

    def prepare(self, setting):
        weights = torch.ones(self.held * MIB // 4)
        cache = []

        def call():
            if not cache:
                cache.append(torch.ones(self.kept * MIB // 4))
            for share in (4, 1, 2):
                torch.ones(self.at_most * MIB // 4 // share)

        return Prepared(call, weights.nbytes)


@dataclass(frozen=True)
class Doomed:
    """Ends its process, as the out-of-memory killer would."""

    name: str = "doomed"
    form: str = "eager"

    def prepare(self, setting):
        os._exit(9)


@pytest.mark.parametrize(("at_most", "kept"), [(40, 0), (80, 32)])
def test_the_peak_excludes_the_model(at_most, kept):
    peak = peak_on_cpu(Hungry(at_most, kept), Setting())
    assert at_most + kept <= peak / MIB + 1 <= at_most + kept + 3


def test_a_killed_child_process_has_no_peak():
    assert peak_on_cpu(Doomed(), Setting()) is None
