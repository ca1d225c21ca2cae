"""Measures of receptive fields, compared with fields whose measures are known by hand."""

import numpy as np
import pytest

from foveal.errors import FovealError
from foveal.explain import area_ratios, blockiness, effective_radius
from foveal.explain.field_measures import compressed, decades


def gaussian(size: int, deviation: float) -> np.ndarray:
    axis = np.arange(size) - size // 2
    return np.exp(-(axis[:, None] ** 2 + axis**2) / (2 * deviation**2))


def checkered(size: int, cells: int, offset: int = 0) -> np.ndarray:
    """Squares of 1 and 10, a step of one decade at every border of a grid."""
    square = (np.arange(size) + offset) // cells
    return 10.0 ** ((square[:, None] + square) % 2)


def published_ratio(field: np.ndarray, threshold: float) -> float:
    """RepLKNet's definition, square by square."""
    shown = np.log10(field + 1)
    height, width = field.shape
    for reach in range(1, height // 2):
        rows = slice(height // 2 - reach, height // 2 + 1 + reach)
        columns = slice(width // 2 - reach, width // 2 + 1 + reach)
        if shown[rows, columns].sum() / shown.sum() > threshold:
            return (2 * reach + 1) ** 2 / (height * width)
    raise AssertionError("no square inside the image is enough")


def test_area_ratios_equal_the_published_definition():
    field = 100 * gaussian(64, 6) + np.random.default_rng(0).random((64, 64)) * 0.01
    expected = [published_ratio(field, threshold) for threshold in (0.2, 0.3, 0.5, 0.9)]
    np.testing.assert_array_equal(area_ratios(field, (0.2, 0.3, 0.5, 0.9)), expected)


def test_the_area_of_a_flat_square_is_known():
    """On 9 x 9 pixels in the middle of 20 x 20, a square of side s has s^2 of 81: 5 for 30 %, 7 for 60 %, 9 for all."""
    field = np.zeros((20, 20))
    field[6:15, 6:15] = 3.0
    np.testing.assert_allclose(area_ratios(field, (0.01, 0.3, 0.6, 1.0)), np.array([1, 25, 49, 81]) / 400)


def test_a_single_pixel_needs_its_own_area():
    field = np.zeros((10, 20))
    field[5, 10] = 1
    assert area_ratios(field).tolist() == [1 / 200] * 4


def test_a_square_that_leaves_the_image_counts_the_part_inside():
    field = np.zeros((4, 12))
    field[2, 6] = 1
    field[2, 9] = 1
    assert area_ratios(field, (0.9,)) == pytest.approx(4 * 7 / 48)
    field = np.ones((4, 12))
    assert area_ratios(field, (1.0,)) == 1


def test_the_radius_of_a_gaussian_is_its_deviation_times_the_root_of_two():
    assert effective_radius(gaussian(101, 8)) == pytest.approx(8 * np.sqrt(2), rel=1e-6)
    assert effective_radius(1e-9 * gaussian(101, 8)) == pytest.approx(8 * np.sqrt(2), rel=1e-6)


def test_the_radius_of_a_ring_of_four_pixels_is_their_distance():
    field = np.zeros((11, 15))
    for row, column in ((5, 3), (5, 11), (1, 7), (9, 7)):
        field[row, column] = 0.5
    assert effective_radius(field) == 4


@pytest.mark.parametrize("stride", [1, 4])
@pytest.mark.parametrize("offset", [0, 3])
@pytest.mark.parametrize("cells", [14, 28, 56])
def test_a_grid_of_windows_is_all_blocky_wherever_it_starts(cells, offset, stride):
    field = np.kron(checkered(cells, 7, offset), np.ones((stride, stride)))
    assert blockiness(field, stride) == pytest.approx(1)


@pytest.mark.parametrize("deviation", [0.1, 0.2, 0.5])
@pytest.mark.parametrize("cells", [14, 28, 56])
def test_a_smooth_field_is_not_blocky(cells, deviation):
    assert blockiness(gaussian(4 * cells, 4 * cells * deviation), 4) < 0.01


def test_noise_a_sharp_peak_and_a_single_square_are_not_blocky():
    noise = np.exp(np.random.default_rng(0).normal(size=(56, 56)))
    peak = np.exp(-4 * np.sqrt(np.hypot(*np.mgrid[-28:28, -28:28] + 0.3)))
    square = np.full((56, 56), 1e-6)
    square[24:33, 24:33] = 1
    for field in (noise, peak, square):
        assert blockiness(field, 1) < 0.02


def test_a_grid_on_a_smooth_field_is_found():
    smooth, grid = gaussian(56, 14), checkered(56, 7) ** 0.3
    assert blockiness(smooth * grid, 1) > 0.9


def test_windows_of_another_period_are_not_taken_for_these():
    assert blockiness(checkered(60, 5), 1, window=7) < 0.02
    assert blockiness(checkered(60, 5), 1, window=5) == pytest.approx(1)


def test_blockiness_is_the_share_of_the_spectrum_at_the_harmonics():
    """Lines of eight whole periods, so that the discrete spectrum has the harmonics as its lines 8, 16, 24, ..."""
    field = np.exp(np.random.default_rng(1).normal(size=(57, 57)) * 0.3 + 0.5 * np.log(checkered(57, 7)))
    excess, whole = 0.0, 0.0
    for lines in (np.log10(field), np.log10(field).T):
        power = np.abs(np.fft.fft(np.abs(np.diff(lines)))) ** 2
        harmonic = np.arange(56) % 8 == 0
        for line in power:
            others = line[~harmonic]
            excess += (line[harmonic][1:] - others.mean()).sum()
            whole += line[1:].sum()
    assert 0.05 < excess / whole < 0.95
    assert blockiness(field, 1) == pytest.approx(excess / whole)


def test_the_grid_of_patches_inside_the_cells_does_not_count():
    patches = np.tile(np.random.default_rng(2).random((4, 4)) + 0.01, (56, 56))
    assert blockiness(patches * gaussian(224, 60), 4) < 0.02


def test_a_constant_field_has_no_edges():
    assert blockiness(np.ones((28, 28)), 1) == 0


def test_displays_are_between_their_ends():
    field = np.array([[0.0, 9.0], [99.0, 0.009]])
    np.testing.assert_allclose(compressed(field), [[0, 0.5], [1, np.log10(1.009) / 2]])
    np.testing.assert_allclose(decades(field), [[-4, np.log10(9 / 99)], [0, -4]], atol=0.05)


@pytest.mark.parametrize("field", [np.zeros((4, 4)), -np.ones((4, 4)), np.full((4, 4), np.nan), np.ones(4)])
def test_what_is_no_field_is_refused(field):
    for measure in (area_ratios, effective_radius, lambda f: blockiness(f, 1)):
        with pytest.raises(FovealError, match="A field must be"):
            measure(field)


def test_too_few_windows_are_refused():
    with pytest.raises(FovealError, match="use larger images"):
        blockiness(np.ones((224, 224)), 32)
