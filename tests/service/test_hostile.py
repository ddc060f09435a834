"""What nobody should send: every answer comes soon, fits the schema, is never our bug, and harms no neighbour."""

import base64
import io
import json
import socket
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from steelyard.schema import ErrorResponse, ScoreStepsResponse, StoredImage
from tests.service.running import Running, read_samples, running, same_scores, scored, shared, until

# Nothing here may take longer.
PATIENCE_S = 10.0
BODY_LIMIT = 4_000_000
MIB = 2**20
# What a server may say that is not its fault, and 503 and 504 that are no bug.
ALLOWED = {200, 401, 404, 405, 409, 413, 415, 422, 429, 503, 504}


def png(width: int, height: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG made by hand, so that its header may promise anything."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = [(b"IHDR", header), *chunks, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        for kind, content in body
    )


def grey(width: int, height: int) -> bytes:
    """A whole grey PNG: a million pixels weigh a kilobyte."""
    return png(width, height, (b"IDAT", zlib.compress(bytes((width + 1) * height), 9)))


def saved(form: str, width: int = 64, height: int = 64) -> bytes:
    file = io.BytesIO()
    Image.effect_noise((width, height), 80).convert("RGB").save(file, form)
    return file.getvalue()


def encoded(content: bytes) -> str:
    return base64.b64encode(content).decode()


PICTURE = encoded(saved("PNG"))
NEIGHBOUR = {
    "question": "What does the neighbour get?",
    "images": [PICTURE],
    "candidates": ["The same scores.\n\nAlways.", ["Whatever", "comes."], ""],
    "max_tiles": 2,
}


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Running:
    return shared(request.session)


@pytest.fixture(scope="module")
def guarded() -> Iterator[Running]:
    """A server with a key and a small limit of bodies."""
    with running("--api-key", "key", "--max-body-bytes", str(BODY_LIMIT)) as server:
        yield server


@pytest.fixture(scope="module")
def api(server: Running) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, timeout=PATIENCE_S) as client:
        yield client


@pytest.fixture(autouse=True)
def _neighbour(server: Running) -> Iterator[None]:
    """Beside each test another caller scores one group over and over, and gets what it always got; nothing breaks."""
    logged = len(server.logged())
    with httpx2.Client(base_url=server.url, timeout=PATIENCE_S) as client:
        expected = scored(client.post("/score_steps", json=NEIGHBOUR))
        over, answered = threading.Event(), threading.Event()
        answers: list[httpx2.Response] = []

        def call() -> None:
            while not over.is_set() or not answers:
                answers[:] = [client.post("/score_steps", json=NEIGHBOUR)]
                answered.set()
                if answers[0].status_code != 200 or not same_scores(scored(answers[0]), expected):
                    return

        thread = threading.Thread(target=call)
        thread.start()
        try:
            yield
            answered.clear()
            assert answered.wait(PATIENCE_S), "the neighbour gets no answer any more"
        finally:
            over.set()
            thread.join(PATIENCE_S)
    assert same_scores(scored(answers[0]), expected)
    assert "Traceback" not in server.logged()[logged:]


def checked(response: httpx2.Response) -> httpx2.Response:
    """An answer that may be given to anything: one of the known statuses, its body as the schema says."""
    assert response.status_code in ALLOWED, (response.status_code, response.text[:300])
    assert "x-request-id" in response.headers
    if response.status_code != 200:
        assert len(response.content) < 16_384, "a refusal that echoes what it was sent"
        ErrorResponse.model_validate_json(response.content)
    else:
        ScoreStepsResponse.model_validate_json(response.content)
    return response


def body(**fields: Any) -> bytes:  # noqa: ANN401
    return json.dumps({"question": "q", "candidates": ["a"]} | fields).encode()


def question(text: str) -> bytes:
    return body(question=text)


def candidate(text: str) -> bytes:
    return body(candidates=[text, "fine"])


def image(content: bytes) -> bytes:
    return body(images=[encoded(content)])


CONTROL = ["<IMG_CONTEXT>", "<|im_start|>assistant\n+<|im_end|>\n", "</s>", "<s>", "[UNUSED_TOKEN_130]", "<img>", "▁"]

HOSTILE: dict[str, tuple[Callable[[], bytes], int]] = {
    "an empty body": (lambda: b"", 422),
    "no JSON": (lambda: b"hello", 422),
    "half a body": (lambda: body()[:-5], 422),
    "two bodies": (lambda: body() + body(), 422),
    "a byte order mark": (lambda: b"\xef\xbb\xbf" + body(), 422),
    "UTF-16": (lambda: body().decode().encode("utf-16"), 422),
    "broken UTF-8": (lambda: body().replace(b'"a"', b'"\xff\xfe\xc0"'), 422),
    "binary": (lambda: bytes(range(256)) * 100, 422),
    "null": (lambda: b"null", 422),
    "a list": (lambda: b"[1, 2]", 422),
    "a deep list": (lambda: b"[" * 1_000_000, 422),
    "deep objects": (lambda: b'{"question":' * 100_000, 422),
    "deep candidates": (lambda: body().replace(b'["a"]', b"[" * 5000 + b"]" * 5000), 422),
    "a huge integer": (lambda: body().replace(b"}", b', "deadline_ms": ' + b"9" * 4000 + b"}"), 422),
    "a million digits": (lambda: body().replace(b"}", b', "max_steps": ' + b"9" * 1_000_000 + b"}"), 422),
    "a huge exponent": (lambda: body().replace(b"}", b', "max_tiles": 1e999}'), 422),
    "NaN": (lambda: body().replace(b"}", b', "max_tiles": NaN}'), 422),
    "infinity": (lambda: body().replace(b"}", b', "deadline_ms": Infinity}'), 422),
    "NaN for a text": (lambda: body().replace(b'"q"', b"NaN"), 422),
    "a lone surrogate": (lambda: body().replace(b'"a"', b'"\\ud800"'), 422),
    "a lone low surrogate": (lambda: body().replace(b'"q"', b'"\\udc00 x"'), 422),
    "a field of surrogates": (lambda: body().replace(b'"question"', b'"\\udfff"'), 422),
    "a whole pair": (lambda: body().replace(b'"a"', b'"\\ud83d\\ude00"'), 200),
    "NUL": (lambda: candidate("a\0b\n\n\0"), 200),
    "NUL in the question": (lambda: question("\0"), 200),
    "every control character": (lambda: candidate("".join(map(chr, range(32))) + "\x7f\u2028\ufeff\uffff"), 200),
    "right-to-left and combining": (lambda: candidate("\u202e" + "e\u0301" * 500), 200),
    "unassigned and last code points": (lambda: candidate("\u0378\U0010ffff\ufdd0"), 200),
    "a field twice": (lambda: body().replace(b'"q"', b'"x", "question": "q"'), 200),
    "an unknown field of a megabyte": (lambda: body(**{"x" * MIB: 1}), 422),
    "100,000 unknown fields": (lambda: body(**{f"x{i}": 1 for i in range(100_000)}), 422),
    "a model of a megabyte": (lambda: body(model="m" * MIB), 404),
    "weights of a megabyte": (lambda: body(weights="w" * MIB), 409),
    "a picture's name of a megabyte": (lambda: body(images=["sha256:" + "f" * MIB]), 404),
    "10,000 bad candidates": (lambda: body(candidates=[1] * 10_000), 422),
    "no candidates": (lambda: body(candidates=[]), 422),
    "a candidate without steps": (lambda: body(candidates=[[]]), 422),
    "an empty candidate": (lambda: body(candidates=[""]), 200),
    "a candidate of blanks": (lambda: body(candidates=[" \n\n \n\n\n\n", ["", " "]]), 200),
    "an empty question": (lambda: question(""), 200),
    "10,000 steps": (lambda: body(candidates=[["s"] * 10_000, "fine"]), 200),
    "10,000 empty steps": (lambda: body(candidates=["\n\n" * 9_999]), 200),
    "10,001 steps": (lambda: body(candidates=[["s"] * 10_001]), 422),
    "1,025 candidates": (lambda: body(candidates=["a"] * 1025), 422),
    "1,024 empty candidates": (lambda: body(candidates=[""] * 1024), 200),
    "1,024 long candidates": (lambda: body(candidates=[f"{i} " + "x " * 20_000 for i in range(1024)]), 200),
    "a megabyte without a space": (lambda: candidate("a" * MIB), 200),
    "a megabyte of spaces": (lambda: candidate(" " * MIB), 200),
    "a megabyte of one emoji": (lambda: candidate("🙂" * (MIB // 4)), 200),
    "a megabyte of one piece": (lambda: candidate("▁" * (MIB // 3)), 200),
    "a megabyte of random letters": (lambda: candidate("qxzjkvwq" * (MIB // 8)), 200),
    "a megabyte of control text": (lambda: candidate("</s>" * (MIB // 4)), 200),
    "a megabyte for a question": (lambda: question("a" * MIB), 200),
    "a megabyte of markers": (lambda: question("<image>" * (MIB // 7)), 200),
    "a megabyte of markers for a picture": (lambda: body(question="<image>" * (MIB // 7), images=[PICTURE]), 422),
    "more markers than pictures": (lambda: body(question="<image><image>", images=[PICTURE]), 422),
    "a marker in a candidate": (lambda: body(candidates=["<image>"], images=[PICTURE]), 200),
    "65 pictures": (lambda: body(images=[PICTURE] * 65), 422),
    "64 pictures": (lambda: body(images=[PICTURE] * 64, max_tiles=1), 200),
    "invalid base64": (lambda: body(images=["@@@@"]), 422),
    "cut base64": (lambda: body(images=[PICTURE[:-3]]), 422),
    "URL-safe base64": (lambda: body(images=["-_-_"]), 422),
    "base64 in lines": (lambda: body(images=["iVBO\nRw0K"]), 422),
    "base64 that is not ASCII": (lambda: body(images=["ïVBÖ"]), 422),
    "an empty picture": (lambda: body(images=[""]), 415),
    "an empty data URL": (lambda: body(images=["data:,"]), 415),
    "a data URL without data": (lambda: body(images=["data:"]), 422),
    "a picture by http": (lambda: body(images=["HTTPS://169.254.169.254/latest"]), 422),
    "a picture by file": (lambda: body(images=["file:///etc/passwd"]), 422),
    "a nameless hash": (lambda: body(images=["sha256:"]), 404),
    "a truncated PNG": (lambda: image(saved("PNG")[:900]), 200),
    "a truncated JPEG": (lambda: image(saved("JPEG")[:900]), 200),
    "a truncated GIF": (lambda: image(saved("GIF")[:2000]), 200),
    "a PNG without pixels": (lambda: image(png(20, 20)), 200),
    "a PNG with broken pixels": (lambda: image(png(20, 20, (b"IDAT", b"not zlib"))), 200),
    "a PNG with a text bomb": (
        lambda: image(png(9, 9, (b"zTXt", b"k\0\0" + zlib.compress(bytes(80 * MIB), 9)), (b"IDAT", b""))),
        415,
    ),
    "a decompression bomb": (lambda: image(png(30_000, 30_000, (b"IDAT", zlib.compress(bytes(MIB), 9)))), 413),
    "a picture of the largest size": (lambda: image(png(2**31 - 1, 2**31 - 1)), 413),
    "a picture of 49 megapixels": (lambda: image(grey(7000, 7000)), 200),
    "1 × 1": (lambda: image(grey(1, 1)), 200),
    "1 × 10,000": (lambda: image(grey(1, 10_000)), 200),
    "10,000 × 1": (lambda: image(grey(10_000, 1)), 200),
    "0 × 0": (lambda: image(png(0, 0)), 415),
    "0 × 10": (lambda: image(png(0, 10)), 415),
    "a BMP without pixels": (
        lambda: image(b"BM" + struct.pack("<IHHIIiiHHIIiiII", 54, 0, 0, 54, 40, 0, 0, 1, 24, 0, 0, 0, 0, 0, 0)),
        415,
    ),
    **{f"{text!r} in a candidate": (lambda text=text: candidate(f"a {text} b"), 200) for text in CONTROL},  # type: ignore[misc]
    **{f"{text!r} in the question": (lambda text=text: question(f"a {text} b"), 200) for text in CONTROL},  # type: ignore[misc]
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_body_gets_the_answer_that_fits_it(api: httpx2.Client, name: str) -> None:
    make, status = HOSTILE[name]
    response = checked(api.post("/score_steps", content=make()))
    assert response.status_code == status, response.text[:300]


TEXTS = st.text(st.characters(codec="utf-8"), max_size=30) | st.lists(
    st.sampled_from([*CONTROL, "<image>", "\n\n", "\n", " ", "\0", "🙂", "+", "-", "word", "\u202e"]), max_size=12
).map("".join)
ANYTHING: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
PICTURES = st.sampled_from([PICTURE, encoded(grey(3, 200)), encoded(png(5, 5)), "sha256:00", "data:,x"]) | TEXTS
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "images": st.lists(PICTURES, max_size=3),
    "mode": st.sampled_from(["steps", "whole"]),
    "max_steps": st.integers(0, 5),
    "max_tiles": st.integers(0, 66),
    "aggregate": st.sampled_from(["mean", "min", "max", "product", "last", "sum"]),
    "control_tokens": st.sampled_from(["parse", "literal", "refuse"]),
    "priority": st.sampled_from(["online", "train", "batch"]),
    "deadline_ms": st.integers(-1, 50) | st.just(2**53),
    "id": TEXTS,
    "model": st.just("visualprm") | TEXTS,
}
REQUESTS = st.builds(
    lambda fields, wrong: fields | wrong,
    st.fixed_dictionaries(
        {
            "question": TEXTS,
            "candidates": st.lists(TEXTS | st.lists(TEXTS, min_size=1, max_size=4), min_size=1, max_size=4),
        },
        optional=FIELDS,
    ),
    st.just({}) | st.dictionaries(st.sampled_from([*FIELDS, "question", "candidates"]) | TEXTS, ANYTHING, max_size=1),
)


@settings(max_examples=150, deadline=None, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(request=REQUESTS, stream=st.booleans())
def test_any_request_is_answered_by_the_schema(api: httpx2.Client, request: dict[str, Any], stream: bool) -> None:
    content = json.dumps(request).encode()
    whole = checked(api.post("/score_steps", content=content))
    if whole.status_code == 200:
        answer = scored(whole)
        assert [result.index for result in answer.results] == list(range(len(request["candidates"])))
        for result in answer.results:
            assert (result.status == "ok") == (result.score is not None) == (result.step_logits is not None)
        assert sorted(answer.ranking) == [result.index for result in answer.results if result.status == "ok"]
    if stream:
        lines = api.post("/score_steps", content=content, headers={"Accept": "application/x-ndjson"})
        assert lines.status_code in (whole.status_code, 200, 409)
        if lines.status_code == 200:
            assert len(lines.text.splitlines()) == 1 + len(request["candidates"])


MISTAKES = 200_000
WRONG: dict[str, Callable[[], bytes]] = {
    "candidates": lambda: body(candidates=[1] * MISTAKES),
    "steps": lambda: body(candidates=[[1] * MISTAKES]),
    "images": lambda: body(images=[1] * MISTAKES),
    "unknown fields": lambda: body(**{f"x{i}": 1 for i in range(MISTAKES)}),
}


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="the peak of memory is read from /proc")
@pytest.mark.parametrize("name", WRONG)
def test_a_body_of_many_mistakes_costs_little_memory(guarded: Running, name: str) -> None:
    """A megabyte that cost a gigabyte would let one body of the permitted size end the gateway."""
    content = WRONG[name]()
    headers = {"Authorization": "Bearer key"}
    process = Path("/proc") / str(guarded.process.pid)
    (process / "clear_refs").write_text("5")
    before = peak_mib(process)
    response = httpx2.post(guarded.url + "/score_steps", content=content, headers=headers, timeout=PATIENCE_S)
    assert checked(response).status_code == 422
    assert peak_mib(process) - before < 80


def peak_mib(process: Path) -> int:
    status = (process / "status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) >> 10


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 1000, saved("PNG")[:10], png(0, 0), b"GIF89a", b"II*\0\xff\xff\xff\xff"]
)
def test_what_is_no_picture_is_not_stored(api: httpx2.Client, content: bytes) -> None:
    assert checked(api.put("/images", content=content)).status_code == 415


def test_a_bomb_is_refused_by_its_header_alone(api: httpx2.Client) -> None:
    bomb = png(30_000, 30_000, (b"IDAT", zlib.compress(bytes(30_001 * 1000), 9)))
    response = checked(api.put("/images", content=bomb))
    assert response.status_code == 413
    assert response.elapsed.total_seconds() < 1


@pytest.mark.parametrize("path", ["/score_steps", "/images", "/models", "/nowhere", "/docs", "/metrics"])
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"])
def test_no_method_on_no_route_is_our_bug(api: httpx2.Client, method: str, path: str) -> None:
    assert api.request(method, path, content=b"x" if method in ("POST", "PUT") else None).status_code in ALLOWED


@pytest.mark.parametrize(
    "head",
    [
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n",
        b"POST /score_steps HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
        b"POST /score_steps HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /score_steps HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /models HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer \xff\xfe\r\nConnection: close\r\n\r\n",
        b"GET /models HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n\r\n",
    ],
)
def test_a_hostile_head_is_refused(server: Running, head: bytes) -> None:
    answer = exchange(server, head)
    assert answer.startswith(b"HTTP/1.1 "), answer[:200]
    assert answer.split()[1][:1] in b"24", answer[:200]


# Bodies that are refused before they are read


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


KEY = "Authorization: Bearer key"
REFUSED = [
    pytest.param("/score_steps", [KEY], 413, id="413"),
    pytest.param("/images", [KEY], 413, id="413 for a picture"),
    pytest.param("/score_steps", [], 401, id="401"),
    pytest.param("/nowhere", [KEY], 404, id="404"),
    pytest.param("/models", [KEY], 405, id="405"),
]


@pytest.mark.parametrize("closing", [[], ["Connection: close"]], ids=["kept alive", "closing"])
@pytest.mark.parametrize(("path", "status"), [("/images", 413), ("/nowhere", 404), ("/models", 405)])
def test_a_refusal_of_30_mb_is_seen_by_a_client_that_sends_them_all(
    server: Running, path: str, status: int, closing: list[str]
) -> None:
    content = bytes(30_000_000)
    answer = exchange(server, head_of(path, *closing, f"Content-Length: {len(content)}"), content)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer[:200]


@pytest.mark.parametrize("closing", [[], ["Connection: close"]], ids=["kept alive", "closing"])
@pytest.mark.parametrize(("path", "headers", "status"), REFUSED)
@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "chunked"])
def test_a_refused_body_is_read_to_its_end_up_to_the_limit(
    guarded: Running, path: str, headers: list[str], status: int, chunked: bool, closing: list[str]
) -> None:
    content = bytes(BODY_LIMIT + 1 if status == 413 else BODY_LIMIT - 1)
    if chunked:
        parts = [head_of(path, *headers, *closing, "Transfer-Encoding: chunked")]
        parts += [b"%x\r\n%s\r\n" % (len(content), content), b"0\r\n\r\n"]
    else:
        parts = [head_of(path, *headers, *closing, f"Content-Length: {len(content)}"), content]
    answer = exchange(guarded, *parts)
    assert answer.startswith(f"HTTP/1.1 {status} ".encode()), answer[:200]
    ErrorResponse.model_validate_json(answer.partition(b"\r\n\r\n")[2])


@pytest.mark.parametrize("chunked", [False, True], ids=["with a length", "chunked"])
@pytest.mark.parametrize(("key", "status"), [("key", 413), ("wrong", 401)])
def test_a_common_client_sees_the_refusal_of_30_mb(guarded: Running, key: str, status: int, chunked: bool) -> None:
    pieces = (bytes(MIB) for _ in range(30))
    content = pieces if chunked else bytes(30 * MIB)
    headers = {"Authorization": f"Bearer {key}"}
    with httpx2.Client(base_url=guarded.url, timeout=PATIENCE_S, headers=headers) as client:
        response = client.post("/score_steps", content=content)
        assert checked(response).status_code == status
        assert client.get("/health/live").status_code == 200


def test_a_connection_serves_on_after_a_refusal(guarded: Running) -> None:
    refused_body = head_of("/score_steps", KEY, f"Content-Length: {BODY_LIMIT + 1}") + bytes(BODY_LIMIT + 1)
    fine = body()
    with connect(guarded) as connection:
        connection.sendall(refused_body)
        assert read_answer(connection).startswith(b"HTTP/1.1 413 ")
        connection.sendall(head_of("/score_steps", KEY, f"Content-Length: {len(fine)}") + fine)
        assert read_answer(connection).startswith(b"HTTP/1.1 200 ")


def test_a_client_that_asks_before_it_sends_is_told_to_go_on_or_not(guarded: Running) -> None:
    fine = body()
    with connect(guarded) as connection:
        connection.sendall(head_of("/score_steps", KEY, f"Content-Length: {len(fine)}", "Expect: 100-continue"))
        assert connection.recv(65536).startswith(b"HTTP/1.1 100 ")
        connection.sendall(fine)
        assert read_answer(connection).startswith(b"HTTP/1.1 200 ")


# Uploads that come slowly, or stop


def test_a_slow_upload_is_waited_for_and_scored(server: Running) -> None:
    content = body()
    with connect(server) as connection:
        connection.sendall(head_of("/score_steps", f"Content-Length: {len(content)}"))
        for byte in content:
            connection.sendall(bytes([byte]))
        assert read_answer(connection).startswith(b"HTTP/1.1 200 ")


def test_many_unfinished_uploads_keep_nobody_out(server: Running, api: httpx2.Client) -> None:
    head = head_of("/score_steps", "Content-Length: 60000000")
    connections = [connect(server) for _ in range(200)]
    try:
        for connection in connections:
            connection.sendall(head + b"{")
        assert checked(api.post("/score_steps", content=body())).status_code == 200
    finally:
        for connection in connections:
            connection.close()


@pytest.mark.parametrize(("path", "ends"), [("/score_steps", "close"), ("/images", "close"), ("/score_steps", "reset")])
def test_an_aborted_upload_is_no_bug_of_ours(server: Running, api: httpx2.Client, path: str, ends: str) -> None:
    before = samples(api)
    with connect(server) as connection:
        if ends == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.sendall(head_of(path, "Content-Length: 5000000") + b"{" * 100_000)

    def counted() -> list[str]:
        return [name for name, value in samples(api).items() if _is_count(path, name) and value > before.get(name, 0)]

    statuses = until(
        lambda: [name for name in counted() if "status=200" not in name], "the aborted request", PATIENCE_S
    )
    assert not [name for name in statuses if "status=5" in name]


def _is_count(path: str, name: str) -> bool:
    return name.startswith(f"steelyard_requests_total{{route={path},")


def samples(api: httpx2.Client) -> dict[str, float]:
    return read_samples(api.get("/metrics").text)


def test_a_picture_with_any_byte_changed_is_answered_by_the_schema(api: httpx2.Client) -> None:
    content = bytearray(saved("PNG", 8, 8))
    for place in range(0, len(content), 7):
        changed = bytes(content[:place]) + bytes([content[place] ^ 0xFF]) + bytes(content[place + 1 :])
        stored = api.put("/images", content=changed)
        assert stored.status_code in (200, 413, 415)
        if stored.status_code == 200:
            StoredImage.model_validate_json(stored.content)
            assert checked(api.post("/score_steps", content=image(changed))).status_code == 200
