"""`POST /rank` against the real server process, which serves a model of each kind."""

import io
import re
from functools import partial
from typing import Any

import httpx2
import pybase64
import pytest
from PIL import Image

from steelyard.blending import blend
from steelyard.rank_schema import RankResponse
from tests.service.running import Running, refused, running, scored
from tests.service.test_outcomes import answered

QUESTION = "Which shape is red?"
CANDIDATES: list[Any] = ["The picture shows a circle.\n\nIt is red.", ["A square.", "It is blue."], "", "A triangle."]
TEXTS = [CANDIDATES[0], "A square.\n\nIt is blue.", "", "A triangle."]
BLEND = {"visualprm": 0.7, "ixc_reward": 0.3}


def picture(colour: str, size: tuple[int, int] = (96, 64)) -> str:
    file = io.BytesIO()
    Image.new("RGB", size, colour).save(file, "PNG")
    return pybase64.b64encode(file.getvalue()).decode()


RED, BLUE = picture("red"), picture("blue", (30, 90))


def post(client: httpx2.Client, **fields: Any) -> httpx2.Response:  # noqa: ANN401
    asked = {} if "messages" in fields else {"question": QUESTION}
    return client.post("/rank", json=asked | {"candidates": CANDIDATES} | fields)


def ranked(response: httpx2.Response) -> RankResponse:
    assert response.status_code == 200, response.text[:500]
    return RankResponse.model_validate_json(response.content)


def own(answer: RankResponse, model: str) -> list[float]:
    """Every candidate's score by one model."""
    found = [result.models[model].score for result in answer.results]
    return [score for score in found if score is not None]


def steps_of(client: httpx2.Client, **fields: Any) -> list[float]:  # noqa: ANN401
    answer = scored(client.post("/score_steps", json={"question": QUESTION, "candidates": CANDIDATES} | fields))
    return [result.score for result in answer.results if result.score is not None]


def outcomes_of(client: httpx2.Client, content: Any, images: list[str]) -> list[float]:  # noqa: ANN401
    fields = {"messages": [{"role": "user", "content": content}], "images": images, "candidates": TEXTS}
    return [result.score or 0.0 for result in answered(client.post("/score_outcomes", json=fields)).results]


def close(values: list[float]) -> Any:  # noqa: ANN401
    return pytest.approx(values, rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("normalize", ["zscore", "rank", "none", None])
def test_a_blend_is_of_the_scores_that_each_models_own_route_gives(api: httpx2.Client, normalize: str | None) -> None:
    answer = ranked(post(api, images=[RED], blend=BLEND, normalize=normalize, aggregate="min"))
    by_model = {
        "visualprm": steps_of(api, images=[RED], aggregate="min"),
        "ixc_reward": outcomes_of(api, QUESTION, [RED]),
    }
    assert {name: own(answer, name) for name in BLEND} == {name: close(scores) for name, scores in by_model.items()}
    mixed = blend(by_model, BLEND, answer.normalize)
    assert [result.score for result in answer.results] == pytest.approx(mixed, rel=1e-3, abs=1e-3)
    scores = [result.score or 0.0 for result in answer.results]
    assert answer.ranking == sorted(range(4), key=lambda index: (-scores[index], index))
    assert (answer.best, answer.normalize) == (answer.ranking[0], normalize or "zscore")


def test_one_model_ranks_by_its_own_number_and_shows_its_steps(api: httpx2.Client) -> None:
    answer = ranked(post(api, images=[RED], model="visualprm"))
    assert [result.score for result in answer.results] == close(steps_of(api, images=[RED]))
    assert [len(result.models["visualprm"].step_scores or ()) for result in answer.results] == [2, 2, 1, 1]
    whole = ranked(post(api, images=[RED], model="ixc_reward"))
    assert [result.score for result in whole.results] == close(outcomes_of(api, QUESTION, [RED]))
    assert whole.results[0].models["ixc_reward"].step_scores is None


def test_without_a_name_the_only_model_of_steps_ranks(api: httpx2.Client) -> None:
    assert list(ranked(post(api)).models) == ["visualprm"]


def test_every_model_says_what_it_cost_and_what_it_is(api: httpx2.Client) -> None:
    answer = ranked(post(api, blend=BLEND, images=[picture("teal", (64, 64))], id="what a ranking cost"))
    assert answer.id == "what a ranking cost"
    assert {name: (part.kind, part.weight) for name, part in answer.models.items()} == {
        "visualprm": ("steps", 0.7),
        "ixc_reward": ("outcome", 0.3),
    }
    for name, part in answer.models.items():
        assert part.provenance.model == name
        assert part.provenance.weights.startswith("sha256:")
        assert part.usage.computed_tokens > 0
        assert part.usage.tiles > 0


def test_a_candidate_that_one_model_cannot_score_has_no_rank_and_no_number(api: httpx2.Client) -> None:
    # A marker that the outcome model's authors' code would read as a picture; the process model takes it as text.
    texts = ["A circle.", "A <ImageHere>.", "A square.", "A triangle <IMG_CONTEXT>."]
    answer = ranked(post(api, candidates=texts, blend=BLEND, images=[RED]))
    assert [result.status for result in answer.results] == ["ok", "refused", "ok", "refused"]
    assert [result.score is None for result in answer.results] == [False, True, False, True]
    assert sorted(answer.ranking) == [0, 2]
    refused_one = answer.results[1]
    assert (refused_one.detail or "").startswith("ixc_reward: ")
    assert refused_one.retryable is False
    # What the other model made of it is told all the same, and is no part of the blend.
    assert refused_one.models["visualprm"].score is not None
    kept = ranked(post(api, candidates=["A circle.", "A square."], blend=BLEND, images=[RED]))
    both = [result.score for result in answer.results if result.score is not None]
    assert [result.score for result in kept.results] == pytest.approx(both, rel=1e-3, abs=1e-3)


def test_where_nobody_can_be_scored_nobody_is_best(api: httpx2.Client) -> None:
    broken = pybase64.b64encode(pybase64.b64decode(RED)[:60]).decode()
    answer = ranked(post(api, images=[broken], blend=BLEND))
    assert (answer.best, answer.ranking) == (None, [])
    assert {result.status for result in answer.results} == {"bad_image"}


def test_a_question_places_its_pictures_for_both_kinds_of_model(api: httpx2.Client) -> None:
    question = "First <image> then <image>?"
    answer = ranked(post(api, question=question, images=[RED, BLUE], blend=BLEND))
    placed = outcomes_of(api, "First <ImageHere> then <ImageHere>?", [RED, BLUE])
    assert own(answer, "ixc_reward") == close(placed)
    assert own(answer, "visualprm") == close(steps_of(api, question=question, images=[RED, BLUE]))


@pytest.mark.parametrize(
    "content",
    [
        [{"type": "image_url", "image_url": {"url": RED}}, {"type": "text", "text": QUESTION}],
        [{"type": "image_url", "image_url": {"url": RED}}, {"type": "text", "text": "\n" + QUESTION}],
        "<ImageHere>\n" + QUESTION,
    ],
)
def test_a_users_turn_is_a_question_to_a_process_model(api: httpx2.Client, content: Any) -> None:  # noqa: ANN401
    images = [] if isinstance(content, list) else [RED]
    answer = ranked(post(api, messages=[{"role": "user", "content": content}], images=images, blend=BLEND))
    assert own(answer, "visualprm") == close(steps_of(api, images=[RED]))
    assert own(answer, "ixc_reward") == close(outcomes_of(api, content, images))


def test_pictures_that_no_part_holds_come_before_those_that_stand_in_the_text(api: httpx2.Client) -> None:
    content = [{"type": "text", "text": "Beside "}, {"type": "image_url", "image_url": {"url": BLUE}}]
    answer = ranked(post(api, messages=[{"role": "user", "content": content}], images=[RED], model="visualprm"))
    marked = steps_of(api, question="<image>\nBeside <image>", images=[RED, BLUE])
    assert own(answer, "visualprm") == close(marked)


def test_a_conversation_is_ranked_by_an_outcome_model_alone(api: httpx2.Client) -> None:
    turns = [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hi."},
        {"role": "user", "content": "?"},
    ]
    assert ranked(post(api, messages=turns, model="ixc_reward")).best is not None
    assert "single user turn" in refused(post(api, messages=turns, blend=BLEND), 422, "invalid_request")


@pytest.mark.parametrize(
    ("fields", "status", "code", "says"),
    [
        ({"model": "visualprm", "blend": BLEND}, 422, "invalid_request", "not both"),
        ({"messages": [], "question": "?"}, 422, "invalid_request", "not both"),
        ({"question": None}, 422, "invalid_request", "question or messages"),
        ({"blend": {}}, 422, "invalid_request", "blend"),
        ({"blend": {"visualprm": 0}}, 422, "invalid_request", "blend.visualprm"),
        ({"blend": {"visualprm": -1}}, 422, "invalid_request", "blend.visualprm"),
        ({"blend": {"visualprm": 1e300}}, 422, "invalid_request", "blend.visualprm"),
        ({"blend": {str(number): "x" for number in range(100_000)}}, 422, "invalid_request", "limit is 16"),
        ({"blend": {"visualprm": 1, "other": 1}}, 404, "unknown_model", "other"),
        ({"model": ""}, 404, "unknown_model", "visualprm, ixc_reward"),
        ({"normalize": "softmax"}, 422, "invalid_request", "normalize"),
        ({"candidates": []}, 422, "invalid_request", "candidates"),
        ({"candidates": [[]]}, 422, "invalid_request", "candidates.0"),
        ({"candidates": ["x"] * 1025, "blend": BLEND, "images": ["@"]}, 422, "invalid_request", "limit is 1024"),
        ({"images": ["@"], "blend": BLEND}, 422, "invalid_request", "images"),
        ({"images": ["sha256:" + "0" * 64], "blend": BLEND}, 404, "unknown_image", "sha256:000"),
        ({"images": [RED], "question": "<image><image>", "blend": BLEND}, 422, "invalid_request", "2 .* 1 "),
        ({"images": [RED], "question": "<image><image>", "model": "ixc_reward"}, 422, "invalid_request", "2 .* 1 "),
        ({"weights": {"visualprm": "sha256:other"}, "blend": BLEND}, 409, "other_weights", "sha256:other"),
        ({"weights": {"ixc_reward": "x"}, "model": "visualprm"}, 422, "invalid_request", "ixc_reward"),
        ({"weights": {"ixc_reward": "x"}}, 422, "invalid_request", "ixc_reward"),
        ({"temperature": 1}, 422, "invalid_request", "temperature"),
    ],
)
def test_what_makes_no_ranking_is_refused_in_a_word(
    api: httpx2.Client, fields: dict[str, Any], status: int, code: str, says: str
) -> None:
    asked = {"question": QUESTION} if "messages" not in fields else {}
    response = api.post("/rank", json=asked | {"candidates": CANDIDATES} | fields)
    message = refused(response, status, code)
    assert re.search(says, message), message
    assert len(response.content) < 16_384


def test_the_same_id_ranks_once_and_another_ranking_under_it_is_refused(server: Running, api: httpx2.Client) -> None:
    fields = {"id": "ranked twice", "blend": BLEND, "images": [picture("olive", (64, 64))]}
    first = ranked(post(api, **fields))
    before = server.metric("steelyard_replayed_groups_total")
    assert ranked(post(api, **fields)) == first
    assert server.metric("steelyard_replayed_groups_total") == before + 2
    for other in ({"blend": {"visualprm": 1, "ixc_reward": 1}}, {"normalize": "rank"}, {"candidates": ["x"]}):
        assert "'ranked twice'" in refused(post(api, **fields | other), 409, "id_reused")
    # It is no other call's id.
    assert steps_of(api, id="ranked twice")


def test_pinned_weights_that_are_served_rank(api: httpx2.Client) -> None:
    served = {name: part.provenance.weights for name, part in ranked(post(api, blend=BLEND)).models.items()}
    assert ranked(post(api, blend=BLEND, weights=served)).best is not None


def test_both_models_are_asked_at_once_and_share_one_deadline(server: Running) -> None:
    with server.client() as client:
        asked = partial(post, client, blend=BLEND, deadline_ms=1, candidates=["asked at once"])
        answer = ranked(server.come_to_late(asked, groups=2))
    assert answer.results[0].status == "expired"
    assert answer.results[0].retryable is True
    assert {one.status for one in answer.results[0].models.values()} == {"expired"}
    server.await_waiting(0)


def test_who_hangs_up_leaves_nothing_waiting(server: Running) -> None:
    with server.stopped_engine(), server.client() as client:
        with pytest.raises(httpx2.ReadTimeout):
            client.post("/rank", json={"question": "?", "candidates": ["gone"], "blend": BLEND}, timeout=0.3)
        server.await_waiting(0)


def test_what_is_refused_in_part_costs_nothing_of_the_quota() -> None:
    with running("--key-tokens-per-minute", "1500") as server, server.client() as client:
        # The first model's part alone would fit, again and again, and never both.
        text = "word " * 380
        for _ in range(6):
            refused(post(client, candidates=[text], blend=BLEND), 429, "quota_exceeded")
            # As does a trainer's call that asks two questions.
            asked = [f"First {text}", f"Second {text}"]
            foreign = client.post(
                "/get_reward?model=visualprm", json={"query": [f"{q}Yes" for q in asked], "prompts": asked}
            )
            assert foreign.status_code == 429, foreign.text
        assert ranked(post(client, candidates=[text], model="visualprm")).best == 0


def test_the_description_has_rankings_too(api: httpx2.Client) -> None:
    document = api.get("/openapi.json").json()
    assert "/rank" in document["paths"]
    assert {"blend", "normalize"} <= set(document["components"]["schemas"]["RankRequest"]["properties"])
