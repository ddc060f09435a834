"""The files of a run: the output, and beside it the journal, the rejected candidates and the summary."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from steelyard.data.journal import Journal, Scored
from steelyard.data.summary import Summary
from steelyard.data.writers import Format, JsonWriter, discard, format_of, write_whole
from steelyard.errors import InvalidCall


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where everything goes."""

    path: Path
    format: Format

    @classmethod
    def of(cls, name: str, form: Format | None) -> Self:
        """Raises InvalidCall for a place where nothing can be written."""
        path = Path(name)
        if not path.parent.is_dir():
            raise InvalidCall(f"{name}: there is no directory {path.parent}")
        return cls(path, form or format_of(path))

    @property
    def journal(self) -> Path:
        return self._beside("journal")

    @property
    def rejects(self) -> Path:
        return self._beside("rejects.jsonl")

    @property
    def summary(self) -> Path:
        return self._beside("summary.json")

    def check(self, inputs: Sequence[Path], *, resume: bool, overwrite: bool) -> None:
        """Raises InvalidCall for what is there already, unless the caller has said what to do with it."""
        place = self.path.resolve()
        if any(place == path.resolve() or place in path.resolve().parents for path in inputs):
            raise InvalidCall(f"{self.path}: the output would replace the input")
        begun = self.journal.exists()
        if resume and not begun and self.path.exists() and not self.summary.exists():
            raise InvalidCall(f"{self.path}: is there already, and {self.journal} is not: no run to resume")
        if not (resume or overwrite) and (begun or self.path.exists()):
            there = self.journal if begun else self.path
            raise InvalidCall(f"{there}: is there already; --resume goes on, --overwrite starts anew")

    def finished(self, settings: dict[str, str]) -> Summary | None:
        """The summary of a run of these settings that is over. Raises InvalidCall when it was another one."""
        if self.journal.exists() or not self.path.exists():
            return None
        try:
            summary = Summary.read(self.summary.read_text(encoding="utf-8"))
        except (OSError, ValueError, KeyError, TypeError):
            raise InvalidCall(f"{self.summary}: cannot be read; --overwrite starts anew") from None
        other = [name for name in settings if summary.settings.get(name) != settings[name]]
        if other:
            raise InvalidCall(f"{self.path}: is of a run with another {other[0]}; --overwrite starts anew")
        return summary

    def forget(self) -> None:
        """Drop what an earlier run has left but its output, which stays until another takes its place."""
        for path in (self.journal, self.journal.with_name(self.journal.name + "-wal"), self.rejects, self.summary):
            discard(path)

    def report(self, journal: Journal, summary: Summary) -> None:
        """Write what was rejected, if anything was, and the summary."""
        if summary.complete:
            discard(self.rejects)
        else:
            write_whole(
                JsonWriter(), self.rejects, ([_rejected(each)] for each in journal.scored("WHERE score IS NULL"))
            )
        draft = self._beside("summary.json.new")
        draft.write_text(summary.json(), encoding="utf-8")
        draft.replace(self.summary)

    def _beside(self, ending: str) -> Path:
        return self.path.with_name(f"{self.path.name}.{ending}")


def _rejected(scored: Scored) -> dict[str, object]:
    return {
        "record": scored.record,
        "candidate": None if scored.prompt is None else scored.number,
        "place": scored.place,
        "status": scored.outcome.status,
        "detail": scored.outcome.detail,
        "retryable": scored.outcome.retryable,
    }
