"""The server under fire, and the neighbour who must not notice."""

import threading
from collections.abc import Iterator

import httpx2
import pytest

from tests.service.hostile.pictures import PICTURE
from tests.service.hostile.sending import BODY_LIMIT, PATIENCE_S
from tests.service.running import Running, running, same_scores, scored, shared

NEIGHBOUR = {
    "question": "What does the neighbour get?",
    "images": [PICTURE],
    "candidates": ["The same scores.\n\nAlways.", ["Whatever", "comes."], ""],
    "max_tiles": 2,
}


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Running:
    return shared(request.session)


@pytest.fixture(scope="module")
def guarded() -> Iterator[Running]:
    """A server with a key and a small limit of bodies."""
    with running("--api-key", "key", "--max-body-bytes", str(BODY_LIMIT)) as server:
        yield server


@pytest.fixture(scope="module")
def api(server: Running) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture(autouse=True)
def _neighbour(server: Running) -> Iterator[None]:
    """Beside each test another caller scores one group over and over, and gets what it always got; nothing breaks."""
    logged = len(server.logged())
    with httpx2.Client(base_url=server.url, timeout=PATIENCE_S) as client:
        expected = scored(client.post("/score_steps", json=NEIGHBOUR))
        over, answered = threading.Event(), threading.Event()
        answers: list[httpx2.Response] = []

        def call() -> None:
            while not over.is_set() or not answers:
                answers[:] = [client.post("/score_steps", json=NEIGHBOUR)]
                answered.set()
                if answers[0].status_code != 200 or not same_scores(scored(answers[0]), expected):
                    return

        thread = threading.Thread(target=call)
        thread.start()
        try:
            yield
            answered.clear()
            assert answered.wait(PATIENCE_S), "the neighbour gets no answer any more"
        finally:
            over.set()
            thread.join(PATIENCE_S)
    assert same_scores(scored(answers[0]), expected)
    assert "Traceback" not in server.logged()[logged:]
