"""Which candidates are chosen: by a threshold, the best of each prompt, one of each kind; or best-and-worst pairs.

A choice is a table in the journal's database, so that it takes no memory however many there are.
"""

import sqlite3
from dataclasses import dataclass

# Equal scores keep the data set's order, as everywhere.
_RANKED = "row_number() OVER (PARTITION BY prompt ORDER BY score DESC, record, number)"
_ALL = """
SELECT record, number, prompt, outcome, score FROM candidates JOIN outcomes ON id = outcome WHERE prompt IS NOT NULL
"""
_CHOSEN = """
CREATE TEMP TABLE chosen (record INTEGER, number INTEGER, PRIMARY KEY (record, number)) WITHOUT ROWID
"""
_PAIRS = """
CREATE TEMP TABLE pairs (
    record INTEGER, number INTEGER, other_record INTEGER, other_number INTEGER, best INTEGER, own REAL, other REAL,
    PRIMARY KEY (record, number)) WITHOUT ROWID
"""
_ENDS = f"""
CREATE TEMP TABLE ends AS SELECT * FROM (
    SELECT *, {_RANKED} AS place, count(*) OVER (PARTITION BY prompt) AS among FROM ({_ALL}) WHERE score IS NOT NULL)
WHERE place = 1 OR place = among
"""
_ADD_PAIRS = """
INSERT INTO pairs
SELECT one.record, one.number, two.record, two.number, one.score > two.score, one.score, two.score
FROM ends AS one JOIN ends AS two ON one.prompt = two.prompt AND one.score <> two.score
WHERE abs(one.score - two.score) >= :margin AND max(one.score, two.score) >= ifnull(:least, -9e999)
"""


@dataclass(frozen=True, slots=True)
class Selection:
    """Without anything, all candidates are chosen."""

    min_score: float | None = None
    top: int | None = None
    deduplicate: bool = False

    @property
    def needs_scores(self) -> bool:
        return self.min_score is not None or self.top is not None

    @property
    def leaves_out(self) -> bool:
        return self.needs_scores or self.deduplicate


def choose(database: sqlite3.Connection, selection: Selection, *, scored_alone: bool) -> None:
    """Fill the table `chosen` with places.

    Copies go first, then what is below the threshold, then all but the best of what is left of each prompt. Without a
    threshold and a count, what has no score is chosen too, unless `scored_alone`.
    """
    source = _ALL
    if selection.deduplicate:
        copies = "row_number() OVER (PARTITION BY outcome ORDER BY record, number) AS copy"
        source = f"SELECT * FROM (SELECT *, {copies} FROM ({source})) WHERE copy = 1"
    if scored_alone or selection.needs_scores:
        source = f"SELECT * FROM ({source}) WHERE score IS NOT NULL"
    if selection.min_score is not None:
        source = f"SELECT * FROM ({source}) WHERE score >= :least"
    if selection.top is not None:
        source = f"SELECT * FROM (SELECT *, {_RANKED} AS place FROM ({source})) WHERE place <= :top"
    values = {"least": selection.min_score, "top": selection.top}
    database.execute("DROP TABLE IF EXISTS temp.chosen")
    database.execute(_CHOSEN)
    database.execute(f"INSERT INTO chosen SELECT record, number FROM ({source}) ORDER BY record, number", values)


def choose_pairs(database: sqlite3.Connection, margin: float, min_score: float | None) -> None:
    """Fill the table `pairs` with each prompt's best and worst candidate, either half with the other's place.

    Their scores differ, by `margin` at least, and the best one has at least `min_score`.
    """
    database.execute("DROP TABLE IF EXISTS temp.pairs")
    database.execute("DROP TABLE IF EXISTS temp.ends")
    database.execute(_PAIRS)
    database.execute(_ENDS)
    database.execute(_ADD_PAIRS, {"margin": margin, "least": min_score})
