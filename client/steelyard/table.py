"""An answer as a table for people: the best candidate first, a bar for each score."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from steelyard.display import wrap
from steelyard.rank_schema import RankedCandidate, RankResponse
from steelyard.schema import CandidateScore, ScoredGroup, ScoreOutcomesResponse, ScoreStepsResponse, StepScores

_BAR = 10
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_BOLD, _RED, _PLAIN = "\x1b[1m", "\x1b[31m", "\x1b[0m"


@dataclass(frozen=True, slots=True)
class Style:
    """Columns of the terminal, and whether it shows colours."""

    width: int
    colours: bool

    def paint(self, colour: str, text: str) -> str:
        return f"{colour}{text}{_PLAIN}" if self.colours else text


@dataclass(frozen=True, slots=True)
class _Row:
    """A text with its bar, of which the part `full` is filled, and the number that the bar stands for."""

    number: str
    full: float
    text: str


@dataclass(frozen=True, slots=True)
class _Entry:
    """A candidate's result with a row for each step, or one for the whole; without rows it was not scored."""

    result: CandidateScore
    rows: Sequence[_Row]


def question_lines(question: str, style: Style) -> list[str]:
    return ["  " + line for line in wrap(question, style.width - 2)]


def step_table(answer: ScoreStepsResponse, texts: Sequence[str], style: Style) -> list[str]:
    """Each step with its P(+)."""
    return _table([_Entry(result, _step_rows(result, texts[result.index])) for result in answer.results], answer, style)


def outcome_table(answer: ScoreOutcomesResponse, texts: Sequence[str], style: Style) -> list[str]:
    """Each answer with a bar for where it lies between the lowest and the highest score of the group."""
    scores = [result.score for result in answer.results if result.score is not None]
    entries = [_Entry(result, _outcome_rows(result, texts[result.index], scores)) for result in answer.results]
    return _table(entries, answer, style)


def rank_table(answer: RankResponse, texts: Sequence[str], style: Style) -> list[str]:
    """Each candidate with the score that ranks it, a bar as for outcomes, and what each model made of it."""
    scores = [result.score for result in answer.results if result.score is not None]
    entries = [_Entry(result, _rank_rows(result, texts[result.index], scores)) for result in answer.results]
    return _table(entries, answer, style)


def bar(full: float) -> str:
    """Ten columns between two posts, filled by whole eighths of a column."""
    whole, eighths = divmod(int(min(1.0, max(0.0, full)) * _BAR * 8), 8)
    return "▐" + ("█" * whole + _EIGHTHS[eighths].strip()).ljust(_BAR) + "▌"


def _table(entries: Sequence[_Entry], answer: ScoredGroup | RankResponse, style: Style) -> list[str]:
    places = {index: place for place, index in enumerate(answer.ranking)}
    digits = len(str(len(entries) - 1))
    widest = max((len(_figure(entry.result.score)) for entry in entries), default=0)
    lines: list[str] = []
    for entry in sorted(entries, key=lambda entry: places.get(entry.result.index, len(entries))):
        is_best = entry.result.index == answer.best
        head = f"{'★' if is_best else ' '} {entry.result.index:>{digits}}  "
        if entry.rows:
            lead = head + _figure(entry.result.score).rjust(widest)
            lines += _scored(lead, entry.rows, style, is_best=is_best)
        else:
            lines += _unscored(head, entry.result, style)
    return lines


def _scored(lead: str, rows: Sequence[_Row], style: Style, *, is_best: bool) -> Iterator[str]:
    """The candidate's number and score stand before its first row alone."""
    blank = " " * len(lead)
    shown = style.paint(_BOLD, lead) if is_best else lead
    for row in rows:
        cells = f"   {row.number}  {bar(row.full)}  " if row.number else f"  {bar(row.full)}  "
        text, *more = wrap(row.text, style.width - len(lead + cells))
        yield (shown + cells + text).rstrip()
        yield from (blank + " " * len(cells) + line for line in more)
        shown = blank


def _unscored(head: str, result: CandidateScore, style: Style) -> Iterator[str]:
    again = " (worth another try)" if result.retryable else ""
    text, *more = wrap(f"{result.status}{again}: {result.detail or 'not scored'}", style.width - len(head))
    yield head + style.paint(_RED, text)
    yield from (" " * len(head) + style.paint(_RED, line) for line in more)


def _step_rows(result: StepScores, text: str) -> list[_Row]:
    """Empty unless it was scored."""
    spans, scores = result.step_spans or [], result.step_scores or []
    return [_Row(_figure(p), p, text[start:end]) for (start, end), p in zip(spans, scores, strict=True)]


def _rank_rows(result: RankedCandidate, text: str, scores: Sequence[float]) -> list[_Row]:
    """The models' own scores stand before the text; empty unless it was scored."""
    own = ", ".join(f"{name} {_figure(one.score)}" for name, one in result.models.items())
    return _outcome_rows(result, f"({own}) {text}" if len(result.models) > 1 else text, scores)


def _outcome_rows(result: CandidateScore, text: str, scores: Sequence[float]) -> list[_Row]:
    """Empty unless it was scored; where all tie, all bars are full."""
    if result.score is None:
        return []
    low, high = min(scores), max(scores)
    return [_Row("", (result.score - low) / (high - low) if high > low else 1.0, text)]


def _figure(number: float | None) -> str:
    return "" if number is None else f"{number:.2f}"
