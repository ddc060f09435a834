"""Serve a reward model of transformers and ask it for scores: a tiny one of random weights, made here, or yours.

PYTHONPATH=.:client .venv/bin/python examples/score_with_any_reward_model.py [DIRECTORY]
"""

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demo.random_classifier import write_checkpoint
from steelyard import Client

QUESTION = [{"role": "user", "content": "How many sides does a hexagon have?"}]
CANDIDATES = ["A hexagon has six sides.", "Seven, I think.", ""]


@contextmanager
def serving(checkpoint: Path) -> Iterator[str]:
    """The server's address, once it is ready."""
    command = [sys.executable, "-m", "service", "--port", "0", "--model", f"reward={checkpoint}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:  # noqa: S603 - this checkout's own
        assert server.stdout is not None
        try:
            ready = next((line for line in server.stdout if "is ready" in line), None)
            if ready is None:
                raise SystemExit("the server could not start")
            yield ready.split()[-1].removesuffix("/docs")
        finally:
            server.terminate()


def main(arguments: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(arguments[0]) if arguments else write_checkpoint(Path(folder))
        with serving(checkpoint) as address, Client(address) as client:
            answer = client.score_outcomes(QUESTION, CANDIDATES)
    for result in answer.results:
        print(result.index, result.score if result.score is not None else result.status, CANDIDATES[result.index])
    print("best:", answer.best)


if __name__ == "__main__":
    main(sys.argv[1:])
