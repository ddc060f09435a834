"""Progress as lines and as a bar."""

import io

from steelyard.data.progress import Lines, shown


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_line_every_ten_seconds_with_the_rate_of_this_run_and_the_time_left() -> None:
    now, said = 0.0, io.StringIO()
    lines = Lines(10_000, 1_000, "scored", said, lambda: now)
    for at, done in ((4.0, 2_000), (10.0, 3_000), (15.0, 4_000), (20.0, 5_000)):
        now = at
        lines.tell(done)
    now = 40.0
    lines.tell(10_000)
    lines.end()
    assert said.getvalue().splitlines() == [
        "scored: 3,000 of 10,000 records, 200 a second, 0:00:35 left",
        "scored: 5,000 of 10,000 records, 200 a second, 0:00:25 left",
        "scored: 10,000 of 10,000 records, 225 a second",
        "scored: 10,000 of 10,000 records, 225 a second",
    ]


def test_a_bar_on_a_terminal() -> None:
    terminal = Terminal()
    with shown(50, 10, "scored", terminal) as tell:
        tell(30)
        tell(50)
    assert "50/50" in terminal.getvalue()
    assert "records/s" in terminal.getvalue()
