"""A checkpoint with VisualPRM-8B's dimensions, two decoder layers and random weights, served and scored in bfloat16.

`python -m benchmarks.real_dimensions [--layers 2] [--dtype bfloat16]`: writes it, starts the real server on it, sends a
group with a picture, and compares with the plain path, which the server itself offers as its canary.
"""

import argparse
import base64
import http.client
import io
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from PIL import Image

from benchmarks.load_memory import anonymous_bytes
from benchmarks.random_checkpoint import Dimensions, write_checkpoint

_PATIENCE_S = 600.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--dtype", default="bfloat16")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_checkpoint(Path(folder), Dimensions(layers=options.layers))
        started = time.perf_counter()
        with _server(folder, options.dtype) as (process, port):
            _report(process, port, time.perf_counter() - started)


def _report(process: subprocess.Popen[str], port: int, load_s: float) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_S)
    started = time.perf_counter()
    answer = _call(connection, "POST", "/score_steps", json.dumps(_group()))
    took_s = time.perf_counter() - started
    engine = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
    print(f"one group: {took_s:.2f} s, {answer['timings_ms']}, {answer['usage']}", flush=True)
    ready = _call(connection, "GET", "/health/ready")
    print(f"ready after {load_s:.1f} s; the canary through the served path against the plain one: {ready['status']}")
    print(f"engine's anonymous memory {anonymous_bytes(engine) / 2**30:.2f} GiB")
    for result in answer["results"]:
        print(f"  candidate {result['index']} {result['status']} {result['step_scores']}")
    assert all(result["status"] == "ok" for result in answer["results"])


def _group() -> dict[str, Any]:
    picture = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((900, 448)).save(picture, "PNG")
    return {
        "question": "Where is the picture brightest?",
        "images": [base64.b64encode(picture.getvalue()).decode()],
        "candidates": ["It is a gradient.\n\nIt is brightest below.", "Above."],
    }


@contextmanager
def _server(folder: str, dtype: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-m", "service", "--model", f"visualprm={folder}", "--dtype", dtype, "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            ready = next(line for line in process.stdout if "is ready" in line)
            yield process, int(ready.rsplit(":", 1)[1].partition("/")[0])
        finally:
            process.terminate()


def _call(connection: http.client.HTTPConnection, method: str, path: str, body: str | None = None) -> dict[str, Any]:
    connection.request(method, path, body)
    response = connection.getresponse()
    content: dict[str, Any] = json.loads(response.read())
    assert response.status == 200, content
    return content


if __name__ == "__main__":
    main()
