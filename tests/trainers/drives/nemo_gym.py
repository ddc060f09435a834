"""NeMo-Gym's simple agent, whose resources server is `python -m steelyard.trainers.nemo_gym`."""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, ClassVar

from aiohttp import ClientResponseError
from nemo_gym.config_types import AggregateMetricsRequest
from nemo_gym.server_utils import (
    BaseServerConfig,
    GlobalAIOHTTPAsyncClientConfig,
    ServerClient,
    set_global_aiohttp_client,
)
from omegaconf import OmegaConf
from responses_api_agents.simple_agent.app import SimpleAgent, SimpleAgentConfig, SimpleAgentRunRequest
from starlette.requests import Request

from tests.trainers.drives import expected

HOST = "127.0.0.1"


class Policy(BaseHTTPRequestHandler):
    """The seam: what the agent's model would have answered."""

    said: ClassVar[str] = ""

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        content = json.dumps(_response(self.said)).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None: ...


def main() -> None:
    with _resources_server() as port, ThreadingHTTPServer((HOST, 0), Policy) as policy:
        Thread(target=policy.serve_forever, daemon=True).start()
        asyncio.run(_drive(port, policy.server_address[1]))
        policy.shutdown()


async def _drive(port: int, policy_port: int) -> None:
    set_global_aiohttp_client(GlobalAIOHTTPAsyncClientConfig())
    agent = _agent(port, policy_port)
    rows = []
    for text in expected.RESPONSES:
        Policy.said = text
        rows.append(await agent.run(_request(), _task()))
    expected.check_close([row.reward for row in rows], expected.scores(), "/verify, called by the simple agent")
    verified = [{"_ng_task_index": 0, "reward": row.reward} for row in rows]
    metrics = await agent.aggregate_metrics(AggregateMetricsRequest(verify_responses=verified))
    mean = sum(expected.scores()) / len(expected.RESPONSES)
    expected.check_close([metrics.key_metrics["mean/reward"]], [mean], "/aggregate_metrics")
    Policy.said = expected.TOO_LONG
    try:
        await agent.run(_request(), _task())
    except ClientResponseError as error:
        assert error.status == 503, error
        print("  ok: without a score there is a 503, which the agent raises")
    else:
        raise AssertionError("a missing reward went unnoticed")


def _agent(port: int, policy_port: int) -> Any:  # noqa: ANN401
    served = OmegaConf.create(
        {
            "steelyard": {"resources_servers": {"steelyard": {"host": HOST, "port": port}}},
            "agent": {"responses_api_agents": {"simple_agent": {"host": HOST, "port": policy_port}}},
        }
    )
    config = SimpleAgentConfig(
        host=HOST,
        port=policy_port,
        name="agent",
        entrypoint="app.py",
        resources_server={"type": "resources_servers", "name": "steelyard"},
        model_server={"type": "responses_api_models", "name": "agent"},
    )
    head = BaseServerConfig(host=HOST, port=policy_port)
    return SimpleAgent(config=config, server_client=ServerClient(head_server_config=head, global_config_dict=served))


def _task() -> Any:  # noqa: ANN401
    picture = {"type": "input_image", "image_url": _data_url(expected.PICTURE), "detail": "auto"}
    said = {"role": "user", "content": [picture, {"type": "input_text", "text": expected.QUESTION}]}
    return SimpleAgentRunRequest.model_validate({"responses_create_params": {"input": [said]}})


def _data_url(picture: Path) -> str:
    import base64

    return "data:image/png;base64," + base64.b64encode(picture.read_bytes()).decode()


def _request() -> Request:
    return Request({"type": "http", "headers": [], "method": "POST", "path": "/run", "query_string": b""})


def _response(text: str) -> dict[str, object]:
    part = {"type": "output_text", "text": text, "annotations": []}
    message = {"id": "m", "type": "message", "role": "assistant", "status": "completed", "content": [part]}
    return {
        "id": "r",
        "object": "response",
        "created_at": 0.0,
        "model": "policy",
        "output": [message],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
    }


@contextmanager
def _resources_server() -> Iterator[int]:
    command = [sys.executable, "-m", "steelyard.trainers.nemo_gym", "--port", "0", "kind=steps"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        found = re.search(r":(\d+)$", process.stderr.readline())
        assert found is not None
        try:
            yield int(found[1])
        finally:
            process.terminate()


if __name__ == "__main__":
    main()
