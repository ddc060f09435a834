"""The real gateway whose verify workers do what the responses say: `python -m tests.service.verify.scripted_server`.

Its engine is a stub. The port is printed when it listens; the options are the server's own.
"""

import sys

import uvicorn

from service.__main__ import Server, listen
from service.app import create_app
from service.settings import read_settings
from tests.service.running import DEMO
from tests.service.verify import scripted


def main() -> None:
    settings = read_settings([f"--model=visualprm={DEMO}", "--port=0", "--log-level=warning", *sys.argv[1:]], {})
    listening = listen(settings)
    app = create_app(settings, engine_module="benchmarks.stub_engine", evaluation_module=scripted.__name__)
    print(listening.getsockname()[1], flush=True)
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=settings.drain_s)
    Server(config, app.state.gateway).run(sockets=[listening])


if __name__ == "__main__":
    main()
