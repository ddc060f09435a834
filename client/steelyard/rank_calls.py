"""The call that puts candidates in order, as a script."""

import uuid
from collections.abc import Mapping, Sequence

from steelyard.blending import Normalize
from steelyard.errors import InvalidCall
from steelyard.exchange import Script, beside
from steelyard.messages import MessageLike, have_parts, with_references
from steelyard.pictures import Album, PictureLike, check_list
from steelyard.rank_schema import RankRequest, RankResponse
from steelyard.requests import build
from steelyard.schema import Aggregate, ControlTokens, Priority
from steelyard.sending import Sender


class RankCalls:
    """One model's order, or that of a blend of several."""

    _sender: Sender

    def rank(
        self,
        question: str | Sequence[MessageLike],
        images: Sequence[PictureLike],
        candidates: Sequence[str | Sequence[str]],
        *,
        model: str | None = None,
        blend: Mapping[str, float] | None = None,
        normalize: Normalize | None = None,
        aggregate: Aggregate = "mean",
        weights: Mapping[str, str] | None = None,
        max_tiles: int | None = None,
        control_tokens: ControlTokens = "parse",
        priority: Priority = "online",
        deadline_ms: int | None = None,
        id: str | None = None,
        timeout_s: float | None = None,
    ) -> Script[RankResponse]:
        """Put answers to a question, or to messages, in order by a model, or by the weighted sum of several's scores.

        A candidate that one of them could not score is in no place of the order: it has a status and a null score.
        """
        check_list(images)
        if not isinstance(question, str | list | tuple):
            raise InvalidCall(f"question: a text or a list of messages, not {type(question).__name__}")
        album = Album()
        references = yield from beside(len(images) > 0, lambda: album.refer_all(images))
        heavy = not isinstance(question, str) and have_parts(question)
        messages = (
            None if isinstance(question, str) else (yield from beside(heavy, lambda: with_references(question, album)))
        )
        request = build(
            RankRequest,
            question=question if isinstance(question, str) else None,
            messages=messages,
            images=references,
            candidates=candidates,
            model=model,
            blend=None if blend is None else dict(blend),
            normalize=normalize,
            aggregate=aggregate,
            weights=dict(weights or {}),
            max_tiles=max_tiles,
            control_tokens=control_tokens,
            priority=priority,
            deadline_ms=deadline_ms,
            id=uuid.uuid4().hex if id is None else id,
        )
        return (yield from self._sender.score("/rank", request, album, RankResponse, timeout_s))
