"""`python -m loadtest --url http://127.0.0.1:8000 --rate 50 --seconds 60`: an open-loop load on running servers.

The table and the progress go to stderr, the numbers as JSON to stdout.
"""

import argparse
import json
import sys

from loadtest.bodies import PRIORITIES
from loadtest.generators import Load, generate, processes_for
from loadtest.report import as_json, table
from loadtest.target import Target, prepare_for
from loadtest.workload import Shape
from steelyard.errors import SteelyardError


def main(arguments: list[str]) -> int:
    options = _parser().parse_args(arguments)
    groups, every_s = options.bursts
    load = Load(
        seconds=options.seconds,
        rate=options.rate,
        priority=options.priority,
        online_rate=options.online_rate,
        burst=groups,
        burst_every_s=every_s,
        seed=options.seed,
    )
    if load.total_rate <= 0:
        _parser().error("nothing to send: give --rate, --online-rate or --bursts")
    target = Target(
        urls=tuple(options.url or ["http://127.0.0.1:8000"]),
        shape=Shape(options.candidates, options.steps, options.pictures),
        model=options.model,
        api_key=options.api_key,
        deadline_ms=options.deadline_ms,
        seed=options.seed,
    )
    try:
        bodies = prepare_for(target)
    except SteelyardError as error:
        print(f"loadtest: {error}", file=sys.stderr)
        return 1
    tally = generate(
        target.urls,
        bodies,
        load,
        processes=options.processes or processes_for(load),
        most_open=options.most_open,
        drain_s=options.drain,
    )
    print(table(tally), file=sys.stderr, flush=True)
    print(json.dumps(as_json(tally), indent=2))
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m loadtest", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--url", action="append", help="a running server; several take turns")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long requests are sent (default 60)")
    parser.add_argument("--rate", type=float, default=0.0, help="requests a second on average, at random times")
    parser.add_argument("--priority", choices=PRIORITIES, default="train", help="of --rate (default train)")
    parser.add_argument("--online-rate", type=float, default=0.0, help="online requests a second beside them")
    parser.add_argument(
        "--bursts", type=read_bursts, default=(0, 1.0), metavar="GROUPSxSECONDS", help="so many at once, so often"
    )
    parser.add_argument("--candidates", type=int, default=4, help="of a group (default 4)")
    parser.add_argument("--steps", type=int, default=3, help="of a candidate (default 3)")
    parser.add_argument("--pictures", type=float, default=0.5, help="share of groups with one (default 0.5)")
    parser.add_argument("--model", help="the served name, where several could be meant")
    parser.add_argument("--api-key", help="default STEELYARD_API_KEY")
    parser.add_argument("--deadline-ms", type=int, help="of each request; default the priority's")
    parser.add_argument("--drain", type=float, default=30.0, help="seconds to wait for the last answers (default 30)")
    parser.add_argument("--processes", type=int, help="generators; default as many as the rate needs")
    parser.add_argument("--most-open", type=int, default=10_000, help="requests under way at a time (default 10,000)")
    parser.add_argument("--seed", type=int, default=0)
    return parser


def read_bursts(text: str) -> tuple[int, float]:
    """`64x10` is 64 groups every 10 s. Raises ArgumentTypeError."""
    groups, _, every_s = text.partition("x")
    try:
        found = int(groups), float(every_s)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not like 64x10") from None
    if found[0] < 1 or not found[1] > 0:
        raise argparse.ArgumentTypeError(f"{text!r}: both numbers must be more than 0")
    return found


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
