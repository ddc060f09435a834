"""Who calls: the bearer keys that the server was started with."""

import hashlib
import hmac
from collections.abc import Sequence

from service.errors import InvalidKey

ANYONE = "anyone"


def caller(authorization: str | None, keys: Sequence[str]) -> str:
    """A name for the caller that is safe to log; without keys the server is open. Raises InvalidKey."""
    if not keys:
        return ANYONE
    scheme, _, given = (authorization or "").partition(" ")
    if scheme.lower() != "bearer":
        raise InvalidKey("this server needs a key: send the header `Authorization: Bearer KEY`")
    # Every key is compared, in constant time, so that timing tells nothing.
    matches = [hmac.compare_digest(given.strip().encode(), key.encode()) for key in keys]
    if not any(matches):
        raise InvalidKey("the key is not one that this server knows")
    return hashlib.sha256(given.strip().encode()).hexdigest()[:12]
