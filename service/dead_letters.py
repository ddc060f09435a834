"""`python -m service.dead_letters`: the jobs that no worker survived; list them, try them again, drop them."""

import argparse
import datetime
import os
import sys
from collections.abc import Sequence
from typing import cast

from redis import Redis
from redis.exceptions import RedisError

from service.queue import redis_keys as keys
from service.queue.connection import connect_blocking, hide_password

_VARIABLE = "STEELYARD_QUEUE"


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m service.dead_letters", description=__doc__)
    parser.add_argument("--queue", default=os.environ.get(_VARIABLE), help=f"redis://… (default ${_VARIABLE})")
    verbs = parser.add_subparsers(dest="verb", required=True)
    verbs.add_parser("list", help="name, when, model, deaths and why of each, newest last")
    for verb, text in (("retry", "queue again, as if nobody had died"), ("drop", "forget, with the stored failure")):
        verbs.add_parser(verb, help=text).add_argument("name", nargs="+", help="as listed, or `all`")
    options = parser.parse_args(arguments)
    if not options.queue:
        parser.error(f"--queue redis://… or {_VARIABLE} says where the queue is")
    try:
        with connect_blocking(options.queue) as redis:
            names = _names(redis)
            if options.verb == "list":
                return _list(redis, names)
            wanted = names if options.name == ["all"] else options.name
            return _each(redis, options.verb, wanted, known=set(names))
    except (RedisError, OSError) as error:
        print(f"{hide_password(options.queue)}: {error}", file=sys.stderr)
        return 1


def _names(redis: Redis) -> list[str]:
    return [name.decode() for name in cast(list[bytes], redis.zrange(keys.DEAD, 0, -1))]


def _list(redis: Redis, names: Sequence[str]) -> int:
    for name in names:
        at, model, deaths, why = cast(
            list[bytes | None], redis.hmget(keys.dead(name), ["at", "model", "deaths", "why"])
        )
        when = datetime.datetime.fromtimestamp(int(at or 0) / 1000, datetime.UTC).isoformat(timespec="seconds")
        print(name, when, (model or b"?").decode(), int(deaths or 0), (why or b"").decode(), sep="  ")
    if not names:
        print("no dead letters", file=sys.stderr)
    return 0


def _each(redis: Redis, verb: str, wanted: Sequence[str], known: set[str]) -> int:
    unknown = [name for name in wanted if name not in known]
    if unknown:
        print(f"no dead letter is named {', '.join(unknown)}; nothing was changed", file=sys.stderr)
        return 1
    for name in wanted:
        if verb == "retry":
            redis.eval(keys.script_texts()["revive"], 0, name)
        else:
            redis.delete(keys.dead(name), keys.result(name))
            redis.zrem(keys.DEAD, name)
    print(f"{len(wanted)} {'queued again' if verb == 'retry' else 'dropped'}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
