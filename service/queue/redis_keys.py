"""The names that the queue's keys have in Redis, and the scripts that read and write them."""

from pathlib import Path

PREFIX = "steelyard:"
# Jobs with one opening come to one shard, and a shard to one worker while it lives.
SHARDS = 16
RANKS = (0, 1, 2)
# Jobs whose worker died or gave them back go before all others of their rank, to whichever worker comes first.
AGAIN = "again"

_LUA = Path(__file__).parent / "lua"


def stream(model: str, rank: int, shard: int | str) -> str:
    return f"{PREFIX}queue:{model}:{rank}:{shard}"


def streams(model: str) -> list[str]:
    """All the streams of a model, the urgent ones first."""
    return [stream(model, rank, shard) for rank in RANKS for shard in (AGAIN, *range(SHARDS))]


def shard_of(opening: str) -> int:
    """`opening` is hexadecimal."""
    return int(opening[:8] or "0", 16) % SHARDS


def blob(digest: str) -> str:
    return f"{PREFIX}blob:{digest}"


def hand(worker: str) -> str:
    return f"{PREFIX}hand:{worker}"


def bell(worker: str) -> str:
    return f"{PREFIX}bell:{worker}"


def gateway(name: str) -> str:
    return f"{PREFIX}gateway:{name}"


def replies(name: str) -> str:
    return f"{PREFIX}replies:{name}"


def fleet(model: str) -> str:
    return f"{PREFIX}fleet:{model}"


def load(model: str) -> str:
    return f"{PREFIX}load:{model}"


def dead(content: str) -> str:
    return f"{PREFIX}dead:{content}"


def result(content: str) -> str:
    return f"{PREFIX}result:{content}"


CONTROL = PREFIX + "control"
DEAD = PREFIX + "dead"


def script_texts() -> dict[str, str]:
    """The Lua scripts by name, each with what they share in front."""
    prelude = (_LUA / "prelude.lua").read_text()
    return {path.stem: prelude + path.read_text() for path in _LUA.glob("*.lua") if path.stem != "prelude"}
