"""The fuzzer of `POST /verify` against a real server: quick here, 10,000 items by `make check-verify`."""

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from loadtest.hostile_texts import hostile_items
from loadtest.verify_fuzz import fuzz, report
from tests.service.running import running, shared


def test_a_seed_gives_the_same_items_over_every_shipped_specification() -> None:
    items = hostile_items(3, 300)
    assert items == hostile_items(3, 300)
    assert items != hostile_items(4, 300)
    names = {item.specification for item in items if isinstance(item.specification, str)}
    assert {"detection", "detection-upstream", "maths", "grounding-upstream", "multiple_choice"} <= names


def test_hostile_texts_get_a_status_in_time_and_no_number_out_of_range(request: pytest.FixtureRequest) -> None:
    findings = fuzz(shared(request.session).url, hostile_items(1, 60), 200)
    # How fast a machine shared with other tests is, is for `make check-verify`.
    assert [wrong for wrong in findings.wrong if " ms: " not in wrong] == []
    assert findings.http.keys() == {200, 422}
    assert findings.statuses["ok"] > 30


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_ten_thousand_hostile_texts() -> None:
    with running() as server:
        findings = fuzz(server.url, hostile_items(0, int(os.environ.get("VERIFY_ITEMS", "10000"))), 300)
    assert [wrong for wrong in findings.wrong if " ms: " not in wrong] == []


@pytest.mark.parametrize(
    ("status", "reward", "says"),
    [
        ("ok", float("nan"), "the total is nan"),
        ("ok", 1e9, "the total is 1000000000.0"),
        ("timed_out", 0.0, "timed_out with the reward 0.0"),
        ("ok", None, "ok with the reward None"),
    ],
)
def test_a_server_that_says_what_must_not_be_is_found_out(status: str, reward: float | None, says: str) -> None:
    with lying(status, reward) as url:
        findings = fuzz(url, hostile_items(1, 4), 300, together=False)
    assert any(wrong.startswith(says) for wrong in findings.wrong), findings.wrong
    assert json.loads(report(findings, 300))["wrong"] == len(findings.wrong)


def test_a_server_that_breaks_is_found_out() -> None:
    with lying("ok", 1.0, http_status=500) as url:
        findings = fuzz(url, hostile_items(1, 4), 300)
    assert sum(wrong.startswith("HTTP 500") for wrong in findings.wrong) >= 4


@contextmanager
def lying(status: str, reward: float | None, http_status: int = 200) -> Iterator[str]:
    """A server that gives every item this result."""
    parts = dict.fromkeys(("iou", "calibration", "confidence", "format", "grounding", "classification"), 0.5)
    result = {"status": status, "reward": reward, "parts": parts | {"maths": 0.5, "multiple_choice": 0.5}}

    class Liar(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            items = json.loads(self.rfile.read(int(self.headers["content-length"])))["items"]
            content = json.dumps({"results": [result] * len(items)}).encode()
            self.send_response(http_status)
            self.send_header("content-length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Liar)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
