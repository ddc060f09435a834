"""The gateway's end of one worker: hand it a turn, watch its time, know what it had in hand when it died."""

import asyncio
import contextlib
import os
import signal
import socket
import time

import msgspec

from service.verify.frames import LENGTH_BYTES, Answer, Turn, pack
from service.verify.nursery import WORD_BYTES
from service.verify.progress import Hand, Progress

# The worker's own alarm comes first; this is for a worker that cannot be woken.
_GRACE_S = 0.05
_STUCK_S = 10.0
_START_S = 60.0
_ANSWERS = msgspec.msgpack.Decoder(Answer)


class WorkerDied(Exception):
    """`hand` is what it had in hand, None when it was between items."""

    def __init__(self, hand: Hand | None) -> None:
        super().__init__("a worker died")
        self.hand = hand


class Child:
    """One worker. Whoever is done with it kills it."""

    def __init__(
        self, pid: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, page: Progress, *, preloaded: bool
    ) -> None:
        self.pid = pid
        self.preloaded = preloaded
        self._reader, self._writer, self._page = reader, writer, page

    @classmethod
    async def greet(cls, connection: socket.socket, page: Progress, *, preloaded: bool) -> "Child":
        """Once it has said who it is. Raises OSError, also when it never says so."""
        reader, writer = await asyncio.open_connection(sock=connection)
        try:
            async with asyncio.timeout(_START_S):
                pid = int.from_bytes(await reader.readexactly(WORD_BYTES), "big", signed=True)
        except (TimeoutError, asyncio.IncompleteReadError, asyncio.CancelledError) as error:
            writer.close()
            if isinstance(error, asyncio.CancelledError):
                raise
            raise ConnectionError("the worker did not start") from None
        return cls(pid, reader, writer, page, preloaded=preloaded)

    async def take(self, turn: Turn) -> Answer:
        """Raises WorkerDied; it is killed when an item takes longer than the turn allows."""
        self._page.clear()
        answering = asyncio.ensure_future(self._ask(pack(turn)))
        ends = time.monotonic() + turn.quantum_s + turn.limit_s + _STUCK_S
        limit_s = turn.limit_s + _GRACE_S
        try:
            while not (await asyncio.wait((answering,), timeout=self._patience_s(limit_s)))[0]:
                hand = self._page.hand
                if (hand is not None and hand.elapsed_s > limit_s) or time.monotonic() > ends:
                    self._signal()
            answer = answering.result()
        finally:
            answering.cancel()
        if answer is None:
            raise WorkerDied(self._page.hand)
        return answer

    def abandon(self) -> None:
        """Nobody waits for its turn any more: it ends with the item in hand."""
        self._page.abandon()

    def kill(self) -> None:
        """It is no more to be used."""
        self._signal()
        with contextlib.suppress(OSError):
            self._writer.close()
        self._page.close()

    def _signal(self) -> None:
        # Until the nursery is told to reap it, the pid is its own.
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def _patience_s(self, limit_s: float) -> float:
        """Until what is in hand now has had its time."""
        hand = self._page.hand
        return limit_s if hand is None else max(0.0, limit_s - hand.elapsed_s) + 0.001

    async def _ask(self, frame: bytes) -> Answer | None:
        """None when it died."""
        try:
            self._writer.write(frame)
            await self._writer.drain()
            head = await self._reader.readexactly(LENGTH_BYTES)
            return _ANSWERS.decode(await self._reader.readexactly(int.from_bytes(head, "big")))
        except (asyncio.IncompleteReadError, OSError):
            return None
