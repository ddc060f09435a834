"""What a trainer hands over and what comes back for it, whichever trainer it is."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from steelyard.errors import SteelyardError
from steelyard.messages import MessageLike
from steelyard.pictures import PictureLike

# A picture as data sets hold it: any of the client's forms, or `{"bytes": …, "path": …}` of `datasets`.
PictureSource: TypeAlias = "PictureLike | Mapping[str, object]"
QuestionLike: TypeAlias = "str | Sequence[MessageLike]"
Response: TypeAlias = str | Sequence[str]
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Sample:
    """One response of the policy, with what it answers.

    A question is a text or a conversation. Its pictures are `images`, placed by `<image>` in the text or by
    `{"type": "image"}` parts, else before it; a part may also bring its own. A response is a text, or its steps.
    """

    question: QuestionLike
    images: Sequence[PictureSource]
    response: Response


@dataclass(frozen=True, slots=True)
class SampleScore:
    """What became of one sample: a score when `status` is `ok`, else None and why.

    `status` is the wire's own for a candidate, or the code of the error that ended its whole call
    (`connection_failed`, `unavailable`, `invalid_picture` …). Step scores are P(+) of each step and spans are code
    points of the response (its steps joined by a blank line); both are empty for outcome models.
    """

    status: str
    score: float | None = None
    step_scores: tuple[float, ...] = ()
    step_spans: tuple[tuple[int, int], ...] = ()
    detail: str | None = None

    @property
    def reason(self) -> str:
        """Status and detail in one line."""
        return f"{self.status}: {self.detail}" if self.detail else self.status


class NotScored(SteelyardError):
    """Some samples have no score, and the trainer has no way to pass them over; `unscored` is by place."""

    def __init__(self, unscored: Mapping[int, SampleScore], total: int) -> None:
        self.unscored = dict(unscored)
        self.total = total
        named = "; ".join(f"{place}: {score.reason}" for place, score in list(self.unscored.items())[:_NAMED])
        more = len(self.unscored) - _NAMED
        super().__init__(
            f"{len(self.unscored)} of {total} samples have no score: {named}{f'; and {more} more' if more > 0 else ''}"
        )

    def __reduce__(self) -> tuple[type["NotScored"], tuple[dict[int, SampleScore], int]]:
        return type(self), (self.unscored, self.total)


def scores_of(results: Sequence[SampleScore]) -> list[float]:
    """The scores, when every sample has one. Raises NotScored."""
    unscored = {place: result for place, result in enumerate(results) if result.score is None}
    if unscored:
        raise NotScored(unscored, len(results))
    return [result.score for result in results if result.score is not None]
