import time
from math import inf

import pandas as pd
import pytest

from fmnist_lib.timing import Stopwatch, compare_times, product_rate, seconds_to_accuracy


def test_functions_take_turns_and_the_first_call_is_apart(monkeypatch):
    clock, calls = [0.0], []
    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])

    def takes(name, durations):
        durations = iter(durations)

        def call():
            calls.append(name)
            clock[0] += next(durations)

        return call

    seconds = {"slow": [9, 4, 2, 3], "quick": [5, 1, 1, 7]}
    table = compare_times({name: takes(name, s) for name, s in seconds.items()}, repeats=3)
    assert calls == ["slow", "quick"] * 4
    assert table.loc["slow"].tolist() == [9, 3, 2, 4, 1]
    assert table.loc["quick"].tolist() == [5, 1, 1, 7, 3]
    assert table.columns.tolist() == ["first", "seconds", "lowest", "highest", "speed"]
    with pytest.raises(ValueError, match="repeats is 0, expected a whole number of 1 or more"):
        compare_times({"one": int}, repeats=0)


def test_a_target_is_reached_at_the_first_epoch_that_does_or_never():
    history = pd.DataFrame({"seconds": [1.0, 2.5, 4.0], "val_acc": [0.5, 0.9, 0.8]})
    assert seconds_to_accuracy(history, 0.5) == 1.0
    assert seconds_to_accuracy(history, 0.7) == 2.5
    assert seconds_to_accuracy(history, 0.9) == 2.5
    assert seconds_to_accuracy(history, 0.91) == inf


@pytest.mark.parametrize("target", [0, -0.1, 90, float("nan")])
def test_a_target_outside_0_1_is_refused(target):
    with pytest.raises(ValueError, match=r"expected a share of images, such as 0\.9"):
        seconds_to_accuracy(pd.DataFrame({"seconds": [1.0], "val_acc": [0.5]}), target)


def test_a_stopwatch_goes_on():
    watch = Stopwatch()
    watch({"epoch": 1})
    watch()
    assert 0 <= watch.seconds[0] <= watch.seconds[1]


def test_the_rate_is_operations_over_seconds(monkeypatch):
    ticks = iter([0, 5, 10, 12])  # a product in 5 seconds, one in 2
    monkeypatch.setattr(time, "perf_counter", lambda: next(ticks))
    assert product_rate(size=16, repeats=2) == 2 * 16**3 / 2
