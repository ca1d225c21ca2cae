"""A file appears whole or not at all."""

import pytest

from foveal.errors import FovealError
from foveal.files import whole


def test_the_file_of_before_stays_until_the_new_one_is_whole(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with whole(path) as part:
        part.write_text("after")
        assert path.read_text() == "before"
    assert path.read_text() == "after"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("stopped", "error", "sentence"),
    [
        (OSError("full"), FovealError, r"a\.txt could not be written \(full\): make room\.$"),
        (KeyboardInterrupt(), KeyboardInterrupt, "^$"),
    ],
)
def test_what_was_stopped_leaves_nothing_but_the_file_of_before(tmp_path, stopped, error, sentence):
    path = tmp_path / "a.txt"
    path.write_text("before")

    def write_half():
        with whole(path, "make room") as part:
            part.write_text("half")
            raise stopped

    with pytest.raises(error, match=sentence):
        write_half()
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]
