"""Calls take turns on as few connections as there are calls at once."""

import pytest

from steelyard import Client
from steelyard.lanes import Lanes
from tests.client.answers import serves
from tests.client.scripted import scripted


def test_the_lane_that_was_used_last_is_used_next() -> None:
    lanes = Lanes(iter(range(10)).__next__)
    with lanes.lent() as first, lanes.lent() as second:
        assert (first, second) == (0, 1)
    with lanes.lent() as again:
        assert again == 0
    assert lanes.closing() == [0, 1]


def test_a_lane_comes_back_from_a_call_that_failed() -> None:
    lanes = Lanes(iter(range(10)).__next__)
    with pytest.raises(OSError, match="lost"), lanes.lent():
        raise OSError("lost")
    with lanes.lent() as again:
        assert again == 0


def test_a_closed_client_makes_no_more_calls() -> None:
    with scripted(serves) as server:
        client = Client(server.url)
        client.score_steps("Which?", [], ["x"])
        client.close()
        with pytest.raises(RuntimeError, match="closed"):
            client.score_steps("Which?", [], ["x"])
        unused = Client(server.url)
        unused.close()
        with pytest.raises(RuntimeError, match="closed"):
            unused.models()
    assert len(server.seen) == 1
