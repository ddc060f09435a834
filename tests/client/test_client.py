"""Both clients against the real server."""

import asyncio
import hashlib
import inspect
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

import steelyard
from steelyard import AsyncClient, Client, Retry
from steelyard.errors import InvalidCall, InvalidRequest, ServiceError, UnknownImage, UnknownModel, UnsupportedImage
from steelyard.pictures import PictureLike
from steelyard.schema import ScoreStepsResponse
from tests.client.scripted import forwards, forwards_and_hangs_up, scripted
from tests.service.running import Running, same_scores, scored, shared

ROOT = Path(__file__).parents[2]
CIRCLE = ROOT / "examples" / "circle.png"
QUESTION = "Which shape is red?"
CANDIDATES = ["The picture shows a circle.\n\nIt is red.", ["The picture shows a square.", "It is red."]]
PUTS = "steelyard_requests_total{route=/images,status=200}"
GROUPS, REPLAYED = "steelyard_groups_total{model=visualprm,priority=train}", "steelyard_replayed_groups_total"
CALLS = (
    *("score_steps", "score_outcomes", "score_conversations", "rank", "put_image"),
    *("models", "ready", "sleep", "wake", "reload"),
)


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Running:
    return shared(request.session)


@pytest.fixture
def client(server: Running) -> Iterator[Client]:
    with Client(server.url, retry=Retry(max_retries=0)) as client:
        yield client


def drawn(name: str) -> npt.NDArray[np.uint8]:
    """A picture that no other test has sent."""
    seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:4], "big")
    return np.random.default_rng(seed).integers(0, 256, (30, 40, 3), np.uint8)


def test_a_group_is_scored_as_over_bare_http(server: Running, client: Client) -> None:
    answer = client.score_steps(QUESTION, [CIRCLE], CANDIDATES, aggregate="min", max_tiles=1, id="as-over-http")
    image = client.put_image(CIRCLE)
    body = {"question": QUESTION, "images": [image.id], "candidates": CANDIDATES, "aggregate": "min", "max_tiles": 1}
    with server.client() as bare:
        assert same_scores(answer, scored(bare.post("/score_steps", json=body)))
    assert (answer.id, answer.model, len(answer.results)) == ("as-over-http", "visualprm", 2)
    assert [result.score for result in answer.results] == [min(r.step_scores or ()) for r in answer.results]


async def test_the_async_client_scores_the_same(server: Running, client: Client) -> None:
    async with AsyncClient(server.url) as other:
        answers = await asyncio.gather(*(other.score_steps(QUESTION, [CIRCLE], CANDIDATES) for _ in range(8)))
        assert await other.ready()
        assert await other.models() == client.models()
        assert await other.put_image(CIRCLE) == client.put_image(CIRCLE)
    expected = client.score_steps(QUESTION, [CIRCLE], CANDIDATES)
    assert all(same_scores(answer, expected) for answer in answers)


def test_a_picture_scores_the_same_in_every_form(client: Client) -> None:
    with Image.open(CIRCLE) as image:
        image.load()
    stored = client.put_image(CIRCLE)
    forms: list[PictureLike] = [CIRCLE, str(CIRCLE), CIRCLE.read_bytes(), image, np.asarray(image), stored]
    answers = [client.score_steps(QUESTION, [form], CANDIDATES) for form in forms]
    assert all(same_scores(answer, answers[0]) for answer in answers[1:])


def test_a_stored_picture_says_its_size_and_the_hash_of_its_bytes(client: Client) -> None:
    stored = client.put_image(CIRCLE)
    content = CIRCLE.read_bytes()
    assert stored.id == "sha256:" + hashlib.sha256(content).hexdigest()
    with Image.open(CIRCLE) as image:
        assert (stored.width, stored.height, stored.bytes) == (*image.size, len(content))


def test_a_picture_travels_once_for_all_threads(server: Running, client: Client) -> None:
    before = server.metric(PUTS)
    picture = drawn("threads")
    with ThreadPoolExecutor(16) as pool:
        answers = list(pool.map(lambda _: client.score_steps(QUESTION, [picture], CANDIDATES), range(16)))
    assert len(answers) == 16
    assert server.metric(PUTS) == before + 1


async def test_a_picture_travels_once_for_all_tasks(server: Running) -> None:
    before = server.metric(PUTS)
    picture = drawn("tasks")
    async with AsyncClient(server.url) as client:
        await asyncio.gather(*(client.score_steps(QUESTION, [picture], CANDIDATES) for _ in range(16)))
    assert server.metric(PUTS) == before + 1


def test_a_candidate_that_cannot_be_scored_is_not_raised_and_has_no_number(client: Client) -> None:
    answer = client.score_steps(QUESTION, [], ["fine", "word " * 5000])
    assert [(result.status, result.score is None) for result in answer.results] == [("ok", False), ("too_long", True)]
    assert answer.ranking == [0]


@pytest.mark.parametrize(
    ("error", "call"),
    [
        (UnknownModel, lambda client: client.score_steps("q", [], ["x"], model="other")),
        (UnknownImage, lambda client: client.score_steps("q", ["sha256:" + "0" * 64], ["x"])),
        (InvalidRequest, lambda client: client.score_steps("<image> <image>", [CIRCLE], ["x"])),
        (UnsupportedImage, lambda client: client.put_image(b"no picture")),
        (UnsupportedImage, lambda client: client.score_steps("q", [b"no picture"], ["x"])),
    ],
)
def test_a_refusal_is_raised_as_the_servers_own_class(
    client: Client, error: type[ServiceError], call: Callable[[Client], object]
) -> None:
    with pytest.raises(error) as caught:
        call(client)
    assert type(caught.value) is error
    assert caught.value.request_id


def test_an_answer_lost_on_the_way_is_scored_once(server: Running) -> None:
    groups, replayed = server.metric(GROUPS), server.metric(REPLAYED)
    with (
        scripted(forwards_and_hangs_up(server.url), forwards(server.url)) as proxy,
        Client(proxy.url, retry=Retry(first_s=0.01)) as client,
    ):
        answer = client.score_steps(QUESTION, [], ["An answer that is lost.", "Once."])
    assert len(proxy.seen) == 2
    assert {seen.json["id"] for seen in proxy.seen} == {answer.id}
    assert server.metric(GROUPS) == groups + 1
    assert server.metric(REPLAYED) == replayed + 1


def test_strange_text_is_scored(client: Client) -> None:
    answer = client.score_steps("nul \0 and \x1b[31m", [], ["🙂\u202e\u0000", ["", "\ud7ff"]])
    assert [result.status for result in answer.results] == ["ok", "ok"]


def test_the_environment_says_where_the_server_is(server: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEELYARD_URL", server.url + "/")
    with Client() as client:
        assert client.ready()
        assert repr(client) == f"Client('{server.url}/')"


@pytest.mark.parametrize(
    "url", ["127.0.0.1:8000", "ftp://host", "http://", "http://host:port", "http://\0", "nonsense"]
)
def test_an_address_that_is_none_is_said_to_be_none(url: str) -> None:
    with pytest.raises(InvalidCall, match="URL"):
        Client(url)


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(InvalidCall, match="max_concurrency"):
        Client(max_concurrency=0)
    with pytest.raises(InvalidCall, match="timeout_s"):
        AsyncClient(timeout_s=-1)


@pytest.mark.parametrize("name", CALLS)
def test_both_clients_have_the_same_calls_with_the_same_arguments(name: str) -> None:
    one, other = getattr(Client, name), getattr(AsyncClient, name)
    assert inspect.signature(one) == inspect.signature(other)
    assert one.__doc__ == other.__doc__ != None  # noqa: E711
    assert inspect.iscoroutinefunction(other)


def test_the_signature_shows_the_answer_and_not_how_it_is_got() -> None:
    assert inspect.signature(Client.score_steps).return_annotation is ScoreStepsResponse
    assert inspect.signature(Client.ready).return_annotation is bool


def test_the_package_offers_what_it_says() -> None:
    for name in steelyard.__all__:
        assert getattr(steelyard, name) is not None
        assert name in dir(steelyard)
    with pytest.raises(AttributeError, match="Reranker"):
        getattr(steelyard, "Reranker")  # noqa: B009
