"""Cases against a running server."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from types import TracebackType

import httpx2

from steelyard.schema import (
    ScoreOutcomesRequest,
    ScoreOutcomesResponse,
    ScoreRequest,
    ScoreStepsRequest,
    ScoreStepsResponse,
)


class Refused(Exception):
    """The server answered with an error object."""


class OverHttp:
    """Scores by `POST /score_steps` and `/score_outcomes`."""

    def __init__(self, url: str) -> None:
        self._client = httpx2.Client(base_url=url, timeout=600)

    def __enter__(self) -> "OverHttp":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def score(self, request: ScoreStepsRequest) -> ScoreStepsResponse:
        """Raises Refused for anything but 200."""
        return ScoreStepsResponse.model_validate_json(self._post("/score_steps", request))

    def score_outcomes(self, request: ScoreOutcomesRequest) -> ScoreOutcomesResponse:
        """Raises Refused for anything but 200."""
        return ScoreOutcomesResponse.model_validate_json(self._post("/score_outcomes", request))

    def score_together(self, requests: Sequence[ScoreStepsRequest]) -> list[ScoreStepsResponse]:
        """All at once, so that they may share a batch."""
        with ThreadPoolExecutor(len(requests)) as pool:
            return list(pool.map(self.score, requests))

    def _post(self, path: str, request: ScoreRequest) -> bytes:
        headers = {"content-type": "application/json"}
        response = self._client.post(path, content=request.model_dump_json(), headers=headers)
        if response.status_code != 200:
            raise Refused(f"{response.status_code} {response.text[:300]}")
        return response.content
