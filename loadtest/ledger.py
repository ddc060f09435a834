"""The books of a chaos run: what was accepted, what was answered, and with which bits."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from loadtest.rows import Rows


@dataclass(slots=True)
class Entry:
    """One id: its group, the final rows known so far, and which server gave the last of them."""

    group: int
    rows: list[bytes | None]
    server: str | None = None
    accepted: bool = False

    @property
    def answered(self) -> bool:
        return None not in self.rows


@dataclass(frozen=True, slots=True)
class Verdict:
    """Ids, sorted; a run is good when there are none of the last five kinds."""

    accepted: int
    answered: int
    # Accepted, and without a final answer although its client asked until its deadline.
    lost: tuple[str, ...]
    # Two rows for a candidate, or two different numbers.
    duplicated: tuple[str, ...]
    # Other bits than the single process gave.
    wrong: tuple[str, ...]
    # Never accepted: refused until its deadline.
    refused: tuple[str, ...]
    # Answered once, and not when it was asked for again.
    forgotten: tuple[str, ...]

    @property
    def broken(self) -> dict[str, tuple[str, ...]]:
        """The ids that failed, by kind."""
        return {
            "lost": self.lost,
            "duplicated": self.duplicated,
            "wrong": self.wrong,
            "refused": self.refused,
            "forgotten": self.forgotten,
        }

    @property
    def holds(self) -> bool:
        return not any(self.broken.values())


@dataclass(slots=True)
class Ledger:
    """`expected` are the right rows by group."""

    expected: Sequence[Rows]
    entries: dict[str, Entry] = field(default_factory=dict)
    _duplicated: set[str] = field(default_factory=set)
    _wrong: set[str] = field(default_factory=set)
    _forgotten: set[str] = field(default_factory=set)

    def open(self, name: str, group: int) -> None:
        self.entries[name] = Entry(group, [None] * len(self.expected[group]))

    def accept(self, name: str) -> None:
        """It is, or may be, in the server's hands: the attempt ended in anything but a refusal."""
        self.entries[name].accepted = True

    def answer(self, name: str, server: str, rows: Rows) -> bool:
        """Enter an answer, the first or another one; whether every candidate has its final row now."""
        self.accept(name)
        entry = self.entries[name]
        for candidate, (known, row, right) in enumerate(zip(entry.rows, rows, self.expected[entry.group], strict=True)):
            if row is None:
                continue
            if row != right:
                self._wrong.add(name)
            if known is not None and known != row:
                self._duplicated.add(name)
            if known is None:
                entry.rows[candidate] = row
                entry.server = server
        return entry.answered

    def doubled(self, name: str) -> None:
        """An answer came with two rows for a candidate, or with one for none."""
        self.accept(name)
        self._duplicated.add(name)

    def forget(self, name: str) -> None:
        """It was answered, and asked for again in vain."""
        self._forgotten.add(name)

    @property
    def answered(self) -> list[str]:
        return [name for name, entry in self.entries.items() if entry.answered]

    def verdict(self) -> Verdict:
        entries = self.entries.items()
        return Verdict(
            accepted=sum(entry.accepted for _, entry in entries),
            answered=len(self.answered),
            lost=tuple(sorted(name for name, entry in entries if entry.accepted and not entry.answered)),
            duplicated=tuple(sorted(self._duplicated)),
            wrong=tuple(sorted(self._wrong)),
            refused=tuple(sorted(name for name, entry in entries if not entry.accepted)),
            forgotten=tuple(sorted(self._forgotten)),
        )
