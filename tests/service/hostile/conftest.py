"""The server under fire, and the neighbour who must not notice."""

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from tests.service.hostile.pictures import PICTURE
from tests.service.hostile.sending import BODY_LIMIT, PATIENCE_S, Answer, answer_of, frames, said, shown
from tests.service.running import Running, running, same_scores

NEIGHBOURS = {
    "/score_steps": {
        "question": "What does the neighbour get?",
        "images": [PICTURE],
        "candidates": ["The same scores.\n\nAlways.", ["Whatever", "comes."], ""],
        "max_tiles": 2,
    },
    "/score_outcomes": {
        "conversations": [
            {"messages": [said("What does the neighbour get?"), said("The same.", "assistant")], "images": [PICTURE]},
            {"messages": [said([shown(PICTURE), {"type": "text", "text": "Always."}, frames(PICTURE, PICTURE)])]},
        ]
    },
}


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
    """Beside each test another caller scores the same groups over and over, and gets the same; nothing breaks."""
    logged = len(server.logged())
    with httpx2.Client(base_url=server.url, timeout=PATIENCE_S) as client:
        expected = {path: _scores(client, path) for path in NEIGHBOURS}
        over, answered = threading.Event(), threading.Event()

        def call() -> bool:
            """True if the scores were the same to the end."""
            while True:
                last = over.is_set()
                if not all(same_scores(_scores(client, path), expected[path]) for path in NEIGHBOURS):
                    return False
                answered.set()
                if last:
                    return True

        with ThreadPoolExecutor(1) as pool:
            calling = pool.submit(call)
            try:
                yield
                answered.clear()
                assert calling.done() or answered.wait(2 * PATIENCE_S), "the neighbour gets no answer any more"
            finally:
                over.set()
            assert calling.result(2 * PATIENCE_S), "the neighbour's scores changed"
    assert "Traceback" not in server.logged()[logged:]


def _scores(client: httpx2.Client, path: str) -> Answer:
    response = client.post(path, json=NEIGHBOURS[path])
    assert response.status_code == 200, response.text[:500]
    return answer_of(response)
