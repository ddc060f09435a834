"""A resources server for NeMo-Gym: `python -m steelyard.trainers.nemo_gym --port 9000 [url=…] [kind=outcome] …`.

Its `/verify` is NeMo-Gym's, and not that of a Steelyard server. Standard library only.
"""

import argparse
import json
import logging
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from statistics import fmean
from typing import Any

from steelyard.errors import InvalidCall, SteelyardError
from steelyard.trainers.responses_api import sample_of
from steelyard.trainers.samples import scores_of
from steelyard.trainers.scorer import Scorer
from steelyard.trainers.settings import scorer_of

MAX_BODY_BYTES = 64 * 2**20
_logger = logging.getLogger(__name__)


class ResourcesServer(ThreadingHTTPServer):
    """Serves until it is shut down; `server_address` is where."""

    daemon_threads = True
    # A burst of rollouts ends at once.
    request_queue_size = 1024

    def __init__(self, scorer: Scorer, host: str = "127.0.0.1", port: int = 0) -> None:
        self.scorer = scorer
        super().__init__((host, port), _Exchange)


def verify(scorer: Scorer, body: Mapping[str, object]) -> dict[str, object]:
    """The body with its `reward`. Raises InvalidCall and NotScored."""
    (reward,) = scores_of(scorer.score([sample_of(body)]))
    return {**body, "reward": reward}


def aggregate(body: Mapping[str, object]) -> dict[str, object]:
    """What NeMo-Gym logs at the end of a collection. Raises InvalidCall."""
    rows = body.get("verify_responses")
    if not isinstance(rows, list) or not all(isinstance(row, dict) and _is_number(row.get("reward")) for row in rows):
        raise InvalidCall("verify_responses: a list of objects with a reward is needed")
    rewards: list[float] = [row["reward"] for row in rows]
    metrics = {"mean/reward": fmean(rewards), "min/reward": min(rewards), "max/reward": max(rewards)} if rewards else {}
    return {"group_level_metrics": [], "agent_metrics": metrics, "key_metrics": metrics}


def main(arguments: Sequence[str] | None = None) -> None:
    """Serve until interrupted."""
    parser = argparse.ArgumentParser("python -m steelyard.trainers.nemo_gym", description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("settings", nargs="*", metavar="NAME=VALUE", help="url, kind, model, aggregate and so on")
    given = parser.parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        scorer = scorer_of(dict(map(_setting, given.settings)))
    except SteelyardError as error:
        parser.error(error.message)
    with ResourcesServer(scorer, given.host, given.port) as server:
        _logger.info("NeMo-Gym resources server on http://%s:%d", *server.server_address[:2])
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            _logger.info("stopped")


class _Exchange(BaseHTTPRequestHandler):
    server: ResourcesServer
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(HTTPStatus.OK, {"server": "steelyard.trainers.nemo_gym"})

    def do_POST(self) -> None:
        """A failure is a status that the agent raises, never a reward."""
        try:
            self._answer(HTTPStatus.OK, self._result(self._body()))
        except LookupError:
            self._answer(HTTPStatus.NOT_FOUND, {"detail": f"no such route: {self.path}"})
        except InvalidCall as error:
            self._answer(HTTPStatus.UNPROCESSABLE_ENTITY, {"detail": error.message})
        except SteelyardError as error:
            self._answer(HTTPStatus.SERVICE_UNAVAILABLE, {"detail": str(error)})

    def log_message(self, format: str, *args: Any) -> None:  # noqa: ANN401
        _logger.debug(format, *args)

    def _result(self, body: Mapping[str, object]) -> dict[str, object]:
        if self.path == "/verify":
            return verify(self.server.scorer, body)
        if self.path == "/aggregate_metrics":
            return aggregate(body)
        if self.path == "/seed_session":
            return {}
        raise LookupError(self.path)

    def _body(self) -> Mapping[str, object]:
        """Raises InvalidCall; what is left of a body that was not read ends the connection."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > MAX_BODY_BYTES:
            self.close_connection = True
            raise InvalidCall(f"a body has a Content-Length, of {MAX_BODY_BYTES} bytes at most")
        try:
            body = json.loads(self.rfile.read(int(length)))
        except (ValueError, RecursionError):
            body = None
        if not isinstance(body, dict):
            raise InvalidCall("a body is one JSON object")
        return body

    def _answer(self, status: HTTPStatus, answer: Mapping[str, object]) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _setting(text: str) -> tuple[str, object]:
    """`max_tiles=6` is a number and `kind=outcome` a text."""
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except ValueError:
        return name, value


if __name__ == "__main__":
    main()
