"""What a group is estimated to cost, beside what it comes to once it is encoded."""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from demo.policy import candidates, draw_questions
from models.checkpoint import Checkpoint
from service.cost import BYTES_A_TOKEN, Cost, estimate
from service.encoding import read_model
from service.gateway_model import GatewayModel, ReadyGroup
from service.images import ImageStore
from service.settings import DEMO
from steelyard.schema import ScoreOutcomesRequest, ScoreStepsRequest

STEPS = read_model("prm", Checkpoint(DEMO / "visualprm"), None)
OUTCOMES = read_model("orm", Checkpoint(DEMO / "ixc_reward"), None)


def store() -> ImageStore:
    return ImageStore(budget_bytes=10**9, ttl_s=60, max_image_bytes=10**8, max_pixels=10**8)


def encoded(group: ReadyGroup) -> Cost:
    """What the engine would compute of it, caches empty: the prefix once, each different picture once."""
    pictures = {*group.pictures, *(picture for candidate in group.candidates for picture in candidate.pictures)}
    tiles = {(picture.digests, picture.frames, picture.grid): picture.tiles for picture in pictures}
    suffixes = sum(len(candidate.suffix) for candidate in group.candidates)
    return Cost((len(group.prefix) + suffixes) // 4, sum(tiles.values()))


def asks_steps(question: str, answers: Sequence[str | Sequence[str]], **fields: object) -> ScoreStepsRequest:
    return ScoreStepsRequest.model_validate({"question": question, "candidates": answers, **fields})


def asks_outcomes(**fields: object) -> ScoreOutcomesRequest:
    return ScoreOutcomesRequest.model_validate(fields)


def said(role: str, content: object) -> Mapping[str, Any]:
    return {"role": role, "content": content}


def same_but(one: Cost, other: Cost) -> tuple[int, int]:
    return one.tokens - other.tokens, one.tiles - other.tiles


@pytest.mark.parametrize("size", [1, 8, 64])
@pytest.mark.parametrize("model", [STEPS, OUTCOMES], ids=["steps", "outcomes"])
def test_groups_about_pictures_are_estimated_from_above_and_within_three_times(model: GatewayModel, size: int) -> None:
    """Their own tiling is asked for, since an estimate takes the most tiles that a picture may have."""
    images = store()
    for asked in draw_questions("test", seed=1, count=12):
        picture = images.put(asked.picture.path.read_bytes()).id
        chains = candidates(asked, 1, size)
        question = asked.question.text
        if model is STEPS:
            texts = ["\n\n".join(chain.texts) + f" {i}" for i, chain in enumerate(chains)]
            request: Any = asks_steps(question, texts, images=[picture], max_tiles=1)
        else:
            messages = [said("user", question)]
            texts = [f"{chain.answer} {i}" for i, chain in enumerate(chains)]
            request = asks_outcomes(messages=messages, candidates=texts, images=[picture], max_tiles=1)
        real, guess = encoded(model.ready(request, images)), estimate(request, model)
        assert real.tokens <= guess.tokens <= 3 * real.tokens, (real, guess)
        assert guess.tiles == real.tiles == 1


def test_what_candidates_share_counts_once() -> None:
    question, messages = "why? " * 200, [said("user", "why? " * 200)]
    for one, three in (
        (asks_steps(question, ["a"]), asks_steps(question, ["a", "b", "c"])),
        (asks_outcomes(messages=messages, candidates=["a"]), asks_outcomes(messages=messages, candidates=[*"abc"])),
    ):
        model = STEPS if isinstance(one, ScoreStepsRequest) else OUTCOMES
        assert estimate(one, model).tokens > 500
        assert 0 < estimate(three, model).tokens - estimate(one, model).tokens < 50


def test_a_candidate_costs_its_bytes_and_its_steps() -> None:
    base = estimate(asks_steps("?", [""]), STEPS)
    for text in ("x" * 600, "二" * 200):
        more = estimate(asks_steps("?", [text]), STEPS)
        assert same_but(more, base) == (600 // BYTES_A_TOKEN, 0)
    listed, written = (estimate(asks_steps("?", [steps]), STEPS) for steps in (["ab"] * 10, "\n\n".join(["ab"] * 10)))
    merged, whole = (
        estimate(asks_steps("?", [["ab"] * 10], **how), STEPS) for how in ({"max_steps": 2}, {"mode": "whole"})
    )
    assert listed.tokens + 9 == written.tokens
    assert listed.tokens > merged.tokens > whole.tokens > base.tokens


def test_no_prompt_costs_more_than_the_longest_that_is_scored() -> None:
    huge = estimate(asks_steps("?" * 10**6, ["x" * 10**6, ["y"] * 10_000]), STEPS)
    assert huge.tokens == 3 * STEPS.max_tokens
    conversations = [{"messages": [said("user", "x" * 10**6)]}] * 2
    assert estimate(asks_outcomes(conversations=conversations), OUTCOMES).tokens <= 3 * OUTCOMES.max_tokens


def test_pictures_count_the_tiles_that_they_may_be_cut_into() -> None:
    def tiles(count: int, max_tiles: int | None) -> tuple[int, int]:
        images = [f"sha256:{i}" for i in range(count)]
        steps = asks_steps("?", ["x"], images=images, max_tiles=max_tiles)
        answers = asks_outcomes(messages=[], candidates=["x"], images=images, max_tiles=max_tiles)
        return estimate(steps, STEPS).tiles, estimate(answers, OUTCOMES).tiles

    assert tiles(0, None) == (0, 0)
    # The whole picture is a tile more, unless it is the only one.
    assert tiles(1, None) == (STEPS.max_tiles + 1, 25)
    assert tiles(1, 1) == (1, 1)
    assert tiles(1, 4) == (5, 5)
    # Several pictures of a conversation have six each, whatever is asked for.
    assert tiles(2, 4) == (10, 14)


def test_a_picture_that_is_named_twice_is_encoded_once_and_stands_there_twice() -> None:
    once, twice = (estimate(asks_steps("?", ["x"], images=["sha256:a"] * n), STEPS) for n in (1, 2))
    assert twice.tiles == once.tiles
    assert twice.tokens > once.tokens


def test_pictures_in_parts_and_the_frames_of_a_video_count_too() -> None:
    images = store()
    paths = [asked.picture.path for asked in draw_questions("test", seed=2, count=6)]
    ids = [images.put(path.read_bytes()).id for path in dict.fromkeys(paths)]
    parts = [{"type": "image_url", "image_url": {"url": ids[0]}}, {"type": "text", "text": "what?"}]
    video = [{"type": "video_frames", "frames": ids}, {"type": "text", "text": "what moves?"}]
    for content in (parts, video, [*parts, *video]):
        for request in (
            asks_outcomes(messages=[said("user", content)], candidates=["a circle"]),
            asks_outcomes(conversations=[{"messages": [said("user", content)]}, {"messages": [said("user", "no")]}]),
        ):
            real, guess = encoded(OUTCOMES.ready(request, images)), estimate(request, OUTCOMES)
            assert 0 < real.tiles <= guess.tiles
            assert real.tokens <= guess.tokens


def test_conversations_share_what_all_of_them_begin_with() -> None:
    long = [said("user", "why? " * 500), said("assistant", "because. " * 300)]
    one = estimate(asks_outcomes(conversations=[{"messages": [*long, said("user", "a")]}]), OUTCOMES)
    same = [{"messages": [*long, said("user", end)], "images": []} for end in "abc"]
    three = estimate(asks_outcomes(conversations=same), OUTCOMES)
    assert three.tokens - one.tokens < 100
    pictured = [{"messages": turns["messages"], "images": [f"sha256:{i}"]} for i, turns in enumerate(same)]
    assert estimate(asks_outcomes(conversations=pictured), OUTCOMES).tokens > 3 * one.tokens
    assert estimate(asks_outcomes(conversations=[*same, {"messages": []}]), OUTCOMES).tokens > 3 * (one.tokens - 100)


def test_candidates_that_are_known_already_cost_nothing() -> None:
    texts = ["x" * 1000, "y" * 3000]
    messages = [said("user", "?")]
    for both, alone in (
        (asks_steps("?", texts), asks_steps("?", texts[1:])),
        (
            asks_outcomes(messages=messages, candidates=texts),
            asks_outcomes(messages=messages, candidates=texts[1:]),
        ),
        (
            asks_outcomes(conversations=[{"messages": [said("user", text)]} for text in texts]),
            asks_outcomes(conversations=[{"messages": [said("user", text)]} for text in texts[1:]]),
        ),
    ):
        model = STEPS if isinstance(both, ScoreStepsRequest) else OUTCOMES
        assert estimate(both, model, skip={0}) == estimate(alone, model)


def test_an_estimate_is_much_cheaper_than_encoding() -> None:
    steps = "\n\n".join(f"Step {i} says that the shape is red." for i in range(40))
    request = asks_steps("Which shape is red?", [f"{steps} {i}" for i in range(64)])
    STEPS.ready(request, store())

    def fastest_s(work: Any) -> float:  # noqa: ANN401
        def once_s() -> float:
            started = time.perf_counter()
            work()
            return time.perf_counter() - started

        return min(once_s() for _ in range(5))

    guessing_s, encoding_s = (
        fastest_s(lambda: estimate(request, STEPS)),
        fastest_s(lambda: STEPS.ready(request, store())),
    )
    assert guessing_s < encoding_s / 20
