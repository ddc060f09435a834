"""The call that weighs responses by rule, without a model, as a script."""

import uuid
from collections.abc import Mapping, Sequence
from typing import TypeAlias

from steelyard.errors import InvalidCall
from steelyard.exchange import Script, beside, parse
from steelyard.requests import JSON, build, check_timeout, content_of
from steelyard.rewards import Specification
from steelyard.sending import Sender
from steelyard.verify_schema import VerifyItem, VerifyRequest, VerifyResponse

# A response and its solution, or with more beside them.
VerifyItemLike: TypeAlias = VerifyItem | Mapping[str, object] | tuple[str, str]

_DEADLINE_MS = 60_000
_FEW_CHARACTERS = 2**16


class VerifyCalls:
    """Rewards that a specification computes on the server, in processes that may be killed."""

    _sender: Sender

    def verify(
        self,
        specification: str | Specification | Mapping[str, object],
        items: Sequence[VerifyItemLike],
        *,
        time_limit_ms: int | None = None,
        deadline_ms: int | None = None,
        id: str | None = None,
        timeout_s: float | None = None,
    ) -> Script[VerifyResponse]:
        """Weigh responses against their solutions; an item is `(response, truth)` or has `served` and `id` as well.

        `specification` is a shipped one's name or an object. An item without a reward has a status; nothing is raised
        for it.
        """
        check_timeout(timeout_s)
        deadline = _DEADLINE_MS if deadline_ms is None else deadline_ms
        extra_s = deadline / 1000 if timeout_s is None else timeout_s

        def content() -> bytes:
            request = build(
                VerifyRequest,
                specification=dict(specification) if isinstance(specification, Mapping) else specification,
                items=[_sent(item) for item in items],
                time_limit_ms=time_limit_ms,
                deadline_ms=deadline_ms,
                id=uuid.uuid4().hex if id is None else id,
            )
            return content_of(request)

        body = yield from beside(_is_large(items), content)
        return parse(VerifyResponse, (yield from self._sender.call("POST", "/verify", body, JSON, extra_s)))


def _sent(item: VerifyItemLike) -> object:
    """Raises InvalidCall for what is no item; what is wrong inside one is for the schema to say."""
    if isinstance(item, tuple | list):
        if len(item) != 2:
            raise InvalidCall(f"items: a pair of response and truth, not {len(item)} of them")
        return {"response": item[0], "truth": item[1]}
    return dict(item) if isinstance(item, Mapping) else item


def _is_large(items: Sequence[VerifyItemLike]) -> bool:
    """Whether an event loop would be held up; a guess, as nothing has been checked yet."""
    first = items[0] if items else ()
    response = first[0] if isinstance(first, tuple | list) and first else getattr(first, "response", "")
    return len(items) * (200 + len(response if isinstance(response, str) else "")) > _FEW_CHARACTERS
