"""The entry point of `steelyard`: errors become a line on stderr, never a traceback."""

import os
import sys
from collections.abc import Sequence

from steelyard.arguments import read_arguments
from steelyard.display import visible
from steelyard.errors import SteelyardError

_FAILED, _INTERRUPTED, _PIPE_CLOSED = 1, 130, 141


def main(arguments: Sequence[str] | None = None) -> int:
    """The exit code."""
    given = read_arguments(arguments)
    try:
        # Only now: a typing error and `--help` need not wait for an HTTP client.
        from steelyard.command import run

        code = run(given)
        sys.stdout.flush()
    except SteelyardError as error:
        print(f"steelyard: {visible(' '.join(str(error).split()))}", file=sys.stderr)
        return _FAILED
    except OSError as error:
        # The output cannot be written: the interpreter must not try again, and complain, at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):
            return _PIPE_CLOSED
        print(f"steelyard: the output cannot be written: {error.strerror}", file=sys.stderr)
        return _FAILED
    except KeyboardInterrupt:
        return _INTERRUPTED
    return code
