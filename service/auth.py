"""Who calls: the bearer keys that the server was started with."""

import hashlib
import hmac
from collections.abc import Sequence

from service.errors import InvalidKey, NotAllowed

ANYONE = "anyone"


def caller(authorization: str | None, keys: Sequence[str]) -> str:
    """A name for the caller that is safe to log; without keys the server is open. Raises InvalidKey."""
    return _bearer(authorization, keys) if keys else ANYONE


def admin(authorization: str | None, keys: Sequence[str]) -> str:
    """The same for who may command the server; without keys nobody may. Raises InvalidKey and NotAllowed."""
    if not keys:
        raise NotAllowed("this server takes no orders: start it with --admin-key, or STEELYARD_ADMIN_KEY, and bear it")
    return _bearer(authorization, keys)


def _bearer(authorization: str | None, keys: Sequence[str]) -> str:
    scheme, _, given = (authorization or "").partition(" ")
    if scheme.lower() != "bearer":
        raise InvalidKey("this server needs a key: send the header `Authorization: Bearer KEY`")
    # Every key is compared, in constant time, so that timing tells nothing.
    matches = [hmac.compare_digest(given.strip().encode(), key.encode()) for key in keys]
    if not any(matches):
        raise InvalidKey("the key is not one that this server knows")
    return hashlib.sha256(given.strip().encode()).hexdigest()[:12]
