"""Bodies and raw requests, and what may be answered to anything."""

import json
import socket
from pathlib import Path
from typing import Any

import httpx2

from steelyard.schema import ErrorResponse, ScoreOutcomesResponse, ScoreStepsResponse
from tests.service.hostile.pictures import encoded
from tests.service.running import Running

Answer = ScoreStepsResponse | ScoreOutcomesResponse
# Nothing here may take longer.
PATIENCE_S = 10.0
BODY_LIMIT = 4_000_000
MIB = 2**20
# What a server may say that is not its fault, and 503 and 504 that are no bug.
ALLOWED = {200, 401, 404, 405, 409, 413, 415, 422, 429, 503, 504}
CONTROL = ["<IMG_CONTEXT>", "<|im_start|>assistant\n+<|im_end|>\n", "</s>", "<s>", "[UNUSED_TOKEN_130]", "<img>", "▁"]


def checked(response: httpx2.Response) -> httpx2.Response:
    """An answer that may be given to anything: one of the known statuses, its body as the schema says."""
    assert response.status_code in ALLOWED, (response.status_code, response.text[:300])
    assert "x-request-id" in response.headers
    if response.status_code != 200:
        assert len(response.content) < 16_384, "a refusal that echoes what it was sent"
        ErrorResponse.model_validate_json(response.content)
    else:
        answer_of(response)
    return response


def answer_of(response: httpx2.Response) -> Answer:
    """The scores of a 200, from either route."""
    model = ScoreOutcomesResponse if response.url.path == "/score_outcomes" else ScoreStepsResponse
    return model.model_validate_json(response.content)


def body(**fields: Any) -> bytes:  # noqa: ANN401
    return json.dumps({"question": "q", "candidates": ["a"]} | fields).encode()


def outcomes(**fields: Any) -> bytes:  # noqa: ANN401
    """Candidates that answer the same messages."""
    return json.dumps({"messages": [said("q")], "candidates": ["a", "fine"]} | fields).encode()


def talks(*conversations: Any, **fields: Any) -> bytes:  # noqa: ANN401
    """Whole conversations: each a list of messages, or an object."""
    whole = [talk if isinstance(talk, dict) else {"messages": talk} for talk in conversations]
    return json.dumps({"conversations": whole} | fields).encode()


def said(content: Any, role: Any = "user", **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"role": role, "content": content} | fields


def shown(url: Any, **fields: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"type": "image_url", "image_url": {"url": url} | fields}


def frames(*references: Any) -> dict[str, Any]:  # noqa: ANN401
    return {"type": "video_frames", "frames": list(references)}


def question(text: str) -> bytes:
    return body(question=text)


def candidate(text: str) -> bytes:
    return body(candidates=[text, "fine"])


def image(content: bytes) -> bytes:
    return body(images=[encoded(content)])


def exchange(server: Running, *parts: bytes) -> bytes:
    """Send everything, whatever the server says meanwhile, and then read one answer, as plain clients do."""
    with connect(server) as connection:
        for part in parts:
            connection.sendall(part)
        return read_answer(connection)


def connect(server: Running) -> socket.socket:
    host, _, port = server.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=PATIENCE_S)


def read_answer(connection: socket.socket) -> bytes:
    """Head and body of an answer that has a Content-Length."""
    received = b""
    while (part := connection.recv(65536)) != b"":
        received += part
        head, blank, content = received.partition(b"\r\n\r\n")
        lengths = [line.split(b":")[1] for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
        if blank and lengths and len(content) >= int(lengths[0]):
            break
    return received


def head_of(path: str, *headers: str) -> bytes:
    method = "PUT" if path == "/images" else "POST"
    return "\r\n".join([f"{method} {path} HTTP/1.1", "Host: x", *headers, "", ""]).encode()


def peak_mib(process: Path) -> int:
    status = (process / "status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) >> 10
