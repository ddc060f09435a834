"""What people see: progress, pictures and reports."""

import io
from xml.etree import ElementTree

from evaluation.bars import Bar, draw_bars
from evaluation.chart import Line, draw_lines
from evaluation.progress import Progress
from evaluation.report import Report, Table, command_line


class Clock:
    """Seconds that pass when told."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_progress_tells_the_rate_and_the_time_left() -> None:
    clock, out = Clock(), io.StringIO()
    progress = Progress("prm", 1000, 100, out, clock)
    for _ in range(100):
        progress.advance(failed=False)
    progress.advance(failed=True)
    clock.now = 20.2
    assert progress.line(clock.now) == "prm: 201/1000 (20 %), 100 kept, 5/s, 3 min left, 1 failed"


def test_progress_is_quiet_in_a_log() -> None:
    clock, out = Clock(), io.StringIO()
    progress = Progress("prm", 100, 0, out, clock)
    for _ in range(100):
        clock.now += 0.4
        progress.advance(failed=False)
    progress.close()
    assert len(out.getvalue().splitlines()) == 3


def test_pictures_are_well_formed_whatever_the_names() -> None:
    lines = [Line("a < b & c", [(1, 2.0), (2, 3.0)]), Line("none", []), Line("one", [(4, 2.0)])]
    for picture in (
        draw_lines("<title>", "x", "y", lines, doubling=True),
        draw_lines("", "x", "y", []),
        draw_bars("a & b", [Bar("<x>", 12.5, (3.0, 40.0)), Bar("", 0.0)]),
    ):
        assert ElementTree.fromstring(picture).tag.endswith("svg")


def test_a_cell_cannot_break_its_table() -> None:
    table = Table("T", "note", ("a", "b"), [("one | two\nthree", None)])
    assert "| one \\| two three | – |" in Report("R", "command", tables=[table]).markdown()


def test_a_password_in_an_address_is_not_reported() -> None:
    assert command_line("pairwise", ["--url", "http://me:secret@host/x"]).endswith("--url 'http://…@host/x'")
