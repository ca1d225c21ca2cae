"""What a table of results says: means beside the paper's figures, differences, and significance in words."""

import pytest

from foveal.ablation import Result, TableRun, summarise
from foveal.ablation.layout import as_markdown, as_text
from foveal.ablation.remaining import seconds_left
from foveal.ablation.results import as_csv

REFERENCE, ROW = "0_5", "0_25"  # of transxnet.attention_ratio


def results(**tops):
    return [
        Result(row.removeprefix("r"), seed, value, 99.9, 1, 8, 30.0)
        for row, values in tops.items()
        for seed, value in enumerate(values)
    ]


def summary(seeds=3, **tops):
    return summarise(TableRun.create("transxnet.attention_ratio", seeds=seeds), results(**tops))


def by_row(found):
    return {row.row: row for row in found.rows}


def test_rows_keep_the_papers_order_and_figures():
    found = summary(r0_75=[97, 98, 99], r0_25=[96.5, 96, 97], r0_5=[98, 98.5, 99])
    assert [(row.name, row.paper, row.is_reference) for row in found.rows] == [
        ("0.25", "80.6", False), ("0.5", "80.9", True), ("0.75", "80.9", False),
    ]  # fmt: skip
    assert (found.missing, found.epochs, found.column) == (0, 6, "ImageNet-1K top-1")


def test_the_last_epoch_counts_and_not_the_best():
    assert by_row(summary(r0_25=[96, 97, 98]))[ROW].sample.mean == 97


def test_differences_are_corrected_for_the_number_of_tests():
    """Both rows have the same test against the reference, whose p-value is doubled: p = 1 - t / sqrt(2 + t^2)."""
    found = by_row(summary(seeds=2, r0_5=[95, 97], r0_25=[90, 92], r0_75=[100, 102]))
    t = 5 / 2**0.5
    assert found[ROW].difference == -5
    assert found["0_75"].difference == 5
    assert found[ROW].p_value == pytest.approx(2 * (1 - t / (2 + t * t) ** 0.5))
    assert found[ROW].note == f"not significant with 2 seeds (p = {found[ROW].p_value:.3f})"
    assert found[REFERENCE].p_value is None
    assert found[REFERENCE].note == ""


def test_a_clear_difference_is_significant():
    found = summary(r0_5=[98.1, 98.2, 98.3], r0_25=[90.1, 90.2, 90.3])
    assert by_row(found)[ROW].is_significant
    assert "Significantly different from the paper's own row, with 3 seeds: 0_25." in as_text(found)


def test_one_seed_has_no_deviation_and_says_so():
    found = summary(seeds=1, r0_5=[98.0], r0_25=[97.0])
    assert by_row(found)[ROW].note == "not tested: one seed has no deviation"
    text = as_text(found)
    assert "+-  " not in text
    assert "With one seed there is no deviation, and no difference can be tested" in " ".join(text.split())


def test_unfinished_runs_are_counted():
    found = summary(r0_5=[98.0, 97.0])
    assert found.missing == 7
    assert "7 of 9 runs are not finished." in as_text(found)
    assert by_row(found)[ROW].sample is None


def test_without_the_papers_own_row_nothing_is_compared():
    plan = TableRun.create("transxnet.attention_ratio", rows=["0.25", "0_75"])
    found = summarise(plan, results(r0_25=[96, 97, 98], r0_75=[96, 97, 99]))
    assert all(row.difference is None for row in found.rows)
    assert "nothing is compared" in as_text(found)


@pytest.mark.parametrize("table", ["transnext.roadmap", "transxnet.ffn_scales", "transxnet.design"])
def test_text_has_80_columns_and_markdown_a_cell_for_every_heading(table):
    plan = TableRun.create(table)
    found = summarise(plan, [Result(run.row, run.seed, 97.0 + run.seed, 99, 8, 8, 31.5) for run in plan.runs])
    assert max(map(len, as_text(found).splitlines())) <= 80
    rows = [line for line in as_markdown(found).splitlines() if line.startswith("|")]
    assert {line.count(" | ") for line in rows} == {6}
    assert "98.00 +- 1.00" in as_text(found)


def test_a_line_of_csv_per_run():
    assert as_csv(results(r0_5=[98.05])) == "row,seed,last,best,best_epoch,epochs,seconds\n0_5,0,98.05,99.9,1,8,30.0\n"


def test_time_left_comes_from_finished_runs_of_the_same_row():
    """Row a takes 10 s; b is unknown and takes the mean of the rows; half of b's run is done: 10 + 5 = 15 s."""
    plan = TableRun.create("transxnet.attention_ratio", rows=["0.25", "0.5"], seeds=2)
    first, other, again, _ = plan.runs
    done = [Result(first.row, 0, 97, 97, 1, 8, 10.0)]
    assert seconds_left([other, again], done, {other: (0.5, 3.0)}, 1) == 15
    assert seconds_left([other, again], done, {other: (0.5, 3.0)}, 2) == 7.5


def test_time_left_of_the_first_run_comes_from_its_own_speed():
    """A quarter took 5 s, so a run takes 20 s: 15 s and 20 s are left."""
    plan = TableRun.create("transxnet.attention_ratio", rows=["0.25", "0.5"], seeds=1)
    assert seconds_left(plan.runs, [], {plan.runs[0]: (0.25, 5.0)}, 1) == 35
    assert seconds_left(plan.runs, [], {}, 1) is None
