"""The server that most tests here use, and a client of it."""

from collections.abc import Iterator

import httpx2
import pytest

from tests.service.running import Running, shared


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Running:
    return shared(request.session)


@pytest.fixture(scope="module")
def api(server: Running) -> Iterator[httpx2.Client]:
    with server.client() as client:
        yield client
