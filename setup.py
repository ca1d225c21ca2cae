"""The package's description: the README without what works only next to the repository's files."""

import re
from pathlib import Path

from setuptools import setup

PICTURE = re.compile(r"^!\[[^]]*\]\((?!https?:)[^)]*\)\n\n", re.MULTILINE)
LINK = re.compile(r"\[([^]]*)\]\((?!https?:|#)([^)]*)\)")


def description(readme: str) -> str:
    """Return the text without relative pictures, and with the paths of relative links in words."""
    return LINK.sub(r"\1 (`\2` in the repository)", PICTURE.sub("", readme))


if __name__ == "__main__":
    text = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
    setup(long_description=description(text), long_description_content_type="text/markdown")
