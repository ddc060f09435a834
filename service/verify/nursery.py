"""The process that workers are forked from: it has imported all that they need, and does nothing else.

A worker that was killed is replaced in milliseconds; a Python of its own would take a second to start, and five with
the mathematics. Over its pipe it is told, in words of eight bytes: PRELOAD, or to fork, with the pid of a dead child to
reap or 0, and beside it the descriptors of the worker's connection and of its page.
"""

import argparse
import gc
import importlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import cast

from service.verify.progress import Progress
from service.verify.worker import Evaluation, Worker

WORD_BYTES = 8
PRELOAD = -1
# Its own words: that it has started, or has preloaded.
DONE = b"\x01"


def word(value: int) -> bytes:
    return value.to_bytes(WORD_BYTES, "big", signed=True)


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m service.verify.nursery")
    parser.add_argument("--fd", type=int, required=True, help="the inherited end of the gateway's pipe")
    parser.add_argument("--evaluation", required=True, help="the module to evaluate with")
    parser.add_argument("--memory-bytes", type=int, required=True)
    parser.add_argument("--log-level", default="info")
    options = parser.parse_args(arguments)
    logging.basicConfig(level=options.log_level.upper(), format="%(levelname)s verify: %(message)s")
    # The gateway decides when this process and its children end, by closing their pipes.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    evaluation = cast(Evaluation, importlib.import_module(options.evaluation))
    control = socket.socket(fileno=options.fd)
    _told(control)
    while True:
        try:
            told, descriptors, _, _ = socket.recv_fds(control, WORD_BYTES, 2)
        except OSError:
            return 0
        if not told:
            return 0
        asked = int.from_bytes(told, "big", signed=True)
        if asked == PRELOAD:
            evaluation.preload()
            _told(control)
        else:
            _reap(asked)
            _fork(control, evaluation, descriptors, options.memory_bytes)


def _told(control: socket.socket) -> None:
    # What is there now is shared with all workers, until a collection would touch it.
    gc.collect()
    gc.freeze()
    try:
        control.sendall(DONE)
    except OSError:
        # The gateway is gone, which the next read sees.
        return


def _fork(control: socket.socket, evaluation: Evaluation, descriptors: Sequence[int], memory_bytes: int) -> None:
    try:
        child = os.fork()
    except OSError as error:
        # The gateway sees a worker that hung up at once.
        logging.getLogger(__name__).warning("no worker can be started: %s", error)
        child = -1
    if child:
        for descriptor in descriptors:
            os.close(descriptor)
        return
    status = 1
    try:
        control.close()
        connection, page = descriptors
        with socket.socket(fileno=connection) as gateway:
            gateway.sendall(word(os.getpid()))
            Worker(evaluation, Progress(page), memory_bytes).serve(gateway)
        status = 0
    except OSError:
        # The gateway is gone.
        status = 0
    except Exception:
        logging.getLogger(__name__).exception("a worker ended")
    finally:
        os._exit(status)


def _reap(pid: int) -> None:
    """A child whose pid the gateway will not use any more: until now it could not become another process's."""
    if pid:
        try:
            os.waitpid(pid, 0)
        except ChildProcessError:
            return


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
