"""`python -m service`: serve the models given on the command line."""

import logging
import os
import socket
import sys
from collections.abc import Iterable
from types import FrameType

import uvicorn

from service.app import create_app
from service.collector import hold_back
from service.gateway import Gateway
from service.memory import return_large_blocks
from service.settings import Settings, SettingsError, read_settings

_READY = "\nSteelyard is ready: {address}/docs\n\nTry it:"
_CURL = "  curl -s {address}/{route} -H 'content-type: application/json' -d @examples/{example}.json"
# By the kind of model.
_ROUTES = {"steps": "score_steps", "outcome": "score_outcomes"}


class Server(uvicorn.Server):
    """A uvicorn server that takes no more groups from the moment it is told to stop."""

    def __init__(self, config: uvicorn.Config, gateway: Gateway) -> None:
        super().__init__(config)
        self._gateway = gateway

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._gateway.drain()
        super().handle_exit(sig, frame)
        # uvicorn would raise it once more after the drain, and a clean stop would end as a death by signal.
        self._captured_signals.clear()


def main(arguments: list[str]) -> int:
    try:
        settings = read_settings(arguments, os.environ)
    except SettingsError as error:
        return _stop(str(error))
    return_large_blocks()
    logging.basicConfig(level=settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        listening = listen(settings)
    except OSError as error:
        return _stop(f"--port {settings.port}: cannot listen on {settings.host}: {error.strerror}")
    return _serve(settings, listening)


def _serve(settings: Settings, listening: socket.socket) -> int:
    def announce() -> None:
        host, port = listening.getsockname()[:2]
        address = f"http://{host if ':' not in host else f'[{host}]'}:{port}"
        hold_back()
        print(_welcome(address, gateway.examples), flush=True)

    def give_up() -> None:
        server.should_exit = True

    app = create_app(settings, announce, give_up)
    gateway: Gateway = app.state.gateway
    config = uvicorn.Config(
        app,
        log_level=max(logging.WARNING, logging.getLevelName(settings.log_level.upper())),
        access_log=False,
        timeout_graceful_shutdown=settings.drain_s,
        server_header=False,
    )
    server = Server(config, gateway)
    server.run(sockets=[listening])
    return _stop(gateway.failure) if gateway.failure else 0


def _welcome(address: str, examples: Iterable[tuple[str, str]]) -> str:
    """What a newcomer reads: where the server is, and a call to try for each kind of model."""
    calls = [_CURL.format(address=address, route=_ROUTES[kind], example=example) for kind, example in examples]
    return "\n".join([_READY.format(address=address), *calls, ""])


def listen(settings: Settings) -> socket.socket:
    """Bind before anything is loaded, so that a busy port is known at once. Raises OSError."""
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    return socket.create_server((settings.host, settings.port), family=family, backlog=2048)


def _stop(reason: str) -> int:
    print(f"steelyard: {reason}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
