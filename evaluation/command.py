"""How every command ends: a line on stderr and an exit code, never a traceback for what is the user's to mend."""

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from evaluation.errors import EvaluationError

FAILED, INTERRUPTED = 1, 130
Work = Callable[[Sequence[str]], None]


def run(work: Work, arguments: Sequence[str] | None = None) -> int:
    """The exit code. A terminated run stops its server, too, and keeps what is scored."""
    try:
        with _terminated_as_interrupted():
            work(sys.argv[1:] if arguments is None else arguments)
    except EvaluationError as error:
        print(f"evaluation: {' '.join(str(error).split())}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("evaluation: stopped; the same command goes on from what is kept", file=sys.stderr)
        return INTERRUPTED
    return 0


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM is as Ctrl-C, which asyncio knows how to end on; only the main thread may say so."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
