"""What is written of the chosen candidates: records with scores, scores alone, preference pairs or step labels."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any, Literal

from steelyard.candidates import text_of
from steelyard.data.columns import Columns, spoken
from steelyard.data.journal import Journal, Scored
from steelyard.data.records import Outcome
from steelyard.data.sources import Block, Rows, Source
from steelyard.errors import InvalidCall

Form = Literal["records", "scores", "pairs", "step-labels"]
FORMS: tuple[Form, ...] = ("records", "scores", "pairs", "step-labels")
_INDEX = "candidate_index"
_CHOSEN = "JOIN temp.chosen USING (record, number)"
_PAIRED = "JOIN temp.pairs USING (record, number)"


def added_names(columns: Columns, prefix: str) -> list[str]:
    """The columns that `records` adds."""
    index = [_INDEX] if columns.candidates else []
    return [prefix + name for name in [*_fields(Outcome("", 0.0), columns), *index]]


def records(source: Source, journal: Journal, columns: Columns, prefix: str) -> Iterator[Rows]:
    """The records with a chosen candidate, and its outcome; of a list of candidates those that were chosen are left."""
    for block, found in _blocks(source, journal.scored(_CHOSEN)):
        by_record = [list(each) for _, each in groupby(found, lambda scored: scored.record)]
        places = [each[0].record - block.first for each in by_record]
        added = _added(block, by_record, places, columns, prefix)
        yield block.extended(places, added, several=columns.candidates is not None)


def scores(journal: Journal, columns: Columns, *, rejected_too: bool) -> Iterator[Rows]:
    """A row a candidate, with its place in the data set; records that had none to score have one row."""
    found = journal.scored() if rejected_too else journal.scored(_CHOSEN)
    for scored in found:
        yield [{"record": scored.record, "candidate": scored.number, **_fields(scored.outcome, columns)}]


def step_labels(source: Source, journal: Journal, columns: Columns, threshold: float) -> Iterator[Rows]:
    """TRL's process rewards: `prompt`, `completions` (the steps), `labels` (whether a step reaches the threshold)."""
    for row, scored in _rows(source, journal.scored(_CHOSEN)):
        prompt, candidates = spoken(row, columns)
        text, outcome = text_of(candidates[scored.number]), scored.outcome
        assert outcome.step_scores is not None
        assert outcome.step_spans is not None
        yield [
            {
                "prompt": prompt,
                **_pictures(row, columns),
                "completions": [text[start:end] for start, end in outcome.step_spans],
                "labels": [score >= threshold for score in outcome.step_scores],
            }
        ]


def pairs(source: Source, journal: Journal, columns: Columns) -> Iterator[Rows]:
    """TRL's preferences, `prompt`, `chosen` and `rejected`: in the order in which a pair's second half is read.

    The half that comes first waits in a table.
    """
    database = journal.database
    database.execute("CREATE TEMP TABLE IF NOT EXISTS halves (record, number, text, PRIMARY KEY (record, number))")
    query = "SELECT other_record, other_number, best, own, other FROM temp.pairs WHERE record = ? AND number = ?"
    for row, scored in _rows(source, journal.scored(_PAIRED)):
        prompt, candidates = spoken(row, columns)
        text = text_of(candidates[scored.number])
        *other, is_best, score, other_score = database.execute(query, (scored.record, scored.number)).fetchone()
        half = database.execute("SELECT text FROM halves WHERE record = ? AND number = ?", other).fetchone()
        if half is None:
            database.execute("INSERT INTO halves VALUES (?, ?, ?)", (scored.record, scored.number, text.encode()))
            continue
        database.execute("DELETE FROM halves WHERE record = ? AND number = ?", other)
        best, worst = (text, half[0].decode()) if is_best else (half[0].decode(), text)
        high, low = (score, other_score) if is_best else (other_score, score)
        yield [
            {
                "prompt": prompt,
                **_pictures(row, columns),
                "chosen": _answer(best, prompt),
                "rejected": _answer(worst, prompt),
                "score_chosen": high,
                "score_rejected": low,
            }
        ]


def _added(
    block: Block, by_record: Sequence[Sequence[Scored]], places: Sequence[int], columns: Columns, prefix: str
) -> Mapping[str, list[Any]]:
    names = added_names(columns, prefix)
    fields = [[_fields(scored.outcome, columns) for scored in each] for each in by_record]
    if columns.candidates is None:
        return {prefix + name: [each[0][name] for each in fields] for name in _fields(Outcome(""), columns)}
    added: dict[str, list[Any]] = {
        prefix + name: [[candidate[name] for candidate in each] for each in fields]
        for name in _fields(Outcome(""), columns)
    }
    added[names[-1]] = [[scored.number for scored in each] for each in by_record]
    whole = block.column(columns.candidates, places)
    added[columns.candidates] = [
        [candidates[scored.number] for scored in each] for candidates, each in zip(whole, by_record, strict=True)
    ]
    return added


def _fields(outcome: Outcome, columns: Columns) -> dict[str, object]:
    found: dict[str, object] = {
        "score": outcome.score,
        "score_status": outcome.status,
        "score_detail": outcome.detail,
    }
    if columns.kind == "steps":
        found |= {name: getattr(outcome, name) for name in ("step_scores", "step_logits", "step_spans")}
    return found


def _rows(source: Source, chosen: Iterator[Scored]) -> Iterator[tuple[Mapping[str, object], Scored]]:
    for block, found in _blocks(source, chosen):
        places = sorted({scored.record - block.first for scored in found})
        rows = dict(zip(places, block.rows(places), strict=True))
        for scored in found:
            yield rows[scored.record - block.first], scored


def _blocks(source: Source, chosen: Iterable[Scored]) -> Iterator[tuple[Block, list[Scored]]]:
    """Blocks of which something is chosen, with what is."""
    waiting = iter(chosen)
    following = next(waiting, None)
    for block in source.blocks():
        found = []
        while following is not None and following.record < block.first + block.count:
            found.append(following)
            following = next(waiting, None)
        if found:
            yield block, found
        if following is None:
            return
    raise InvalidCall("the data set has become shorter since it was scored")


def _pictures(row: Mapping[str, object], columns: Columns) -> dict[str, object]:
    return {} if columns.images is None else {"images": row.get(columns.images)}


def _answer(text: str, prompt: object) -> object:
    """As the prompt is: a text, or messages."""
    return text if isinstance(prompt, str) else [{"role": "assistant", "content": text}]
