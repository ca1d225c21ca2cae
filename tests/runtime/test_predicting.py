"""Any number of pictures are predicted on batch by batch, and answers arrive as soon as their batch is done."""

import itertools

import pytest

from foveal.errors import BrokenSample, FovealError
from foveal.runtime.predicting import Answer, Unread, predict_files, stream
from foveal.runtime.reading import Picture


class Doubling:
    """Answers twice the number that a picture is."""

    batch_size = 3

    def __init__(self):
        self.batches = []

    def prepare(self, image):
        return float(image)

    def answer(self, names, batch):
        self.batches.append(list(names))
        return [2 * number for number in batch]


def broken():
    raise BrokenSample("b", "b is broken.")


def pictures(*numbers):
    return [Picture(str(n), str(n), broken if n is None else lambda n=n: n) for n in numbers]


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_answers_are_in_order_and_in_batches(workers):
    predictor = Doubling()
    found = list(stream(pictures(*range(7)), predictor, workers))
    assert [(one.picture.name, one.prepared, one.answer) for one in found] == [(str(n), n, 2 * n) for n in range(7)]
    assert predictor.batches == [["0", "1", "2"], ["3", "4", "5"], ["6"]]


@pytest.mark.parametrize("workers", [0, 1])
def test_pictures_that_cannot_be_read_leave_the_others_answered(workers):
    found = list(stream(pictures(None, 1, 2, None, None, None, 6), Doubling(), workers))
    kinds = [type(one) for one in found]
    assert kinds == [Unread, Answer, Answer, Unread, Unread, Unread, Answer]
    assert [one.answer for one in found if isinstance(one, Answer)] == [2, 4, 12]
    assert str(found[0].error) == "b is broken."


def test_answers_arrive_without_the_last_picture_being_known():
    endless = (Picture(str(n), str(n), lambda n=n: n) for n in itertools.count())
    predictor = Doubling()
    found = stream(endless, predictor, 1)
    assert [next(found).answer for _ in range(4)] == [0, 2, 4, 6]
    found.close()
    assert len(predictor.batches) == 2


def test_an_error_of_the_network_stops_everything():
    predictor = Doubling()

    def fail(names, batch):
        raise FovealError("The scores are NaN.")

    predictor.answer = fail
    with pytest.raises(FovealError, match="NaN"):
        list(stream(pictures(1, 2), predictor, 1))


def test_no_pictures_have_no_answers():
    assert list(stream([], Doubling(), 1)) == []


def test_files_are_predicted_with_progress_or_not_at_all(tmp_path):
    with pytest.raises(FovealError, match="There is no image at"):
        predict_files(Doubling(), [tmp_path / "none.png"])
