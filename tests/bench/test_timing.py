"""Interleaved timing: call order, warm-up, percentiles and ratios."""

import pytest

from foveal.bench.measure import Spread, interleave, ratios, stopwatch_for


def calls_that_note(names, order):
    return {name: lambda name=name: order.append(name) for name in names}


def counting_clock(start=0):
    """A stopwatch on which each measurement takes one second longer than the previous one."""
    seconds = iter(range(start, 10_000))

    def stopwatch(call, repeats):
        for _ in range(repeats):
            call()
        return next(seconds)

    return stopwatch


def test_every_round_times_each_call_once_starting_with_the_next():
    order = []
    interleave(calls_that_note("abc", order), rounds=3, warmup=1, stopwatch=counting_clock())
    assert "".join(order) == "abc" + "bca" + "cab" + "abc"


def test_warmup_rounds_are_not_counted():
    found = interleave(calls_that_note("ab", []), rounds=2, warmup=1, stopwatch=counting_clock())
    # round 0: a 0, b 1 (not counted); round 1: b 2, a 3; round 2: a 4, b 5
    assert found == {"a": [3, 4], "b": [2, 5]}


def test_short_calls_are_repeated_to_reach_the_minimum_duration():
    repeated = {}

    def stopwatch(call, repeats):
        repeated[call()] = repeats
        return {"quick": 0.003, "slow": 0.5}[call()]

    interleave({n: lambda n=n: n for n in ("quick", "slow")}, rounds=2, stopwatch=stopwatch, least=0.01)
    assert repeated == {"quick": 4, "slow": 1}


def test_every_measurement_is_reported():
    reported = []
    interleave(calls_that_note("abc", []), 4, counting_clock(), warmup=2, on_call=lambda: reported.append(1))
    assert len(reported) == 3 * (4 + 2)


def test_percentiles_are_interpolated_between_neighbours():
    assert Spread.of([5, 1, 4, 2, 3, 6]) == Spread(2, 3.5, 5)
    assert Spread.of([10, 20]) == Spread(12, 15, 18)


def test_ratios_are_computed_per_round():
    """A machine that is slow in one round slows both calls down, so the ratio of that round is unaffected."""
    baseline, other = [1.0, 10.0, 2.0], [2.0, 20.0, 4.0]
    assert ratios(baseline, other) == [0.5, 0.5, 0.5]
    with pytest.raises(ValueError):
        ratios(baseline, other[:2])


def test_the_wall_clock_divides_by_the_repeats(monkeypatch):
    ticks = iter([100.0, 106.0])
    monkeypatch.setattr("foveal.bench.measure.time.perf_counter", lambda: next(ticks))
    made = []
    assert stopwatch_for("cpu")(lambda: made.append(1), 3) == 2.0
    assert len(made) == 3
