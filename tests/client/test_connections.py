"""What connections go through, for threads and for tasks alike."""

import asyncio
import contextlib
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from steelyard import AsyncClient, Client, Retry
from steelyard.errors import BodyTooLarge, ConnectionFailed, TimedOut
from tests.client.answers import serves
from tests.client.scripted import Seen, hangs_up, refuses, says, scripted

ONCE = Retry(max_retries=0)
PICTURE = b"a picture " * 400_000
# Each call is a method's name and its arguments; the results of all, in order.
Call: TypeAlias = tuple[Any, ...]
Calls: TypeAlias = Callable[..., list[Any]]


def by_threads(url: str, *calls: Call, **options: Any) -> list[Any]:  # noqa: ANN401
    with Client(url, **options) as client:
        return [getattr(client, name)(*arguments) for name, *arguments in calls]


def by_tasks(url: str, *calls: Call, **options: Any) -> list[Any]:  # noqa: ANN401
    async def run() -> list[Any]:
        async with AsyncClient(url, **options) as client:
            return [await getattr(client, name)(*arguments) for name, *arguments in calls]

    return asyncio.run(run())


@pytest.fixture(params=[by_threads, by_tasks], ids=["threads", "tasks"])
def calls(request: pytest.FixtureRequest) -> Calls:
    way: Calls = request.param
    return way


@contextmanager
def listening(react: Callable[[socket.socket], None], family: int = socket.AF_INET) -> Iterator[int]:
    """A port at which each connection, one at a time, is handed to the function and then closed."""
    address = "127.0.0.1" if family == socket.AF_INET else "::1"
    with socket.create_server((address, 0), family=family) as server:

        def accept() -> None:
            with contextlib.suppress(OSError):
                while True:
                    connection, _ = server.accept()
                    with connection, contextlib.suppress(OSError):
                        react(connection)

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield int(server.getsockname()[1])
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        thread.join()


def heard(connection: socket.socket) -> bytes:
    """A request's head, and so much of its body as came with it."""
    content = b""
    while b"\r\n\r\n" not in content and (piece := connection.recv(65536)):
        content += piece
    return content


MODELS = b'{"object":"list","data":[]}'


def said(body: bytes, *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", f"content-length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


def test_a_large_picture_arrives_whole_and_connections_are_kept(calls: Calls) -> None:
    with scripted(serves) as server:
        calls(server.url, ("put_image", PICTURE), ("put_image", PICTURE), ("score_steps", "Which?", [], ["x"]))
    assert [len(seen.body) for seen in server.seen[:2]] == [len(PICTURE)] * 2
    assert len({seen.peer for seen in server.seen}) == 1


def test_a_refusal_that_comes_before_the_request_is_read_is_heard(calls: Calls) -> None:
    body = refuses(413, "body_too_large")(Seen("", "", {}, b""))
    assert body is not None

    def refuse(connection: socket.socket) -> None:
        heard(connection)
        head = f"HTTP/1.1 413 No\r\ncontent-length: {len(body.body)}\r\nconnection: close\r\n\r\n"
        connection.sendall(head.encode() + body.body)
        # Until the client hangs up, which it does once it has heard.
        while connection.recv(65536):
            pass

    with listening(refuse) as port, pytest.raises(BodyTooLarge):
        calls(f"http://127.0.0.1:{port}", ("put_image", PICTURE), retry=ONCE)


def test_a_connection_that_the_server_has_closed_meanwhile_is_not_used(calls: Calls) -> None:
    peers: list[int] = []

    def answer_once(connection: socket.socket) -> None:
        heard(connection)
        peers.append(connection.getpeername()[1])
        connection.sendall(said(MODELS))

    with listening(answer_once) as port:
        url = f"http://127.0.0.1:{port}"
        if calls is by_threads:
            with Client(url, retry=ONCE) as client:
                for _ in range(3):
                    client.models()
                    time.sleep(0.05)
        else:

            async def run() -> None:
                async with AsyncClient(url, retry=ONCE) as client:
                    for _ in range(3):
                        await client.models()
                        await asyncio.sleep(0.05)

            asyncio.run(run())
    assert len(set(peers)) == 3


def test_an_answer_in_chunks_is_read(calls: Calls) -> None:
    def chunked(connection: socket.socket) -> None:
        heard(connection)
        connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for byte in MODELS:
            connection.sendall(b"1\r\n%c\r\n" % byte)
        connection.sendall(b"0\r\n\r\n")

    with listening(chunked) as port:
        assert calls(f"http://127.0.0.1:{port}", ("models",))[0].data == []


def test_an_answer_that_trickles_in_is_no_silence(calls: Calls) -> None:
    def trickle(connection: socket.socket) -> None:
        heard(connection)
        for start in range(0, len(said(MODELS)), 8):
            connection.sendall(said(MODELS)[start : start + 8])
            time.sleep(0.05)

    with listening(trickle) as port:
        assert calls(f"http://127.0.0.1:{port}", ("models",), timeout_s=0.3, retry=ONCE)[0].data == []


def test_a_server_that_falls_silent_within_its_answer_is_given_up(calls: Calls) -> None:
    ended = threading.Event()

    def stop(connection: socket.socket) -> None:
        heard(connection)
        connection.sendall(said(MODELS)[:-1])
        ended.wait()

    with listening(stop) as port:
        with pytest.raises(TimedOut):
            calls(f"http://127.0.0.1:{port}", ("models",), timeout_s=0.1)
        ended.set()


def test_a_server_that_does_not_read_a_large_request_is_given_up(calls: Calls) -> None:
    ended = threading.Event()

    def hold(_: socket.socket) -> None:
        ended.wait()

    with listening(hold) as port:
        with pytest.raises(TimedOut):
            calls(f"http://127.0.0.1:{port}", ("put_image", PICTURE * 4), timeout_s=0.2)
        ended.set()


@pytest.mark.parametrize(
    "content", [b"", b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf", b"SSH-2.0-OpenSSH\r\n\r\n"]
)
def test_half_an_answer_is_a_connection_that_failed(calls: Calls, content: bytes) -> None:
    def half(connection: socket.socket) -> None:
        heard(connection)
        connection.sendall(content)

    with listening(half) as port, pytest.raises(ConnectionFailed, match=str(port)):
        calls(f"http://127.0.0.1:{port}", ("models",), retry=ONCE)


def test_a_page_that_points_elsewhere_is_not_followed(calls: Calls) -> None:
    with scripted(says(302, location="http://example.com/")) as server, pytest.raises(Exception, match=r"example\.com"):
        calls(server.url, ("models",), retry=ONCE)
    assert len(server.seen) == 1


def test_a_call_under_way_fails_when_its_client_is_closed() -> None:
    arrived = threading.Event()

    def hold(connection: socket.socket) -> None:
        heard(connection)
        arrived.set()
        connection.recv(1)

    with listening(hold) as port, ThreadPoolExecutor(1) as pool:
        client = Client(f"http://127.0.0.1:{port}", retry=ONCE)
        call = pool.submit(client.models)
        arrived.wait()
        client.close()
        with pytest.raises(ConnectionFailed):
            call.result()


async def test_a_task_that_is_cancelled_closes_its_connection() -> None:
    arrived, closed = threading.Event(), threading.Event()

    def hold(connection: socket.socket) -> None:
        heard(connection)
        arrived.set()
        with contextlib.suppress(OSError):
            connection.recv(1)
        closed.set()

    with listening(hold) as port:
        async with AsyncClient(f"http://127.0.0.1:{port}") as client:
            call = asyncio.create_task(client.models())
            await asyncio.to_thread(arrived.wait)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            assert await asyncio.to_thread(closed.wait, 10)


def test_the_name_and_password_of_an_address_are_sent_and_its_path_is_kept(calls: Calls) -> None:
    with scripted(says(200, MODELS)) as server:
        calls(server.url.replace("http://", "http://me:p%40ss@") + "/behind/", ("models",), api_key="key")
    (seen,) = server.seen
    assert seen.path == "/behind/models"
    # me:p@ss
    assert seen.headers["authorization"] == "Basic bWU6cEBzcw=="
    assert seen.headers["host"] == server.url.removeprefix("http://")


def test_a_proxy_that_the_environment_names_is_used(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    with scripted(says(200, MODELS)) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        calls("http://steelyard.invalid", ("models",), retry=ONCE)
        assert [seen.path for seen in proxy.seen] == ["http://steelyard.invalid/models"]
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with scripted(says(200, MODELS)) as server:
            calls(server.url, ("models",), retry=ONCE)
        assert len(proxy.seen) == 1
        assert len(server.seen) == 1


def test_what_goes_wrong_by_way_of_a_proxy_has_the_same_names(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()

    def never(_: Seen) -> None:
        ended.wait()

    with scripted(hangs_up, never) as proxy:
        monkeypatch.setenv("all_proxy", proxy.url)
        with pytest.raises(ConnectionFailed):
            calls("http://steelyard.invalid", ("models",), retry=ONCE)
        with pytest.raises(TimedOut):
            calls("http://steelyard.invalid", ("models",), retry=ONCE, timeout_s=0.1)
        ended.set()


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Of 127.0.0.1, with its key in the same file."""
    path = tmp_path / "certificate.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    names = ["-subj", "/CN=steelyard", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        [*command, *names, "-keyout", path, "-out", tmp_path / "public.pem"], check=True, capture_output=True
    )
    path.write_bytes(path.read_bytes() + (tmp_path / "public.pem").read_bytes())
    return path


@pytest.fixture
def secure_port(certificate: Path) -> Iterator[int]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)

    def answer(connection: socket.socket) -> None:
        with context.wrap_socket(connection, server_side=True) as secured:
            while heard(secured):
                secured.sendall(said(MODELS))

    with listening(answer) as port:
        yield port


def test_a_server_with_a_certificate_that_is_trusted_is_called(
    calls: Calls, secure_port: int, certificate: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    answers = calls(f"https://127.0.0.1:{secure_port}", ("models",), ("models",), retry=ONCE)
    assert [answer.data for answer in answers] == [[], []]


def test_a_server_with_another_certificate_is_not(calls: Calls, secure_port: int) -> None:
    with pytest.raises(ConnectionFailed, match="certificate"):
        calls(f"https://127.0.0.1:{secure_port}", ("models",), retry=ONCE)


def test_an_address_of_the_newer_internet_protocol_is_one(calls: Calls) -> None:
    requests: list[bytes] = []

    def answer(connection: socket.socket) -> None:
        requests.append(heard(connection))
        connection.sendall(said(MODELS))

    try:
        with listening(answer, socket.AF_INET6) as port:
            calls(f"http://[::1]:{port}", ("models",), retry=ONCE)
    except OSError as error:
        pytest.skip(f"this machine has no IPv6: {error}")
    assert f"Host: [::1]:{port}\r\n".encode() in requests[0]
