"""The benchmark of clicks in the explorer asks a server as the page does."""

import importlib.util
import re
import sys
from pathlib import Path

import torch

FILE = Path(__file__).parents[2] / "benchmarks" / "explorer_clicks.py"


def test_it_measures_clicks_of_a_network(monkeypatch, capsys):
    spec = importlib.util.spec_from_file_location("explorer_clicks", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    words = [
        "explorer_clicks.py",
        "--model",
        "transnext_atto",
        "--clicks",
        "3",
        "--threads",
        str(torch.get_num_threads()),
    ]
    monkeypatch.setattr(sys, "argv", words)
    module.main()
    said = capsys.readouterr().out
    assert "transnext_atto" in said
    assert len(re.findall(r"median \d+\.\d ms, slowest \d+\.\d ms", said)) == 2
