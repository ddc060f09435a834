"""What a JSON body will weigh once it is objects, told from its bytes: a few of them may become a kilobyte."""

import numpy as np

# Bytes of memory, measured, for what follows each of these: pydantic's tree and then its model, a list, an item.
_WEIGHTS = {ord("{"): 1000, ord("["): 100, ord(","): 60}
_QUOTE = ord('"')
_TELL_NOTHING = bytes(set(range(256)) - {*_WEIGHTS, _QUOTE})
_CHUNK = 2**20


def outweighs(body: bytes, limit_bytes: int) -> bool:
    """Whether a body would take more than about `limit_bytes` of memory; nothing is parsed."""
    if sum(body.count(mark) * weight for mark, weight in _WEIGHTS.items()) <= limit_bytes:
        return False
    return _weigh(body) > limit_bytes


def _weigh(body: bytes) -> int:
    """Without what stands in strings, as braces and commas of a text weigh nothing."""
    # Escapes go first: what is left of quotes then begins and ends strings.
    telling = body.replace(b"\\\\", b"").replace(b'\\"', b"").translate(None, _TELL_NOTHING)
    marks = np.frombuffer(telling, np.uint8)
    weight, inside = 0, False
    for start in range(0, len(marks), _CHUNK):
        chunk = marks[start : start + _CHUNK]
        in_string = np.logical_xor.accumulate(chunk == _QUOTE) ^ inside
        outside = chunk[~in_string]
        weight += sum(int(np.count_nonzero(outside == mark)) * each for mark, each in _WEIGHTS.items())
        inside = bool(in_string[-1])
    return weight
