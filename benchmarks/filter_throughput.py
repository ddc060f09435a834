"""A million records through `steelyard filter`, against a bare loop of the same calls; kills, memory, and Ray.

`python -m benchmarks.filter_throughput [--records 1000000] [--together 8] [--kills 3] [--ray PYTHON]`: a real gateway
over a stub engine whose scores tell candidates apart. `--together` records in a row share a question. The bare loop
sends prepared bytes over as many connections and looks at no answer; it runs before and after. With `--kills` the run
is made once more, killed so often, and resumed: the outputs must be equal. With `--ray` that Python, which has Ray,
does the first `--ray-records` by `--engine ray`.
"""

import argparse
import asyncio
import filecmp
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

from benchmarks.stub_process import stub_server
from loadtest.connections import Pool, Reply

ROOT = Path(__file__).parents[1]
CHECKPOINT = ROOT / "tests" / "checkpoints" / "visualprm"
_COLORS = ("red", "blue", "green", "yellow", "teal", "gray", "brown", "black")
_CONCURRENCY = 32
_BARE_GROUPS = 6_000
_LINE = re.compile(r"scored: ([\d,]+) of .* records, ([\d,]+) a second")
_FILTER = ("filter", "--min-score", "0.5", "--concurrency", str(_CONCURRENCY))


@dataclass(frozen=True, slots=True)
class Ran:
    """A run of the command: seconds, its greatest resident memory in bytes, and records a second while it scored."""

    seconds: float
    memory: int
    rate: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--together", type=int, default=8)
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--ray", metavar="PYTHON")
    parser.add_argument("--ray-records", type=int, default=100_000)
    options = parser.parse_args()
    server = stub_server(str(CHECKPOINT), engine="benchmarks.digest_engine")
    with tempfile.TemporaryDirectory() as name, server as port:
        url, folder = f"http://127.0.0.1:{port}", Path(name)
        data = folder / "data.jsonl"
        _write(data, options.records, options.together)
        _measure(url, data, options)
        if options.ray is not None:
            _compare_engines(url, data, options)


def _measure(url: str, data: Path, options: argparse.Namespace) -> None:
    out = data.with_name("whole.jsonl")
    groups = min(_BARE_GROUPS, options.records // options.together)
    bare = [_bare(url, groups, options.together, 1)]
    ran = _run(url, data, out)
    bare.append(_bare(url, groups, options.together, 2))
    print(f"{options.records:,} records in {ran.seconds:.0f} s, {ran.rate:,.0f} a second while scoring")
    print(f"bare loop: {bare[0]:,.0f} before, {bare[1]:,.0f} after; the filter has {ran.rate / median(bare):.1%}")
    print(f"greatest resident memory {ran.memory / 2**20:.0f} MiB")
    if options.kills:
        killed = data.with_name("killed.jsonl")
        _kill(url, data, killed, ran.seconds, options.kills)
        assert filecmp.cmp(out, killed, shallow=False), "the resumed output is another one"
        print(f"killed {options.kills} times and resumed: the same {out.stat().st_size:,} bytes")


def _kill(url: str, data: Path, out: Path, seconds: float, kills: int) -> None:
    """The last run goes to its end; those before are killed after equal shares of the time."""
    for number in range(kills):
        process = subprocess.Popen(_command(data, out, number), env=_environment(url), stderr=subprocess.DEVNULL)
        time.sleep(seconds / (kills + 1))
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL, "it ended before it was killed"
    _run(url, data, out, resume=True)


def _compare_engines(url: str, data: Path, options: argparse.Namespace) -> None:
    part = data.with_name("part.jsonl")
    with data.open("rb") as whole, part.open("wb") as file:
        file.writelines(line for line, _ in zip(whole, range(options.ray_records), strict=False))
    local, ray = part.with_name("local.jsonl"), part.with_name("ray.jsonl")
    by_local = _run(url, part, local)
    by_ray = _run(url, part, ray, python=options.ray, more=("--engine", "ray"))
    assert filecmp.cmp(local, ray, shallow=False), "Ray's output is another one"
    print(
        f"{options.ray_records:,} records: {by_local.seconds:.0f} s, by --engine ray {by_ray.seconds:.0f} s, same bytes"
    )


def _run(
    url: str, data: Path, out: Path, *, resume: bool = False, python: str = sys.executable, more: Sequence[str] = ()
) -> Ran:
    started = time.perf_counter()
    command = [*_command(data, out, int(resume), python), *more]
    process = subprocess.Popen(
        command, env=_environment(url), stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, said[-2000:]
    rates = _LINE.findall(said)
    return Ran(time.perf_counter() - started, usage.ru_maxrss * 1024, float(rates[-1][1].replace(",", "")))


def _command(data: Path, out: Path, resumes: int, python: str = sys.executable) -> list[str]:
    return [python, "-m", "steelyard", *_FILTER, str(data), str(out), *(["--resume"] if resumes else [])]


def _environment(url: str) -> dict[str, str]:
    return os.environ | {"STEELYARD_URL": url, "PYTHONPATH": str(ROOT / "client")}


def _bare(url: str, groups: int, together: int, seed: int) -> float:
    """Records a second."""
    requests = [_request(seed * 10**9 + number, together) for number in range(groups)]
    return asyncio.run(_send(requests, url)) * together


async def _send(requests: Sequence[bytes], url: str) -> float:
    """Requests a second."""
    address = urlsplit(url)
    assert address.hostname is not None
    assert address.port is not None
    pool = Pool(address.hostname, address.port)
    waiting, left, ended = iter(requests), len(requests), asyncio.get_running_loop().create_future()

    def proceed(reply: Reply | None = None) -> None:
        nonlocal left
        if reply is not None:
            left -= 1
            if reply.status != 200:
                ended.set_exception(AssertionError(f"{reply.status} {reply.broken} {reply.body[:500]!r}"))
            elif left == 0:
                ended.set_result(None)
        if (request := next(waiting, None)) is not None:
            pool.send(request, proceed)

    started = time.perf_counter()
    for _ in range(_CONCURRENCY):
        proceed()
    await ended
    seconds = time.perf_counter() - started
    await pool.close()
    return len(requests) / seconds


def _request(number: int, together: int) -> bytes:
    question, responses = _asked(number, together)
    body = json.dumps({"question": question, "candidates": responses, "priority": "batch"}).encode()
    lines = ["POST /score_steps HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


def _write(data: Path, records: int, together: int) -> None:
    with data.open("w", encoding="utf-8") as file:
        for number in range(-(-records // together)):
            question, responses = _asked(number, together)
            for place, response in enumerate(responses[: records - number * together]):
                row = {"id": number * together + place, "question": question, "response": response}
                file.write(json.dumps(row) + "\n")


def _asked(number: int, together: int) -> tuple[str, list[str]]:
    """A question and different responses of a few words."""
    words = random.Random(number)
    responses = [" ".join(words.choices(_COLORS, k=6)) + f" {place}" for place in range(together)]
    return f"Question {number}: which shape is {words.choice(_COLORS)}?", responses


if __name__ == "__main__":
    main()
