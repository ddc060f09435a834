"""Items a second through `POST /verify`, over HTTP, in batches of 256.

`python -m benchmarks.verify_throughput [--seconds 5] [--connections 4] [--workers 1]`: a real gateway process,
whose engine is a stub; several kept-alive connections that send one batch after the other, prepared before.
Detection: a thought of 200 characters, one to five boxes against as many. Mathematics, apart: short formulas.
"""

import argparse
import http.client
import json
import random
import threading
import time
from collections.abc import Sequence

from benchmarks.random_checkpoint import TOKENIZER
from benchmarks.stub_process import stub_server

BATCH = 256
_BODIES = 16
_JSON = {"content-type": "application/json"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--kinds", nargs="+", default=["detection", "maths"], choices=["detection", "maths"])
    options = parser.parse_args()
    print(f"{options.connections} connections, batches of {BATCH}, {options.workers} worker(s)")
    with stub_server(str(TOKENIZER), "--verify-workers", str(options.workers)) as port:
        for kind in options.kinds:
            draw = random.Random(0)
            bodies = [_body(draw, kind) for _ in range(_BODIES)]
            _post(http.client.HTTPConnection("127.0.0.1", port), bodies[0])
            per_s, batch_ms = _measure(port, bodies, options.connections, options.seconds)
            print(f"{kind:<12}{per_s:>10.0f} items/s{batch_ms:>10.1f} ms a batch (median)")


def _measure(port: int, bodies: Sequence[bytes], connections: int, seconds: float) -> tuple[float, float]:
    """Items a second of all connections, and the median milliseconds of a batch."""
    took: list[float] = []
    ends = time.perf_counter() + seconds

    def call(first: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port)
        turn = first
        while time.perf_counter() < ends:
            started = time.perf_counter()
            _post(connection, bodies[turn % len(bodies)])
            took.append(time.perf_counter() - started)
            turn += 1

    started = time.perf_counter()
    threads = [threading.Thread(target=call, args=(first,)) for first in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return len(took) * BATCH / (time.perf_counter() - started), sorted(took)[len(took) // 2] * 1000


def _post(connection: http.client.HTTPConnection, body: bytes) -> None:
    connection.request("POST", "/verify", body, _JSON)
    response = connection.getresponse()
    content = response.read()
    assert response.status == 200, content
    assert content.count(b'"status":"ok"') == BATCH, content[:1000]


def _body(draw: random.Random, kind: str) -> bytes:
    item = _detection if kind == "detection" else _maths
    return json.dumps({"specification": kind, "items": [item(draw) for _ in range(BATCH)]}).encode()


def _detection(draw: random.Random) -> dict[str, str]:
    truth = [_box(draw) for _ in range(draw.randint(1, 5))]
    found = [[corner + draw.randint(-9, 9) for corner in box] for box in truth]
    answers = [{"Position": box, "Confidence": round(draw.random(), 2)} for box in found]
    thought = "The picture shows what is asked for. " * 6
    solution = [{"Position": box, "Confidence": 1} for box in truth]
    return {
        "response": f"<think>{thought[:200]}</think>\n<answer>{answers}</answer>",
        "truth": f"<answer>{solution}</answer>",
    }


def _box(draw: random.Random) -> list[int]:
    left, top = draw.randint(10, 600), draw.randint(10, 600)
    return [left, top, left + draw.randint(50, 300), top + draw.randint(50, 300)]


def _maths(draw: random.Random) -> dict[str, str]:
    one, other = draw.randint(1, 99), draw.randint(1, 99)
    answer = draw.choice((f"\\frac{{{one}}}{{{other}}}", f"{one}x+{other}", f"\\sqrt{{{one}}}"))
    return {"response": f"<think>so</think><answer>${answer}$</answer>", "truth": f"${answer}$"}


if __name__ == "__main__":
    main()
