"""Selections in the journal's tables against selections written down plainly."""

import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.data.journal import Journal
from steelyard.data.pipeline import Place, ScoredSpan
from steelyard.data.records import Outcome, Rejected
from steelyard.data.selection import Selection, choose, choose_pairs


@dataclass(frozen=True, slots=True)
class Candidate:
    """A candidate as the tests draw it: equal texts to equal prompts are copies."""

    prompt: int
    text: int
    score: float | None

    @property
    def key(self) -> tuple[int, int]:
        return self.prompt, self.text


SCORES = st.none() | st.sampled_from([-1.5, 0.0, 0.25, 0.5, 0.75, 1.0])
CANDIDATES = st.lists(st.builds(Candidate, st.integers(0, 4), st.integers(0, 5), SCORES), min_size=1, max_size=40)
SELECTIONS = st.builds(
    Selection, st.none() | st.sampled_from([-2.0, 0.25, 0.6]), st.none() | st.integers(1, 3), st.booleans()
)
Placed = list[tuple[int, Candidate]]


@contextmanager
def journal_of(drawn: Sequence[Candidate]) -> Iterator[tuple[Journal, Placed]]:
    """A record a candidate, in spans of five; a copy has its first's score, and a bad record stands at the end."""
    firsts: dict[tuple[int, int], Candidate] = {}
    placed = [(record, firsts.setdefault(each.key, each)) for record, each in enumerate(drawn)]
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / "journal") as journal:
        journal.begin({})
        sent: set[tuple[int, int]] = set()
        for start in range(0, len(placed), 5):
            part = placed[start : start + 5]
            fresh = {each.key: each for _, each in part if each.key not in sent}
            sent |= set(fresh)
            places = [Place(record, 0, "", bytes([each.prompt]), bytes(each.key)) for record, each in part]
            outcomes = {
                bytes(key): Outcome("failed" if each.score is None else "ok", each.score) for key, each in fresh.items()
            }
            journal.add(ScoredSpan(part[-1][0] + 1, places, (), outcomes))
        end = len(placed)
        journal.add(ScoredSpan(end + 1, [], (Rejected(end, "", "malformed", "no JSON"),), {}))
        yield journal, placed


def chosen(journal: Journal) -> list[int]:
    return [record for (record,) in journal.database.execute("SELECT record FROM temp.chosen ORDER BY record, number")]


def plainly(placed: Placed, selection: Selection, *, scored_alone: bool) -> list[int]:
    left, seen = [], set()
    for record, each in placed:
        if not (selection.deduplicate and each.key in seen):
            left.append((record, each))
        seen.add(each.key)
    if scored_alone or selection.needs_scores:
        left = [(record, each) for record, each in left if each.score is not None]
    if selection.min_score is not None:
        left = [(record, each) for record, each in left if (each.score or 0.0) >= selection.min_score]
    if selection.top is not None:
        best = []
        for prompt in range(5):
            own = [(record, each) for record, each in left if each.prompt == prompt]
            best += sorted(own, key=lambda pair: (-(pair[1].score or 0.0), pair[0]))[: selection.top]
        left = best
    return sorted(record for record, _ in left)


@settings(deadline=None, max_examples=60)
@given(CANDIDATES, SELECTIONS, st.booleans())
def test_chosen_are_those_that_the_rules_leave(
    drawn: list[Candidate], selection: Selection, scored_alone: bool
) -> None:
    with journal_of(drawn) as (journal, placed):
        choose(journal.database, selection, scored_alone=scored_alone)
        assert chosen(journal) == plainly(placed, selection, scored_alone=scored_alone)


@settings(deadline=None, max_examples=60)
@given(CANDIDATES, st.sampled_from([0.0, 0.5, 1.0]), st.none() | st.sampled_from([0.0, 0.6]))
def test_pairs_are_the_best_and_the_worst(drawn: list[Candidate], margin: float, least: float | None) -> None:
    with journal_of(drawn) as (journal, placed):
        choose_pairs(journal.database, margin, least)
        query = "SELECT record, other_record, own, other FROM temp.pairs WHERE best ORDER BY record"
        found = journal.database.execute(query).fetchall()
        mirrored = "SELECT other_record, record, other, own FROM temp.pairs WHERE NOT best ORDER BY other_record"
        assert journal.database.execute(mirrored).fetchall() == found
    by_prompt = defaultdict(list)
    for record, each in placed:
        if each.score is not None:
            by_prompt[each.prompt].append((-each.score, record))
    expected = []
    for own in by_prompt.values():
        (high, best), (low, worst) = min(own), max(own)
        if high < low and low - high >= margin and (least is None or -high >= least):
            expected.append((best, worst, -high, -low))
    assert found == sorted(expected)


def test_a_bad_record_is_never_chosen() -> None:
    with journal_of([Candidate(0, 0, None)]) as (journal, _):
        choose(journal.database, Selection(), scored_alone=False)
        assert chosen(journal) == [0]
        assert [each.outcome.status for each in journal.scored()] == ["failed", "malformed"]
