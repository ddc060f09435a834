"""Best-of-N over HTTP, held against the evaluation's own: a real server, and the demo's policy behind an address."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.policy import draw_questions, write
from demo.policy_server import PolicyServer
from evaluation.orchestrated import main
from evaluation.runs import Outcome, Tried, at_tokens, first_past
from tests.evaluation.made_up import finish, table
from tests.service.running import Running, shared


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Running:
    return shared(request.session)


@pytest.fixture(scope="module")
def policy() -> Iterator[PolicyServer]:
    with PolicyServer() as policy:
        yield policy


@pytest.fixture(scope="module")
def run(server: Running, policy: PolicyServer, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("orchestrated")
    data = folder / "candidates.jsonl"
    write(data, draw_questions("test", 0, 6), 0, 4)
    arguments = ("--candidates", data, "--generator", policy.url, "--url", server.url, "--out", folder)
    sizes = ("--n", 4, "--parity-n", 4, "--stop-n", 4, "--beams", "1x2")
    assert finish(main, *arguments, *sizes) == 0
    return folder


def test_every_candidate_is_the_evaluations_own(run: Path) -> None:
    rows = table(run, "Over HTTP as in the evaluation")
    assert [(row["equal"], row["of"]) for row in rows] == [(24, 24), (24, 24), (6, 6), (6, 6)]


def test_the_curve_the_beam_and_the_stops_are_there(run: Path) -> None:
    curve = table(run, "Best-of-N")
    assert [row["candidates"] for row in curve] == [1, 2, 4]
    assert curve[0]["tokens"] < curve[1]["tokens"] < curve[2]["tokens"]
    (beam,) = table(run, "Step beam at equal tokens")
    assert beam["from"] <= beam["difference"] <= beam["to"]
    stops = table(run, "Early stop")
    assert len(stops) == 4
    assert all(row["candidates"] <= stops[0]["candidates"] == 4 for row in stops)


@pytest.mark.parametrize("beam", ["2", "x", "0x2", "2x-1"])
def test_a_beam_that_is_none_is_refused(tmp_path: Path, beam: str) -> None:
    arguments = ("--candidates", tmp_path / "none", "--generator", "http://127.0.0.1:9/v1", "--out", tmp_path)
    assert finish(main, *arguments, "--url", "http://127.0.0.1:9", "--beams", beam) == 1


def outcome(*tried: tuple[bool, float | None]) -> Outcome:
    return Outcome(False, tuple(Tried("", right, score, 10) for right, score in tried), "").first(len(tried))


def test_between_two_sizes_accuracy_lies_on_the_line_that_joins_them() -> None:
    whole = [outcome((False, 0.1), (True, 0.9)), outcome((True, 0.5), (True, None))]
    assert at_tokens(whole, 10) == [0, 1]
    assert at_tokens(whole, 15) == [0.5, 1]
    assert at_tokens(whole, 20) == [1, 1]
    # Nothing is claimed beyond what was drawn, or before the first.
    assert (at_tokens(whole, 5), at_tokens(whole, 99)) == ([0, 1], [1, 1])


def test_the_threshold_is_the_lowest_that_loses_no_more_than_it_may() -> None:
    found = [outcome((False, 0.5), (True, 0.9)), outcome((True, 0.8), (False, 0.1)), outcome((True, 0.95), (True, 0.2))]
    assert first_past(found, 0.0) == 0.8
    assert first_past(found, 0.34) == 0.1
