"""Every call as a script: pictures go up first, then the question, and once more after a 404 those that are gone."""

import re
import uuid
from collections.abc import Callable, Sequence
from typing import Literal, TypeVar

from pydantic import BaseModel

from steelyard.errors import ConnectionFailed, InvalidPicture, SteelyardError, TimedOut, Unavailable, UnknownImage
from steelyard.exchange import Alone, Answer, Chance, Script, Send, Work, exchange, failure_of, parse
from steelyard.messages import (
    ConversationLike,
    MessageLike,
    conversations_with_references,
    have_parts,
    with_references,
)
from steelyard.pictures import Album, Picture, PictureLike, check_list, load
from steelyard.requests import build, post
from steelyard.retry import Retry
from steelyard.schema import (
    Aggregate,
    ControlTokens,
    Priority,
    ScoreOutcomesRequest,
    ScoreOutcomesResponse,
    ScoreRequest,
    ScoreStepsRequest,
    ScoreStepsResponse,
    ServedModels,
    StoredImage,
)
from steelyard.uploads import Uploads

_ID = re.compile(r"sha256:[0-9a-f]{64}")
# Uploads of a picture that keeps vanishing before the question reaches the server.
_ROUNDS = 3
_SHORT_S = 60.0

Result = TypeVar("Result")
Response = TypeVar("Response", bound=BaseModel)


class Calls:
    """The calls of one client; it remembers which pictures the server has been sent.

    Every scoring call takes `id` (yours, or one is made: each attempt bears the same, so that a retry is never scored
    twice) and `timeout_s` for one attempt (by default the deadline and 30 s; `math.inf` is no limit).
    """

    def __init__(self, retry: Retry, timeout_s: float | None = None, chance: Chance | None = None) -> None:
        self._retry = retry
        self._timeout_s = timeout_s
        self._chance = chance or Chance()
        self._uploads = Uploads()

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
        return (yield from self._score("/score_steps", request, album, ScoreStepsResponse, timeout_s))

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
            messages=(yield from _beside(have_parts(messages), lambda: with_references(messages, album))),
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
        return (yield from self._score("/score_outcomes", request, album, ScoreOutcomesResponse, timeout_s))

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
            conversations=(yield from _beside(True, lambda: conversations_with_references(conversations, album))),
            model=model,
            weights=weights,
            max_tiles=max_tiles,
            control_tokens=control_tokens,
            priority=priority,
            deadline_ms=deadline_ms,
            id=_id(id),
        )
        return (yield from self._score("/score_outcomes", request, album, ScoreOutcomesResponse, timeout_s))

    def put_image(self, picture: PictureLike) -> Script[StoredImage]:
        """Send a picture now, for example before the calls that name it by its id."""
        loaded = yield from _beside(True, lambda: load(picture))
        if isinstance(loaded, str):
            raise InvalidPicture(f"{loaded} is an id: the picture's bytes are not here to be sent")
        return (yield from self._put(loaded, self._chance.clock()))

    def models(self) -> Script[ServedModels]:
        """The models that are served, and what identifies them."""
        answer = yield from self._exchange(self._short("GET", "/models"), self._chance.clock())
        return parse(ServedModels, answer)

    def ready(self) -> Script[bool]:
        """Whether every model is loaded and scores as it did at the start; asked once, never raises for a no."""
        reply = yield self._short("GET", "/health/ready")
        failure = failure_of(reply) if isinstance(reply, Answer) else reply
        if failure is None or isinstance(failure, Unavailable | ConnectionFailed | TimedOut):
            return failure is None
        assert isinstance(failure, SteelyardError)
        raise failure

    def _score(
        self, path: str, request: ScoreRequest, album: Album, response: type[Response], timeout_s: float | None
    ) -> Script[Response]:
        started = self._chance.clock()
        send = post(path, request, self._timeout_s if timeout_s is None else timeout_s)
        # Pictures to send, each with the upload after which the server lacks it.
        missing = dict.fromkeys(album.pictures, 0)
        for rounds_left in reversed(range(_ROUNDS)):
            for image_id, since in missing.items():
                yield from self._upload(album.pictures[image_id], since, started)
            uploaded = {image_id: self._uploads.last(image_id) for image_id in album.pictures}
            try:
                return parse(response, (yield from self._exchange(send, started)))
            except UnknownImage as error:
                missing = {image_id: uploaded[image_id] for image_id in _named(error) if image_id in uploaded}
                if not missing or not rounds_left:
                    raise
        raise AssertionError("unreachable")

    def _upload(self, picture: Picture, since: int, started: float) -> Script[None]:
        """Unless it was sent after the upload `since`; calls that want the same one wait for whoever is sending it."""

        def send_once() -> Script[None]:
            if self._uploads.last(picture.id) <= since:
                yield from self._put(picture, started)

        if self._uploads.last(picture.id) <= since:
            yield Alone(picture.id, send_once())

    def _put(self, picture: Picture, started: float) -> Script[StoredImage]:
        send = self._short("PUT", "/images", picture.content)
        stored = parse(StoredImage, (yield from self._exchange(send, started)))
        self._uploads.record(picture.id)
        return stored

    def _exchange(self, send: Send, started: float) -> Script[Answer]:
        return exchange(send, self._retry, self._chance, started)

    def _short(self, method: Literal["GET", "PUT"], path: str, content: bytes = b"") -> Send:
        timeout_s = _SHORT_S if self._timeout_s is None else self._timeout_s
        return Send(method, path, timeout_s, content, "application/octet-stream" if content else None)


def _beside(heavy: bool, run: Callable[[], Result]) -> Script[Result]:
    """The result of work that may read and encode pictures, or only looks at what is there."""
    if not heavy:
        return run()
    results: list[Result] = []
    yield Work(lambda: results.append(run()))
    return results[0]


def _refer_all(album: Album, images: Sequence[PictureLike]) -> Script[list[str]]:
    check_list(images)
    return _beside(len(images) > 0, lambda: album.refer_all(images))


def _named(error: UnknownImage) -> list[str]:
    return list(dict.fromkeys(_ID.findall(error.message)))


def _id(given: str | None) -> str:
    return uuid.uuid4().hex if given is None else given
