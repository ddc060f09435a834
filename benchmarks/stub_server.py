"""The real gateway over a stub engine, on a free port that is printed when it is ready.

`python -m benchmarks.stub_server CHECKPOINT [ENGINE_MODULE [OPTION…]]`: the options are the server's own.
"""

import sys
from typing import NoReturn

import uvicorn

from service.__main__ import listen
from service.app import create_app
from service.collector import hold_back
from service.memory import return_large_blocks
from service.settings import SettingsError, read_settings


def main() -> None:
    checkpoint, options = sys.argv[1], sys.argv[3:]
    engine = sys.argv[2] if len(sys.argv) > 2 else "benchmarks.stub_engine"
    try:
        settings = read_settings([f"--model=visualprm={checkpoint}", "--port=0", "--log-level=warning", *options], {})
    except SettingsError as error:
        _stop(str(error))
    return_large_blocks()
    listening = listen(settings)

    def announce() -> None:
        hold_back()
        print(listening.getsockname()[1], flush=True)

    app = create_app(settings, on_ready=announce, engine_module=engine)
    uvicorn.Server(uvicorn.Config(app, log_level="warning", access_log=False)).run(sockets=[listening])


def _stop(reason: str) -> NoReturn:
    print(reason, file=sys.stderr)
    sys.exit(1)


if __name__ == "__main__":
    main()
