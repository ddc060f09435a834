"""Every call of the two clients as a script, from the caller's arguments to the answer."""

import uuid
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Literal

from steelyard.errors import ConnectionFailed, InvalidPicture, TimedOut, Unavailable
from steelyard.exchange import Chance, Script, beside
from steelyard.job_calls import JobCalls
from steelyard.messages import (
    ConversationLike,
    MessageLike,
    conversations_with_references,
    have_parts,
    with_references,
)
from steelyard.pictures import Album, PictureLike, check_list, is_loaded, load
from steelyard.rank_calls import RankCalls
from steelyard.requests import build
from steelyard.retry import Retry
from steelyard.schema import (
    Aggregate,
    ControlTokens,
    Loaded,
    Priority,
    ReloadRequest,
    ScoreOutcomesRequest,
    ScoreOutcomesResponse,
    ScoreStepsRequest,
    ScoreStepsResponse,
    ServedModels,
    StoredImage,
)
from steelyard.sending import Sender
from steelyard.verify_calls import VerifyCalls


class Calls(JobCalls, RankCalls, VerifyCalls):
    """The calls of one client.

    Every scoring call takes `id` (yours, or one is made: each attempt bears the same, so that a retry is never scored
    twice) and `timeout_s` for one attempt (by default the deadline and 30 s; `math.inf` is no limit).
    """

    def __init__(self, retry: Retry, timeout_s: float | None = None, chance: Chance | None = None) -> None:
        self._sender = Sender(retry, timeout_s, chance or Chance())

    def score_steps(
        self,
        question: str,
        images: Sequence[PictureLike],
        candidates: Sequence[str | Sequence[str]],
        *,
        model: str | None = None,
        weights: str | None = None,
        mode: Literal["steps", "whole"] = "steps",
        max_steps: int | None = None,
        max_tiles: int | None = None,
        aggregate: Aggregate = "mean",
        control_tokens: ControlTokens = "parse",
        priority: Priority = "train",
        deadline_ms: int | None = None,
        id: str | None = None,
        timeout_s: float | None = None,
    ) -> Script[ScoreStepsResponse]:
        """Score every step of every candidate; each is a text, split on blank lines, or the list of its steps.

        A candidate that could not be scored has a status and a null score; nothing is raised for it.
        """
        album = Album()
        references = yield from _refer_all(album, images)
        request = build(
            ScoreStepsRequest,
            question=question,
            images=references,
            candidates=candidates,
            model=model,
            weights=weights,
            mode=mode,
            max_steps=max_steps,
            max_tiles=max_tiles,
            aggregate=aggregate,
            control_tokens=control_tokens,
            priority=priority,
            deadline_ms=deadline_ms,
            id=_id(id),
        )
        return (yield from self._sender.score("/score_steps", request, album, ScoreStepsResponse, timeout_s))

    def score_outcomes(
        self,
        messages: Sequence[MessageLike],
        candidates: Sequence[str],
        images: Sequence[PictureLike] = (),
        *,
        model: str | None = None,
        weights: str | None = None,
        max_tiles: int | None = None,
        control_tokens: ControlTokens = "parse",
        priority: Priority = "train",
        deadline_ms: int | None = None,
        id: str | None = None,
        timeout_s: float | None = None,
    ) -> Script[ScoreOutcomesResponse]:
        """Score every candidate as the answer to the messages; a picture may also stand in a message's parts."""
        album = Album()
        references = yield from _refer_all(album, images)
        request = build(
            ScoreOutcomesRequest,
            messages=(yield from beside(have_parts(messages), lambda: with_references(messages, album))),
            images=references,
            candidates=candidates,
            model=model,
            weights=weights,
            max_tiles=max_tiles,
            control_tokens=control_tokens,
            priority=priority,
            deadline_ms=deadline_ms,
            id=_id(id),
        )
        return (yield from self._sender.score("/score_outcomes", request, album, ScoreOutcomesResponse, timeout_s))

    def score_conversations(
        self,
        conversations: Sequence[ConversationLike],
        *,
        model: str | None = None,
        weights: str | None = None,
        max_tiles: int | None = None,
        control_tokens: ControlTokens = "parse",
        priority: Priority = "train",
        deadline_ms: int | None = None,
        id: str | None = None,
        timeout_s: float | None = None,
    ) -> Script[ScoreOutcomesResponse]:
        """Score whole conversations, whoever speaks last; each has `messages` and may have `images`."""
        album = Album()
        request = build(
            ScoreOutcomesRequest,
            conversations=(yield from beside(True, lambda: conversations_with_references(conversations, album))),
            model=model,
            weights=weights,
            max_tiles=max_tiles,
            control_tokens=control_tokens,
            priority=priority,
            deadline_ms=deadline_ms,
            id=_id(id),
        )
        return (yield from self._sender.score("/score_outcomes", request, album, ScoreOutcomesResponse, timeout_s))

    def put_image(self, picture: PictureLike) -> Script[StoredImage]:
        """Send a picture now, for example before the calls that name it by its id."""
        loaded = yield from beside(True, lambda: load(picture))
        if isinstance(loaded, str):
            raise InvalidPicture(f"{loaded} is an id: the picture's bytes are not here to be sent")
        return (yield from self._sender.put(loaded))

    def models(self) -> Script[ServedModels]:
        """The models that are served, and what identifies them."""
        return self._sender.get("/models", ServedModels)

    def ready(self) -> Script[bool]:
        """Whether every model is loaded and scores as it did at the start; asked once, never raises for a no."""
        failure = yield from self._sender.ask_once("/health/ready")
        if failure is None or isinstance(failure, Unavailable | ConnectionFailed | TimedOut):
            return failure is None
        raise failure

    def sleep(self) -> Script[Loaded]:
        """Free the server's device; returns when its memory is free. Scoring calls are accepted, and wait.

        This, `wake` and `reload` need the server's admin key as this client's key, and take as long as they take.
        """
        return self._sender.order("/admin/sleep", Loaded)

    def wake(self) -> Script[Loaded]:
        """Load the models again; returns when they score."""
        return self._sender.order("/admin/wake", Loaded)

    def reload(self, models: Mapping[str, str | PathLike[str]] | None = None) -> Script[Loaded]:
        """Serve other weights: a folder on the server or `ORG/REPO@REVISION` for each name, the others read again.

        Returns when they are served; on a server that is asleep, when the next `wake` is to load them.
        """
        request = build(ReloadRequest, models={name: str(source) for name, source in (models or {}).items()})
        return self._sender.order("/admin/reload", Loaded, request.model_dump_json().encode())


def _refer_all(album: Album, images: Sequence[PictureLike]) -> Script[list[str]]:
    check_list(images)
    return beside(not all(map(is_loaded, images)), lambda: album.refer_all(images))


def _id(given: str | None) -> str:
    return uuid.uuid4().hex if given is None else given
