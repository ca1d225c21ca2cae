"""Files that appear whole or not at all."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from foveal.errors import FovealError


@contextmanager
def whole(path: Path, advice: str = "choose another place") -> Iterator[Path]:
    """A place beside ``path`` to write to; it takes the name when the block has ended, in one step.

    Raises:
        FovealError: the system refuses; the sentence ends with ``advice``. What was there before is untouched.
    """
    part = path.with_name(f".{path.name}.part")
    try:
        yield part
        part.replace(path)
    except OSError as error:
        raise FovealError(f"{path} could not be written ({error.strerror or error}): {advice}.") from error
    finally:  # whatever stopped it, also Ctrl-C
        part.unlink(missing_ok=True)
