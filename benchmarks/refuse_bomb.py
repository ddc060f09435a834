"""How soon a decompression bomb is refused, and the memory that it costs. Exit status 1 over 50 ms or 10 MiB.

`python -m benchmarks.refuse_bomb [--tries 100]`: the real server is sent a whole and valid PNG of 30,000 × 30,000
pixels in about 100 kB, by PUT /images and in a body for each route; each try opens with a fresh file, so that none is
known. The memory is the growth of the gateway's peak (VmHWM, so Linux alone) over all the tries.
"""

import argparse
import base64
import http.client
import json
import os
import statistics
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

SIDE = 30_000
_LIMIT_MS, _LIMIT_MIB = 50.0, 10.0
_ROOT = Path(__file__).parents[1]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=100)
    options = parser.parse_args()
    front, back = whole_png(SIDE)
    print(f"a PNG of {SIDE} × {SIDE} in {len(front) + len(back)} bytes, {options.tries} tries each")
    print(f"{'':<24}{'median ms':>12}{'p95 ms':>12}{'peak + MiB':>12}")
    with _server() as (port, pid):
        within = [_report(name, wrap, (front, back), options.tries, port, pid) for name, wrap in SENDINGS.items()]
    return 0 if all(within) else 1


def whole_png(side: int) -> tuple[bytes, bytes]:
    """A square PNG that decodes to black, one bit a pixel, in two parts: between them a chunk may be put."""
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    row = bytes(1 + (side + 7) // 8)
    pixels = b"".join([packer.compress(row) for _ in range(side)]) + packer.flush()
    signed = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header)
    return signed + _chunk(b"IDAT", pixels), _chunk(b"IEND", b"")


def _put(content: bytes) -> tuple[str, str, bytes]:
    return "PUT", "/images", content


def _steps(content: bytes) -> tuple[str, str, bytes]:
    body = {"question": "q", "images": [base64.b64encode(content).decode()], "candidates": ["a"]}
    return "POST", "/score_steps", json.dumps(body).encode()


def _outcomes(content: bytes) -> tuple[str, str, bytes]:
    url = "data:image/png;base64," + base64.b64encode(content).decode()
    part = {"type": "image_url", "image_url": {"url": url}}
    body = {"conversations": [{"messages": [{"role": "user", "content": [part]}]}]}
    return "POST", "/score_outcomes", json.dumps(body).encode()


Sending = Callable[[bytes], tuple[str, str, bytes]]
SENDINGS: dict[str, Sending] = {"PUT /images": _put, "POST /score_steps": _steps, "POST /score_outcomes": _outcomes}


def _report(name: str, wrap: Sending, file: tuple[bytes, bytes], tries: int, port: int, pid: int) -> bool:
    front, back = file
    requests = [wrap(front + _chunk(b"tEXt", b"try\0%d" % index) + back) for index in range(tries)]
    connection = http.client.HTTPConnection("127.0.0.1", port)
    # An ordinary picture first: what the server loads once is not the bombs' doing.
    _ask(connection, wrap(b"".join(whole_png(30))))
    Path(f"/proc/{pid}/clear_refs").write_text("5")
    before = _peak_mib(pid)
    times = [_refused_ms(connection, request) for request in requests]
    growth = _peak_mib(pid) - before
    median, p95 = statistics.median(times), statistics.quantiles(times, n=20)[-1]
    print(f"{name:<24}{median:>12.2f}{p95:>12.2f}{growth:>12.1f}")
    return p95 <= _LIMIT_MS and growth <= _LIMIT_MIB


def _refused_ms(connection: http.client.HTTPConnection, request: tuple[str, str, bytes]) -> float:
    started = time.perf_counter()
    status, content = _ask(connection, request)
    elapsed_ms = (time.perf_counter() - started) * 1000
    assert (status, json.loads(content)["error"]["code"]) == (413, "too_many_pixels"), content[:300]
    return elapsed_ms


def _ask(connection: http.client.HTTPConnection, request: tuple[str, str, bytes]) -> tuple[int, bytes]:
    method, path, body = request
    connection.request(method, path, body)
    response = connection.getresponse()
    return response.status, response.read()


def _peak_mib(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii", errors="replace")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


@contextmanager
def _server() -> Iterator[tuple[int, int]]:
    """The server as it is served, with its default models; yields its port and the gateway's process id."""
    command = [sys.executable, "-m", "service", "--port", "0", "--log-level", "warning"]
    environment = os.environ | {"PYTHONPATH": f"{_ROOT}{os.pathsep}{_ROOT / 'client'}"}
    with subprocess.Popen(command, cwd=_ROOT, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = next(line for line in process.stdout if "is ready" in line)
            yield int(line.rpartition(":")[2].partition("/")[0]), process.pid
        finally:
            process.terminate()


if __name__ == "__main__":
    sys.exit(main())
