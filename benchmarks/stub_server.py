"""The real gateway over the stub engine, on a free port that is printed when it is ready."""

import sys

import uvicorn

from service.__main__ import listen
from service.app import create_app
from service.settings import Settings


def main() -> None:
    settings = Settings(model=(f"visualprm={sys.argv[1]}",), port=0, log_level="warning")
    listening = listen(settings)

    def announce() -> None:
        print(listening.getsockname()[1], flush=True)

    app = create_app(settings, on_ready=announce, engine_module="benchmarks.stub_engine")
    uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listening])


if __name__ == "__main__":
    main()
