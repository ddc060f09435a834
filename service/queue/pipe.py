"""The engine's end of the pipe from its gateway: a Source over a socket."""

import queue
import socket
import threading
from collections.abc import Sequence
from typing import BinaryIO

from service.collector import catch_up
from service.engine_counts import EngineCounts
from service.job import Delivery, Job
from service.queue import Intake
from service.queue.frames import (
    LENGTH_BYTES,
    Began,
    Blob,
    Configure,
    Counted,
    Delivered,
    Fetch,
    Stop,
    Submit,
    ToEngine,
    ToGateway,
    Withdraw,
    pack_frame,
    to_engine,
)


class PipeSource:
    """Reads frames on a thread of its own, so that a withdrawal or a stop arrives while a forward runs.

    The gateway's death closes the pipe, which reads as Stop.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._writing = threading.Lock()
        self._work: queue.SimpleQueue[ToEngine] = queue.SimpleQueue()
        self._blobs: queue.SimpleQueue[Blob | None] = queue.SimpleQueue()
        self._stopped = self._gone = False
        threading.Thread(target=self._read, name="pipe", daemon=True).start()

    def configuration(self) -> Configure | None:
        """The first frame; None when the gateway is gone."""
        frame = self._work.get()
        return frame if isinstance(frame, Configure) else None

    def send(self, frame: ToGateway) -> None:
        try:
            with self._writing:
                self._connection.sendall(pack_frame(frame))
        except OSError:
            # The gateway is gone: nobody is left to hear it, and the reader has seen it too.
            self._stopped = self._gone = True

    def take(self, *, wait: bool) -> Intake | None:
        jobs: list[Job] = []
        withdrawn: set[str] = set()
        block = wait
        if wait and self._work.empty():
            catch_up()
        while not self._stopped:
            try:
                frame = self._work.get(block=block)
            except queue.Empty:
                break
            block = False
            match frame:
                case Submit(job):
                    jobs.append(job)
                case Withdraw(job_id):
                    withdrawn.add(job_id)
                case Stop():
                    self._stopped = True
        return None if self._stopped else Intake(tuple(jobs), frozenset(withdrawn))

    def blob(self, digest: str) -> bytes | None:
        self.send(Fetch(digest))
        # Told to stop, it still finishes what it has begun.
        while not self._gone:
            answer = self._blobs.get()
            if answer is None:
                break
            if answer.digest == digest:
                return answer.content
        return None

    def begin(self, jobs: Sequence[str]) -> None:
        self.send(Began(tuple(jobs)))

    def deliver(self, delivery: Delivery) -> None:
        self.send(Delivered(delivery))

    def count(self, counts: EngineCounts) -> None:
        self.send(Counted(counts))

    def _read(self) -> None:
        try:
            with self._connection.makefile("rb") as stream:
                while (frame := _read_frame(stream)) is not None:
                    if isinstance(frame, Blob):
                        self._blobs.put(frame)
                    else:
                        self._work.put(frame)
        finally:
            self._gone = True
            self._work.put(Stop())
            self._blobs.put(None)


def _read_frame(stream: BinaryIO) -> ToEngine | None:
    """None at the end of the stream, also when it ends inside a frame: the gateway died while writing it."""
    try:
        head = stream.read(LENGTH_BYTES)
        length = int.from_bytes(head, "big")
        body = stream.read(length)
    except OSError:
        return None
    return to_engine(body) if len(head) == LENGTH_BYTES and len(body) == length else None
