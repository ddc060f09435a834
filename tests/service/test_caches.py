"""Nothing is computed twice, and nothing that is kept changes a score: against the real server process."""

import base64
import io
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import Any

import numpy as np
import pytest
from PIL import Image

from models.checkpoint import Checkpoint
from service.encoding import read_model
from service.gateway_model import GatewayModel
from service.images import ImageStore
from steelyard.schema import ScoreStepsRequest, ScoreStepsResponse
from tests.service.running import DEMO, Running, running, same_scores, scored, until
from tests.service.test_faults import await_forward, processor_s

# Some 130 tokens of each model, two pictures, a few short texts; and batches of which a group needs several.
LITTLE_KEPT = ("--prefix-cache-bytes", "200000", "--vision-cache-bytes", "10000", "--token-cache-bytes", "6000")
NOTHING_KEPT = ("--prefix-cache-bytes", "0", "--vision-cache-bytes", "0", "--token-cache-bytes", "0")
SMALL_BATCHES = ("--batch-tokens", "150", "--batch-tiles", "1")
STEPS = ["The picture shows a circle.", "It is red.", "So the answer is a circle."]
CANDIDATES: list[Any] = [STEPS, STEPS[:2], "Another thought.\n\nIt is blue.", "The picture shows a square.", ""]
PRIORITIES = ("online", "train", "batch")
# What a prompt has up to some token, in a form that can be in a set.
Leading = tuple[object, ...]


def picture(colour: str, width: int = 120) -> str:
    """Two tiles and a thumbnail, unless it is wider."""
    file = io.BytesIO()
    Image.new("RGB", (width, 60), colour).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


@pytest.fixture(scope="module")
def invariant() -> Iterator[Running]:
    """With a small budget, so that calls are batched in many ways."""
    with running("--batch-invariant", "--batch-tokens", "400") as server:
        yield server


@pytest.fixture(scope="module")
def model() -> GatewayModel:
    return read_model("visualprm", Checkpoint(DEMO), None)


def ask(server: Running, question: str, candidates: Sequence[Any], **fields: Any) -> ScoreStepsResponse:  # noqa: ANN401
    body = {"question": question, "candidates": candidates} | fields
    with server.client() as client:
        return scored(client.post("/score_steps", json=body))


def leading_tokens(
    model: GatewayModel, question: str, candidates: Sequence[Any], images: Sequence[str] = ()
) -> set[Leading]:
    """Every prompt's beginnings, up to its last read-out: as many as a tree of the group has tokens."""
    request = ScoreStepsRequest(question=question, candidates=[*candidates], images=[*images])
    store = ImageStore(budget_bytes=10**6, ttl_s=60, max_image_bytes=10**6, max_pixels=10**6)
    group = model.ready(request, store)
    found: set[Leading] = set()
    for candidate in group.candidates:
        tokens: list[object] = np.frombuffer(group.prefix + candidate.suffix, np.int32).tolist()
        for shown in group.pictures:
            rows = range(shown.offset, shown.offset + shown.tokens)
            tokens[rows.start : rows.stop] = [(shown.digests, shown.grid, row) for row in rows]
        last = int(np.frombuffer(candidate.readouts, np.int32).max())
        found |= {tuple(tokens[: end + 1]) for end in range(last + 1)}
    return found


def logits(answer: ScoreStepsResponse) -> list[list[float] | None]:
    return [result.step_logits for result in answer.results]


# What is computed


def test_a_group_sent_again_costs_nothing_and_has_the_same_scores(server: Running) -> None:
    first, again = (ask(server, "Sent again?", CANDIDATES, images=[picture("olive")]) for _ in range(2))
    assert first.id != again.id
    assert (first.usage.tiles, again.usage.tiles) == (3, 0)
    assert first.usage.computed_tokens > 0
    assert again.usage.computed_tokens == 0
    assert again.usage.cached_tokens == again.usage.prompt_tokens == first.usage.prompt_tokens
    assert logits(first) == logits(again)


@pytest.mark.parametrize("images", [[], [picture("navy")], [picture("lime"), picture("teal", 200)]])
def test_a_group_computes_every_token_of_its_tree_once(server: Running, model: GatewayModel, images: list[str]) -> None:
    """But for what all prompts begin with, which somebody has always computed before; no other question begins so."""
    others = ["black"] * len(images)
    known: set[Leading] = set()
    for question, shown in (("§1 before.", [picture(other) for other in others]), ("§2 tree?", images)):
        answer = ask(server, f"{question} {len(images)}", CANDIDATES, images=shown)
        tree = leading_tokens(model, f"{question} {len(images)}", CANDIDATES, shown)
        computed = len(tree - known)
        known |= tree
    assert answer.usage.computed_tokens == computed
    assert answer.usage.cached_tokens == answer.usage.prompt_tokens - computed


def test_a_trajectory_that_grows_computes_exactly_its_new_tokens(server: Running, model: GatewayModel) -> None:
    question, images = "§3 How does it grow?", [picture("maroon")]
    steps = [f"Step {number} says something new." for number in range(6)]
    ask(server, question, [steps[:1]], images=images)
    known = leading_tokens(model, question, [steps[:1]], images)
    for count in range(2, len(steps) + 1):
        answer = ask(server, question, [steps[:count]], images=images)
        path = leading_tokens(model, question, [steps[:count]], images)
        assert answer.usage.computed_tokens == len(path - known)
        assert answer.usage.tiles == 0
        known |= path
    whole = ask(server, question, [steps], images=images)
    assert whole.usage.computed_tokens == 0
    assert logits(whole) == logits(answer)


def test_a_new_answer_to_a_known_question_computes_the_answer_alone(server: Running, model: GatewayModel) -> None:
    question, images = "What else?", [picture("purple")]
    ask(server, question, CANDIDATES, images=images)
    known = leading_tokens(model, question, CANDIDATES, images)
    answer = ask(server, question, ["Something else."], images=images)
    new = leading_tokens(model, question, ["Something else."], images) - known
    assert answer.usage.computed_tokens == len(new) < 30
    assert answer.usage.tiles == 0


def test_a_known_picture_after_other_words_is_not_encoded_again(server: Running) -> None:
    images = [picture("orange")]
    first = ask(server, "First words: <image>", ["a"], images=images)
    second = ask(server, "Other words: <image>", ["a"], images=images)
    assert (first.usage.tiles, second.usage.tiles) == (3, 0)


def test_metrics_count_what_the_caches_do(server: Running) -> None:
    names = {
        "steelyard_prefix_cache_looked_up_tokens_total{model=visualprm}": "looked up",
        "steelyard_prefix_cache_hit_tokens_total{model=visualprm}": "hit",
        "steelyard_vision_cache_hits_total": "picture hit",
        "steelyard_vision_cache_misses_total": "picture missed",
        "steelyard_token_cache_hits_total": "text hit",
        "steelyard_token_cache_misses_total": "text missed",
    }
    images = [picture("gold")]
    before = server.samples()
    assert names.keys() <= before.keys()
    first = ask(server, "Counted: <image>", CANDIDATES, images=images)
    ask(server, "Counted otherwise: <image>", CANDIDATES, images=images)
    third = ask(server, "Counted: <image>", CANDIDATES, images=images)
    # The engine says so right after the answer.
    found = "steelyard_prefix_cache_hit_tokens_total{model=visualprm}"
    until(lambda: server.metric(found) - before[found] >= len(CANDIDATES) * 20, "the counts")
    after = server.samples()
    grown = {what: after[name] - before[name] for name, what in names.items()}
    assert grown["picture missed"] == grown["picture hit"] == 1
    assert grown["looked up"] >= grown["hit"] > 0
    assert grown["text hit"] > 0
    assert grown["text missed"] > 0
    assert after["steelyard_prefix_cache_tokens{model=visualprm}"] > 0
    assert (
        after["steelyard_prefix_cache_tokens{model=visualprm}"]
        <= after["steelyard_prefix_cache_capacity_tokens{model=visualprm}"]
    )
    assert after["steelyard_vision_cache_bytes"] > 0
    assert after["steelyard_batch_tokens"] == 16_384
    assert logits(first) == logits(third)


# What is kept changes no score


def calls() -> list[dict[str, Any]]:
    """Groups that share questions, pictures and beginnings in many ways, some of them twice."""
    images = [[], [picture("red")], [picture("red"), picture("blue")], [picture("green", 300)]]
    questions = ["Which shape is red?", "Which shape is red? Or blue?", "Why? " * 40]
    made = [{"question": q, "candidates": CANDIDATES, "images": shown} for q in questions for shown in images]
    return [*made, *made[::3], {"question": questions[0], "candidates": CANDIDATES[::-1] * 3, "images": []}]


def all_at_once(server: Running) -> list[ScoreStepsResponse]:
    """With priorities by turns, so that they interrupt one another."""
    with ThreadPoolExecutor(6) as pool:
        turns = zip(calls(), cycle(PRIORITIES), strict=False)
        return list(pool.map(lambda turn: ask(server, **turn[0], priority=turn[1]), turns))


@pytest.mark.parametrize("kept", [NOTHING_KEPT, LITTLE_KEPT])
def test_no_score_depends_on_what_is_kept(server: Running, kept: tuple[str, ...]) -> None:
    expected = [ask(server, **call) for call in calls()]
    with running(*kept, *SMALL_BATCHES) as thrifty:
        found = [all_at_once(thrifty) for _ in range(2)]
        samples = thrifty.samples()
    for answers in found:
        assert all(same_scores(one, other) for one, other in zip(expected, answers, strict=True))
        assert {result.status for answer in answers for result in answer.results} == {"ok"}
    assert (samples["steelyard_prefix_cache_evicted_tokens_total{model=visualprm}"] > 0) == (kept is LITTLE_KEPT)
    assert (samples["steelyard_vision_cache_evicted_total"] > 0) == (kept is LITTLE_KEPT)
    assert (samples["steelyard_token_cache_evictions_total"] > 0) == (kept is LITTLE_KEPT)


def test_without_caches_a_group_still_computes_its_prefix_once(model: GatewayModel) -> None:
    images = [picture("pink")]
    tree = leading_tokens(model, "Once?", CANDIDATES, images)
    with running(*NOTHING_KEPT) as forgetful:
        answers = [ask(forgetful, "Once?", CANDIDATES, images=images) for _ in range(2)]
    assert [answer.usage.computed_tokens for answer in answers] == [len(tree)] * 2
    assert [answer.usage.tiles for answer in answers] == [3, 3]


# The same bits


def test_batch_invariant_scores_have_the_same_bits_in_any_company(invariant: Running) -> None:
    question, images = "Which bits?", [picture("brown")]
    company = [*CANDIDATES, "Much longer than all of the others. " * 30]
    together = ask(invariant, question, company, images=images)
    alone = [ask(invariant, question, [candidate], images=images) for candidate in company]
    twice = ask(invariant, question, company, images=images)
    turned = ask(invariant, question, [*company[::-1], "And one more."], images=images)
    assert together.provenance.batch_invariant
    assert [row for answer in alone for row in logits(answer)] == logits(together)
    assert logits(twice) == logits(together)
    assert logits(turned)[-2::-1] == logits(together)


def test_batch_invariant_scores_have_the_same_bits_cold_and_in_a_crowd(invariant: Running) -> None:
    crowd = all_at_once(invariant)
    with running("--batch-invariant", *NOTHING_KEPT) as cold:
        found = [ask(cold, **call) for call in calls()]
    assert [logits(answer) for answer in crowd] == [logits(answer) for answer in found]
    assert [logits(answer) for answer in all_at_once(invariant)] == [logits(answer) for answer in found]


def test_without_the_mode_the_answer_says_so(server: Running) -> None:
    assert not ask(server, "Which mode?", ["a"]).provenance.batch_invariant


# A long prompt


def test_a_huge_prompt_of_a_filter_does_not_hold_up_an_online_call() -> None:
    text = "The picture shows a red circle and so on. " * 1500
    with running("--max-tokens", "40000") as server, ThreadPoolExecutor(1) as pool:
        engine = server.engine()
        worked_s = processor_s(engine)
        huge = pool.submit(ask, server, "Huge?", [text], priority="batch")
        await_forward(engine, worked_s)
        online = [ask(server, f"Quick {i}?", ["a", "b"], priority="online") for i in range(3)]
        assert not huge.done()
        assert {result.status for answer in online for result in answer.results} == {"ok"}
        answer = huge.result()
        assert answer.usage.computed_tokens > 16_384
        assert [result.status for result in answer.results] == ["ok"]
