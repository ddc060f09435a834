"""What `steelyard` does: `score`, `rank` and `models` here, `jobs`, `filter` and `audit` beside."""

import os
import shutil
import sys
from collections.abc import Sequence

from steelyard.arguments import Arguments
from steelyard.candidates import Candidate, read_candidates, text_of
from steelyard.client import Client
from steelyard.display import visible
from steelyard.errors import InvalidCall
from steelyard.job_command import run_jobs
from steelyard.retry import Retry
from steelyard.schema import ScoreOutcomesResponse, ScoreStepsResponse
from steelyard.served import choose
from steelyard.table import Style, outcome_table, question_lines, rank_table, step_table

_SCORED, _SOME_UNSCORED = 0, 3
# A person waits: give up after seconds, not minutes.
_RETRIES = 3
# For the server to say itself that the deadline passed.
_GRACE_S = 5.0


def run(given: Arguments) -> int:
    """The exit code. Raises SteelyardError."""
    if given.command == "audit":
        from steelyard.audit_command import run_audit

        return run_audit(given)
    timeout_s = None if given.timeout is None else given.timeout + _GRACE_S
    if given.command == "filter":
        from steelyard.filter_command import run_filter

        return run_filter(given, timeout_s)
    if given.command == "jobs":
        # Hours of work outlive a restart of the server.
        with Client(given.url, timeout_s=timeout_s) as client:
            return run_jobs(client, given)
    with Client(given.url, retry=Retry(max_retries=_RETRIES), timeout_s=timeout_s) as client:
        return _DO[given.command](client, given)


def _list_models(client: Client, given: Arguments) -> int:
    served = client.models()
    rows = [(model.name, model.kind, model.family, model.provenance.dtype) for model in served.data]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    _write(served.model_dump_json() if given.json else "\n".join(map(visible, lines)))
    return _SCORED


def _score(client: Client, given: Arguments) -> int:
    candidates = read_candidates(given)
    model = choose(client.models().data, given.model)
    if model.kind == "steps":
        answer: ScoreStepsResponse | ScoreOutcomesResponse = _score_steps(client, given, model.name, candidates)
    else:
        answer = _score_outcomes(client, given, model.name, candidates)
    _write(answer.model_dump_json() if given.json else _drawn(answer, given.question, candidates))
    return _SCORED if len(answer.ranking) == len(answer.results) else _SOME_UNSCORED


def _rank(client: Client, given: Arguments) -> int:
    candidates = read_candidates(given)
    if given.blend and given.model is not None:
        raise InvalidCall("--model and --blend: one or the other")
    answer = client.rank(
        given.question,
        given.image,
        candidates,
        model=given.model,
        blend=dict(given.blend) or None,
        normalize=given.normalize,
        aggregate=given.aggregate or "mean",
        max_tiles=given.max_tiles,
        deadline_ms=_deadline_ms(given),
    )
    texts = [text_of(candidate) for candidate in candidates]
    style = _style()
    lines = [*question_lines(given.question, style), "", *rank_table(answer, texts, style)]
    _write(answer.model_dump_json() if given.json else "\n".join(lines))
    return _SCORED if len(answer.ranking) == len(answer.results) else _SOME_UNSCORED


def _score_steps(client: Client, given: Arguments, model: str, candidates: Sequence[Candidate]) -> ScoreStepsResponse:
    return client.score_steps(
        given.question,
        given.image,
        candidates,
        model=model,
        max_tiles=given.max_tiles,
        aggregate=given.aggregate or "mean",
        priority="online",
        deadline_ms=_deadline_ms(given),
    )


def _score_outcomes(
    client: Client, given: Arguments, model: str, candidates: Sequence[Candidate]
) -> ScoreOutcomesResponse:
    if given.aggregate is not None:
        raise InvalidCall(f"--aggregate: {model} scores whole answers, not steps")
    return client.score_outcomes(
        [{"role": "user", "content": given.question}],
        [text_of(candidate) for candidate in candidates],
        given.image,
        model=model,
        max_tiles=given.max_tiles,
        priority="online",
        deadline_ms=_deadline_ms(given),
    )


def _deadline_ms(given: Arguments) -> int | None:
    return None if given.timeout is None else max(1, round(given.timeout * 1000))


def _drawn(answer: ScoreStepsResponse | ScoreOutcomesResponse, question: str, candidates: Sequence[Candidate]) -> str:
    style = _style()
    texts = [text_of(candidate) for candidate in candidates]
    if isinstance(answer, ScoreStepsResponse):
        lines = step_table(answer, texts, style)
    else:
        lines = outcome_table(answer, texts, style)
    return "\n".join([*question_lines(question, style), "", *lines])


def _style() -> Style:
    return Style(shutil.get_terminal_size().columns, sys.stdout.isatty() and not os.environ.get("NO_COLOR"))


def _write(text: str) -> None:
    """UTF-8 whatever the locale: JSON must be, and bars cannot be anything else."""
    sys.stdout.buffer.write(text.encode("utf-8", "backslashreplace") + b"\n")


_DO = {"score": _score, "rank": _rank, "models": _list_models}
