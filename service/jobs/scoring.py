"""One group of a job on its way through the scoring that calls take too."""

from collections.abc import Awaitable, Callable

from service.answer import whole
from service.scoring import Scoring
from steelyard.schema import ScoreOutcomesResponse, ScoreRequest, ScoreStepsResponse

Answer = ScoreStepsResponse | ScoreOutcomesResponse
Score = Callable[[ScoreRequest, str], Awaitable[Answer]]


def scorer(scoring: Scoring) -> Score:
    """What answers a request of a caller; it raises what refuses it."""

    async def score(request: ScoreRequest, caller: str) -> Answer:
        flight = scoring.open(request, caller)
        with flight.attended():
            group = await flight.group()
        return whole(group, flight.results)

    return score
