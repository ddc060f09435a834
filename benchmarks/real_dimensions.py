"""A checkpoint with a released model's dimensions, two decoder layers and random weights, served in bfloat16.

`python -m benchmarks.real_dimensions [--family visual_prm|ixc_reward] [--layers 2] [--dtype bfloat16]`: writes it,
starts the real server on it, sends a group with a picture, and compares with the plain path, which the server offers as
its canary. IXC-2.5-Reward's configuration leaves out its tower and its rank, as the released one does.
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
from benchmarks.random_checkpoint import TOKENIZER, Dimensions, write_checkpoint, write_files, write_tensors
from models.ixc_reward.network import tensor_shapes
from models.ixc_reward.spec import ARCHITECTURE, read_spec

_PATIENCE_S = 600.0
# What IXC-2.5-Reward's config.json says; it names neither the tower's dimensions nor the partial LoRA's rank.
_IXC_REWARD = {
    "architectures": [ARCHITECTURE],
    "model_type": "internlm2",
    "bias": False,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "max_position_embeddings": 32768,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "rms_norm_eps": 1e-5,
    "rope_scaling": {"factor": 1.0, "type": "dynamic"},
    "rope_theta": 1000000,
    "vocab_size": 92544,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--family", choices=["visual_prm", "ixc_reward"], default="visual_prm")
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--dtype", default="bfloat16")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        _write(Path(folder), options.family, options.layers)
        started = time.perf_counter()
        with _server(folder, options.dtype) as (process, port):
            _report(process, port, options.family, time.perf_counter() - started)


def _write(directory: Path, family: str, layers: int) -> None:
    if family == "visual_prm":
        write_checkpoint(directory, Dimensions(layers=layers))
        return
    write_files(directory, _IXC_REWARD | {"num_hidden_layers": layers}, TOKENIZER.with_name("ixc_reward"))
    write_tensors(directory, tensor_shapes(read_spec(directory)))


def _report(process: subprocess.Popen[str], port: int, family: str, load_s: float) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_PATIENCE_S)
    started = time.perf_counter()
    path, group = ("/score_steps", _steps()) if family == "visual_prm" else ("/score_outcomes", _outcomes())
    answer = _call(connection, "POST", path, json.dumps(group))
    took_s = time.perf_counter() - started
    engine = int(Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0])
    print(f"one group: {took_s:.2f} s, {answer['timings_ms']}, {answer['usage']}", flush=True)
    ready = _call(connection, "GET", "/health/ready")
    print(f"ready after {load_s:.1f} s; the canary through the served path against the plain one: {ready['status']}")
    print(f"engine's anonymous memory {anonymous_bytes(engine) / 2**30:.2f} GiB")
    for result in answer["results"]:
        print(f"  candidate {result['index']} {result['status']} {result.get('step_scores', result['score'])}")
    assert all(result["status"] == "ok" for result in answer["results"])


def _steps() -> dict[str, Any]:
    candidates = ["It is a gradient.\n\nIt is brightest below.", "Above."]
    return {"question": "Where is the picture brightest?", "images": [_picture()], "candidates": candidates}


def _outcomes() -> dict[str, Any]:
    asked = [{"role": "user", "content": "Where is the picture brightest?"}]
    return {"messages": asked, "images": [_picture()], "candidates": ["Below.", "Above."]}


def _picture() -> str:
    picture = io.BytesIO()
    Image.linear_gradient("L").convert("RGB").resize((900, 448)).save(picture, "PNG")
    return base64.b64encode(picture.getvalue()).decode()


@contextmanager
def _server(folder: str, dtype: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    command = [sys.executable, "-m", "service", "--model", f"model={folder}", "--dtype", dtype, "--port", "0"]
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
