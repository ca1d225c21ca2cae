"""The Python of docs/explain.md runs, and its commands are read by the command line."""

import re
import shlex
from pathlib import Path

from foveal.cli.commands.explain import main
from foveal.cli.console import parse

PAGE = (Path(__file__).parents[2] / "docs" / "explain.md").read_text(encoding="utf-8")


def test_python_blocks_run(capsys):
    for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(block, {})
    assert "(224, 224)" in capsys.readouterr().out


def test_commands_are_understood():
    commands = re.findall(r"^foveal explain (.+?)(?:\s+#.*)?$", PAGE, flags=re.MULTILINE)
    assert len(commands) == 5
    for line in commands:
        parse(main, "foveal explain", shlex.split(line))
