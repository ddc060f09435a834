"""The server that the adapters are tested with, and scorers over it."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from steelyard.trainers import Options, Scorer
from tests.service.running import Running, shared


@pytest.fixture(scope="module")
def url(request: pytest.FixtureRequest) -> str:
    server: Running = shared(request.session)
    return server.url


@pytest.fixture
def scoring(url: str) -> Iterator[Callable[[Options], Scorer]]:
    """Scorers that are closed with the test."""
    with ExitStack() as scorers:
        yield lambda options: scorers.enter_context(Scorer(url, options=options))
