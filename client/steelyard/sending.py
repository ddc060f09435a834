"""Getting a request to the server: its pictures first, and once more after a 404 those that are gone."""

import math
import re
from typing import Literal, TypeVar

from pydantic import BaseModel

from steelyard.errors import BadAnswer, SteelyardError, UnknownImage
from steelyard.exchange import Alone, Answer, Chance, Script, Send, exchange, failure_of, parse
from steelyard.pictures import Album, Picture
from steelyard.requests import JSON, Weighed, post, with_contents
from steelyard.retry import Retry
from steelyard.schema import StoredImage
from steelyard.uploads import Uploads

_ID = re.compile(r"sha256:[0-9a-f]{64}")
# Uploads of a picture that keeps vanishing before the question reaches the server; then it travels with the question.
_ROUNDS = 2
_SHORT_S = 60.0

Response = TypeVar("Response", bound=BaseModel)


class Sender:
    """Retries, and remembers which pictures the server has been sent; one a client."""

    def __init__(self, retry: Retry, timeout_s: float | None, chance: Chance) -> None:
        self._retry = retry
        self._timeout_s = timeout_s
        self._chance = chance
        self._uploads = Uploads()

    def score(
        self, path: str, request: Weighed, album: Album, response: type[Response], timeout_s: float | None
    ) -> Script[Response]:
        """The answer to a scoring request whose pictures are the album's. Raises what stopped it."""
        started = self._chance.clock()
        patience_s = self._timeout_s if timeout_s is None else timeout_s
        send = post(path, request, patience_s)
        # Pictures to send, each with the upload after which the server lacks it.
        missing = dict.fromkeys(album.pictures, 0)
        for _ in range(_ROUNDS):
            for image_id, since in missing.items():
                yield from self._upload(album.pictures[image_id], since, started)
            uploaded = {image_id: self._uploads.last(image_id) for image_id in album.pictures}
            try:
                return parse(response, (yield from self._exchange(send, started)))
            except UnknownImage as error:
                missing = {image_id: uploaded[image_id] for image_id in _named(error) if image_id in uploaded}
                if not missing:
                    raise
        whole = post(path, with_contents(request, album.pictures), patience_s)
        return parse(response, (yield from self._exchange(whole, started)))

    def put(self, picture: Picture) -> Script[StoredImage]:
        """Send a picture whether or not it was sent before."""
        return self._put(picture, self._chance.clock())

    def get(self, path: str, response: type[Response]) -> Script[Response]:
        """What the server says of itself."""
        return parse(response, (yield from self._exchange(self._short("GET", path), self._chance.clock())))

    def call(
        self,
        method: Literal["GET", "POST", "DELETE"],
        path: str,
        content: bytes = b"",
        media_type: str | None = None,
        extra_s: float = 0.0,
    ) -> Script[Answer]:
        """The success of a call that may be made again; each attempt may take `extra_s` longer than usual."""
        timeout_s = (_SHORT_S if self._timeout_s is None else self._timeout_s) + extra_s
        send = Send(method, path, timeout_s, content, media_type)
        return (yield from self._exchange(send, self._chance.clock()))

    def order(self, path: str, response: type[Response], content: bytes = b"") -> Script[Response]:
        """What came of a command, which may take minutes."""
        timeout_s = math.inf if self._timeout_s is None else self._timeout_s
        send = Send("POST", path, timeout_s, content, JSON if content else None)
        return parse(response, (yield from self._exchange(send, self._chance.clock())))

    def ask_once(self, path: str) -> Script[SteelyardError | None]:
        """Why it did not go well, or None: without retries."""
        reply = yield self._short("GET", path)
        return failure_of(reply) if isinstance(reply, Answer) else reply

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
        if stored.id != picture.id:
            raise BadAnswer(f"the picture was sent as {picture.id} and is kept as {stored.id}: it changed on the way")
        self._uploads.record(picture.id)
        return stored

    def _exchange(self, send: Send, started: float) -> Script[Answer]:
        return exchange(send, self._retry, self._chance, started)

    def _short(self, method: Literal["GET", "PUT"], path: str, content: bytes = b"") -> Send:
        timeout_s = _SHORT_S if self._timeout_s is None else self._timeout_s
        return Send(method, path, timeout_s, content, "application/octet-stream" if content else None)


def _named(error: UnknownImage) -> list[str]:
    return list(dict.fromkeys(_ID.findall(error.message)))
