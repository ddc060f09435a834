"""IXC-2.5-Reward's golden cases as callers send them: scores, or the answer that takes a score's place."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from models.ixc_reward.prompt import MARKER, MAX_TOKENS
from service.errors import ServiceError
from steelyard.schema import OutcomeScore, ScoreOutcomesRequest, ScoreOutcomesResponse
from tests.conformance.ixc_requests import Case, conversations_of, forms, together
from tests.conformance.over_http import Refused
from tests.conformance.report import Verdict

_NO_MODEL = "no score: layouts or frame numbers alone"
_RAW = "not on the wire: a prompt without the template"
_CUT = "not on the wire: another max_length, which cuts this prompt"
_FRONT = "not on the wire: a video before the first turn"
_FILE = "not on the wire: a video file (its frames are)"
_GONE = "not on the wire: a file that is missing"


class Backend(Protocol):
    """A server, or its parts in this process."""

    def score_outcomes(self, request: ScoreOutcomesRequest) -> ScoreOutcomesResponse: ...


def verdicts(rows: Sequence[Case], backend: Backend, folder: Path) -> Iterator[Verdict]:
    """One verdict a case; the note says why it is not sent, or what took the place of a score."""
    for case in rows:
        verdict = Verdict(case["id"], note=why_not_sent(case, folder) or "")
        try:
            if not verdict.note:
                _check(verdict, case, backend, folder)
        except Exception as error:  # noqa: BLE001 - one case must not end the run
            verdict.differences.append(f"{type(error).__name__}: {error}")
        yield verdict


def why_not_sent(case: Case, folder: Path) -> str | None:
    """None for what the wire can say."""
    notes = {"geometry": _NO_MODEL, "layout": _NO_MODEL, "video_sampling": _NO_MODEL}
    notes |= {"video_file": _FILE, "video_frames": _FRONT}
    if case["type"] in notes:
        return notes[case["type"]]
    if not case["options"].get("apply_template", True):
        return _RAW
    if all(score is None for score in _expected(case)):
        return _CUT
    names = [name for _, pictures in conversations_of(case) for name in pictures]
    return None if all((folder / name).is_file() for name in names) else _GONE


def _check(verdict: Verdict, case: Case, backend: Backend, folder: Path) -> None:
    pairs = zip(conversations_of(case), _expected(case), strict=True)
    sendable = [(conversation, score) for conversation, score in pairs if score is not None]
    conversations, expected = [sent for sent, _ in sendable], [score for _, score in sendable]
    options = {"max_tiles": case["options"].get("hd_num")}
    trouble = _trouble(case)
    try:
        request = ScoreOutcomesRequest.model_validate(together(conversations, folder) | options)
        results = backend.score_outcomes(request).results
    except (ServiceError, Refused, ValueError) as error:
        verdict.note = f"{trouble}; refused: {' '.join(str(error).split()):.200}"
        verdict.exactly("refused although the reference has a score", bool(trouble), True)
        return
    if trouble:
        verdict.note = _check_status(verdict, case, trouble, results)
        return
    _check_scores(verdict, "scores", expected, results)
    if case["type"] == "compare":
        first, second = (result.score or 0.0 for result in results)
        verdict.exactly("first_better", first > second, case["expected"]["first_better"])
    for (turns, names), score in sendable:
        for form, fields in forms(turns, names, folder):
            request = ScoreOutcomesRequest.model_validate(fields | options)
            _check_scores(verdict, f"score {form}", [score], backend.score_outcomes(request).results)


def _check_scores(verdict: Verdict, what: str, expected: Sequence[float], results: Sequence[OutcomeScore]) -> None:
    verdict.exactly(f"{what}: statuses", [result.status for result in results], ["ok"] * len(expected))
    verdict.closely(what, [result.score for result in results if result.score is not None], expected)


def _check_status(verdict: Verdict, case: Case, trouble: str, results: Sequence[OutcomeScore]) -> str:
    """Answered where the reference has no score worth comparing; returns the note."""
    (result,) = results
    if case["expected"].get("warned_count_mismatch"):
        marked = any(MARKER in turn["content"] for turn in case["conversation"])
        verdict.exactly("scored though markers are there", marked, False)
        verdict.exactly("status", result.status, "ok")
        return f"{trouble}; scored with the pictures before the first turn"
    verdict.exactly("status", result.status, "bad_image" if "error" in case["expected"] else "too_long")
    verdict.exactly("score", result.score, None)
    return f"{trouble}; {result.status}: {result.detail}"


def _trouble(case: Case) -> str:
    """What keeps the reference's answer from being the score of the whole prompt; empty when nothing does."""
    expected = case["expected"]
    if "error" in expected:
        return f"the reference raises {expected['error']:.60}"
    if expected.get("warned_count_mismatch"):
        return "the reference warns"
    return "the reference cuts" if expected.get("length_before_truncation", 0) > MAX_TOKENS else ""


def _expected(case: Case) -> list[float | None]:
    """A number for each conversation, None where a max_length of its own cut it; a placeholder where it raises."""
    expected, limit = case["expected"], case["options"].get("max_length")
    if case["type"] == "compare":
        return list(expected["scores"])
    if case["type"] == "score":
        cut = limit is not None and expected.get("length_before_truncation", 0) > limit
        return [None if cut else expected.get("score", 0.0)]
    pairs = list(zip(expected["single"], expected["lengths"], strict=False))
    return [None if limit is not None and length >= limit else score for score, length in pairs]
