"""Hostile texts against `POST /verify`: `python -m loadtest.verify_fuzz [--items 10000] [--seed 0] [--url …]`.

Every item is sent alone first, and timed from the caller's side: never an error of the server's, never longer than its
time limit and 100 ms, never a number outside the range of its specification. Then all are sent again in batches, where
each must get what it got alone. The report is JSON; the exit status is 1 when anything of this does not hold.
"""

import argparse
import asyncio
import http.client
import json
import math
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from loadtest.hostile_texts import HostileItem, hostile_items
from loadtest.reaper import Reaper
from loadtest.server_process import ServerProcess
from steelyard.rewards import SHIPPED, Specification

GRACE_S = 0.1
_BATCH = 256
_NAMED = 10
# Not settled by the text alone: what took nearly as long as it may.
_BY_THE_CLOCK = "timed_out"
_NO_TEXT = b'{"specification": "detection", "items": [{"response": "\\ud800", "truth": ""}]}'


@dataclass(slots=True)
class Findings:
    """What was seen, and what of it must not be."""

    statuses: Counter[str] = field(default_factory=Counter)
    http: Counter[int] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    slowest_ms: float = 0.0
    seconds: list[float] = field(default_factory=list)
    different: int = 0

    def blame(self, item: HostileItem, what: str) -> None:
        self.wrong.append(f"{what}: {item.specification}: {item.response[:80]!r} against {item.truth[:40]!r}")


class Caller:
    """One connection."""

    def __init__(self, url: str, limit_ms: int) -> None:
        parts = urlsplit(url)
        assert parts.hostname is not None
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=300)
        self._limit_ms = limit_ms

    def ask(self, items: Sequence[HostileItem]) -> tuple[int, bytes, float]:
        """Status, body and seconds."""
        sent = [{"response": item.response, "truth": item.truth} for item in items]
        fields = {"specification": items[0].specification, "items": sent, "time_limit_ms": self._limit_ms}
        return self.send(json.dumps(fields | {"deadline_ms": 600_000}).encode())

    def close(self) -> None:
        self._connection.close()

    def send(self, body: bytes) -> tuple[int, bytes, float]:
        started = time.perf_counter()
        self._connection.request("POST", "/verify", body, {"content-type": "application/json"})
        response = self._connection.getresponse()
        content = response.read()
        return response.status, content, time.perf_counter() - started


def fuzz(url: str, items: Sequence[HostileItem], limit_ms: int, *, together: bool = True) -> Findings:
    """Send them all."""
    findings = Findings()
    with closing(Caller(url, limit_ms)) as caller:
        _send_all(caller, items, limit_ms, findings, together=together)
    return findings


def _send_all(
    caller: Caller, items: Sequence[HostileItem], limit_ms: int, findings: Findings, *, together: bool
) -> None:
    # Workers, and the mathematics that they import once, are there before anything is timed.
    for name in ("detection", "maths"):
        caller.ask([HostileItem(name, "<answer>1</answer>", "1")])
    refused = caller.send(_NO_TEXT)[0]
    findings.http[refused] += 1
    if refused != http.client.UNPROCESSABLE_ENTITY:
        findings.wrong.append(f"half of a surrogate pair is answered {refused}")
    alone = [_alone(caller, item, limit_ms, findings) for item in items]
    if together:
        _together(caller, items, alone, findings)


def _alone(caller: Caller, item: HostileItem, limit_ms: int, findings: Findings) -> Mapping[str, object] | None:
    status, content, seconds = caller.ask([item])
    findings.http[status] += 1
    findings.seconds.append(seconds)
    findings.slowest_ms = max(findings.slowest_ms, seconds * 1000)
    if status != http.client.OK:
        findings.blame(item, f"HTTP {status}")
        return None
    if seconds > limit_ms / 1000 + GRACE_S:
        findings.blame(item, f"{seconds * 1000:.0f} ms")
    (result,) = json.loads(content, parse_constant=lambda name: math.nan)["results"]
    findings.statuses[result["status"]] += 1
    for what in _out_of_range(_specification(item), result):
        findings.blame(item, what)
    return _kept(result)


def _together(
    caller: Caller, items: Sequence[HostileItem], alone: Sequence[Mapping[str, object] | None], findings: Findings
) -> None:
    """In batches, each of one specification, as many of them as there are."""
    by_specification: dict[str, list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        by_specification[json.dumps(item.specification)].append(place)
    for places in by_specification.values():
        for start in range(0, len(places), _BATCH):
            batch = places[start : start + _BATCH]
            status, content, _ = caller.ask([items[place] for place in batch])
            findings.http[status] += 1
            if status != http.client.OK:
                findings.blame(items[batch[0]], f"HTTP {status} for a batch")
                continue
            for place, result in zip(batch, json.loads(content)["results"], strict=True):
                expected, found = alone[place], _kept(result)
                if expected != found and _BY_THE_CLOCK not in (found["status"], (expected or {}).get("status")):
                    findings.different += 1
                    findings.blame(items[place], f"alone {expected}, in a batch {found}")


def _kept(result: Mapping[str, object]) -> Mapping[str, object]:
    return {name: result[name] for name in ("status", "reward", "parts")}


def _out_of_range(specification: Specification, result: Mapping[str, object]) -> Iterator[str]:
    reward, parts = result["reward"], result["parts"]
    assert isinstance(parts, dict)
    if (reward is None) != (result["status"] != "ok"):
        yield f"{result['status']} with the reward {reward}"
    if reward is None:
        return
    ranges = {"the total": (reward, specification.bounds)}
    for name, term in zip(specification.names, specification.terms, strict=True):
        ranges[name] = (parts[name], term.bounds(specification.mode))
    for name, (value, (low, high)) in ranges.items():
        # Written so that a NaN is never inside.
        if not (isinstance(value, int | float) and low <= value <= high and math.isfinite(value)):
            yield f"{name} is {value}, which is not in {low}..{high}"


def _specification(item: HostileItem) -> Specification:
    if isinstance(item.specification, str):
        return SHIPPED[item.specification]
    return Specification.model_validate(item.specification)


def report(findings: Findings, limit_ms: int) -> str:
    """As JSON."""
    ordered = sorted(findings.seconds)
    shown = {
        "items": len(findings.seconds),
        "limit_ms": limit_ms,
        "http": {str(status): count for status, count in sorted(findings.http.items())},
        "statuses": dict(findings.statuses.most_common()),
        "median_ms": round(ordered[len(ordered) // 2] * 1000, 2),
        "slowest_ms": round(findings.slowest_ms, 1),
        "over_limit_and_100_ms": sum(s > limit_ms / 1000 + GRACE_S for s in ordered),
        "different_in_a_batch": findings.different,
        "wrong": len(findings.wrong),
        "first_wrong": findings.wrong[:_NAMED],
    }
    return json.dumps(shown, indent=2, ensure_ascii=True)


@contextmanager
def _serving() -> Iterator[str]:
    """A server with the demo models, which nobody asks for anything."""
    with tempfile.TemporaryDirectory() as folder, closing(Reaper()) as reaper:
        command = (sys.executable, "-m", "service", "--port", "0", "--threads", "1")
        server = ServerProcess("server", command, Path(folder), reaper)
        server.start()
        try:
            yield asyncio.run(server.says(r"ready: (\S+)/docs"))
        finally:
            server.destroy()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--items", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit-ms", type=int, default=300)
    parser.add_argument("--url", help="a server that runs; default: one of its own")
    options = parser.parse_args()
    items = hostile_items(options.seed, options.items)
    if options.url:
        findings = fuzz(options.url, items, options.limit_ms)
    else:
        with _serving() as url:
            findings = fuzz(url, items, options.limit_ms)
    print(report(findings, options.limit_ms))
    return 1 if findings.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
