"""Plans have the rates that they are asked for, and are the same for the same seed."""

import itertools
import statistics
from collections import Counter

import pytest

from loadtest.__main__ import read_bursts
from loadtest.arrivals import Arrival, bursts, merge, poisson, share
from loadtest.generators import Load, processes_for


def test_poisson_arrivals_have_the_rate_and_independent_gaps() -> None:
    times = [arrival.at_s for arrival in poisson(50, 400, "train", seed=1)]
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    # Four standard deviations of a count of 20,000.
    assert len(times) == pytest.approx(20_000, abs=4 * 20_000**0.5)
    assert times == sorted(times)
    assert 0 <= times[0] < times[-1] < 400
    # An exponential gap spreads as far as its mean; evenly spaced ones would not spread at all.
    assert statistics.stdev(gaps) == pytest.approx(statistics.mean(gaps), rel=0.05)


def test_the_seed_makes_the_plan() -> None:
    assert list(poisson(20, 10, "train", seed=3)) == list(poisson(20, 10, "train", seed=3))
    assert list(poisson(20, 10, "train", seed=3)) != list(poisson(20, 10, "train", seed=4))


def test_two_series_of_one_seed_do_not_arrive_together() -> None:
    train = {arrival.at_s for arrival in poisson(20, 10, "train", seed=3)}
    assert train.isdisjoint(arrival.at_s for arrival in poisson(20, 10, "online", seed=3))


def test_no_rate_is_no_arrivals() -> None:
    assert list(poisson(0, 10, "train", seed=0)) == []


def test_a_trainer_sends_its_groups_at_once_and_then_learns() -> None:
    counted = Counter(arrival.at_s for arrival in bursts(64, 10, 30, "train"))
    assert counted == {0.0: 64, 10.0: 64, 20.0: 64}


def test_a_merged_plan_is_in_the_order_of_time() -> None:
    plan = list(merge(poisson(20, 5, "train", 0), bursts(3, 1, 5, "batch")))
    assert plan == sorted(plan, key=lambda arrival: arrival.at_s)
    assert Counter(arrival.priority for arrival in plan)["batch"] == 15


def test_generators_send_every_arrival_once_between_them() -> None:
    plan = list(Load(seconds=5, rate=40, online_rate=7, burst=3, burst_every_s=2).plan())
    parts: list[Arrival] = [arrival for index in range(3) for arrival in share(plan, index, 3)]
    assert sorted(parts, key=lambda arrival: arrival.at_s) == plan


def test_a_rate_that_one_generator_can_make_needs_one() -> None:
    assert processes_for(Load(seconds=1, rate=1_000)) == 1


def test_bursts_are_read_from_the_command_line() -> None:
    assert read_bursts("64x2.5") == (64, 2.5)
    for wrong in ("64", "0x3", "3x0", "ax3", "3xnan"):
        with pytest.raises(Exception, match=wrong):
            read_bursts(wrong)
