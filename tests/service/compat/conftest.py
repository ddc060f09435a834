"""A server of both trained demo models, which these tests share, and what they ask it."""

from collections.abc import Iterator

import httpx2
import pytest

from service.settings import DEMO
from tests.service.compat.asked import PICTURE
from tests.service.running import Running, running

MODELS = ("--model", f"visualprm={DEMO / 'visualprm'}", "--model", f"ixc_reward={DEMO / 'ixc_reward'}")


@pytest.fixture(scope="package")
def server() -> Iterator[Running]:
    with running(*MODELS) as server:
        yield server


@pytest.fixture(scope="package")
def api(server: Running) -> Iterator[httpx2.Client]:
    with server.client() as client:
        client.put("/images", content=PICTURE.read_bytes()).raise_for_status()
        yield client
