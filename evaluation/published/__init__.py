"""Published figures as data: every table with its source, to hold a run against."""

import re
from pathlib import Path

from pydantic import BaseModel, ConfigDict, model_validator

_FOLDER = Path(__file__).parent


class Published(BaseModel):
    """One table; `rows` are its figures by model or setting, in the order of `columns`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    source: str
    notes: list[str]
    columns: list[str]
    aliases: dict[str, list[str]] = {}
    rows: dict[str, list[float | None]]

    @model_validator(mode="after")
    def _rectangular(self) -> "Published":
        if any(len(row) != len(self.columns) for row in self.rows.values()):
            raise ValueError("a row has not one figure for each column")
        return self

    def find(self, row: str, column: str) -> float | None:
        """The figure, or None where there is none; a column may go by its alias, case and punctuation aside."""
        for name, figure in zip(self.columns, self.rows.get(row, ()), strict=False):
            if _plain(column) in map(_plain, (name, *self.aliases.get(name, ()))):
                return figure
        return None


def published(name: str) -> Published:
    """The table of `evaluation/published/<name>.json`."""
    return Published.model_validate_json((_FOLDER / f"{name}.json").read_bytes())


def names() -> list[str]:
    """Of all tables."""
    return sorted(path.stem for path in _FOLDER.glob("*.json"))


def deviation(here: float | None, there: float | None) -> float | None:
    """Of what was measured here from what was published, where both are known."""
    return None if here is None or there is None else here - there


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]", "", name.casefold())
