"""A tally for people and for programs."""

from collections.abc import Iterable, Mapping
from http import HTTPStatus
from math import isnan

from loadtest.latencies import Latencies
from loadtest.tally import Series, Tally

PERCENTILES = (50.0, 90.0, 99.0, 99.9)
# The type of what json.dumps takes.
Json = Mapping[str, object]


def table(tally: Tally) -> str:
    """A line a priority; latencies in milliseconds, counted from the planned times."""
    heads = ("priority", "planned", "200", "429", "other", "no answer", "p50", "p90", "p99", "p99.9", "longest")
    rows = [heads, *(_row(priority, series) for priority, series in sorted(tally.series.items()))]
    widths = [max(len(row[column]) for row in rows) for column in range(len(heads))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    for priority, series in sorted(tally.series.items()):
        lines += [f"{priority}: {remark}" for remark in _remarks(series)]
    late_ms = tally.late.percentile(99) * 1000
    lines.append(
        f"the generator: {tally.seconds:.1f} s, {tally.cpu_s / max(tally.seconds, 1e-9):.2f} cores, "
        f"{tally.connections} connections, sent {late_ms:.1f} ms late at p99"
    )
    return "\n".join(lines)


def as_json(tally: Tally) -> Json:
    """Seconds, and null where there is nothing to say."""
    return {
        "seconds": tally.seconds,
        "generator": {
            "cpu_s": tally.cpu_s,
            "connections": tally.connections,
            "late_s": latencies_as_json(tally.late),
        },
        "series": {priority: _series_as_json(series) for priority, series in sorted(tally.series.items())},
    }


def latencies_as_json(latencies: Latencies) -> Json:
    found = {f"p{percent:g}": latencies.percentile(percent) for percent in PERCENTILES}
    shown = {name: None if isnan(value) else value for name, value in found.items()}
    return {"count": latencies.count, **shown, "longest": latencies.longest_s}


def _row(priority: str, series: Series) -> tuple[str, ...]:
    ok, full = series.statuses[HTTPStatus.OK], series.statuses[HTTPStatus.TOO_MANY_REQUESTS]
    other = series.answered - ok - full
    silent = series.unanswered + series.broken.total()
    counts = (series.planned, ok, full, other, silent)
    cuts = (*(series.accepted.percentile(percent) for percent in PERCENTILES), series.accepted.longest_s)
    return (priority, *map(str, counts), *("–" if isnan(cut) else f"{cut * 1000:.1f}" for cut in cuts))


def _remarks(series: Series) -> Iterable[str]:
    """What is not in every run."""
    if series.retry_after:
        pauses = ", ".join(f"{pause} s × {count}" for pause, count in sorted(series.retry_after.items()))
        yield f"Retry-After {pauses}; refused in {series.refused.percentile(50) * 1000:.1f} ms at the median"
    if series.unexplained:
        yield f"{series.unexplained} answers 429 without Retry-After"
    others = {status for status in series.statuses if status not in (HTTPStatus.OK, HTTPStatus.TOO_MANY_REQUESTS)}
    if others:
        yield "answers " + ", ".join(f"{status} × {series.statuses[status]}" for status in sorted(others))
    unscored = {status: count for status, count in series.candidates.items() if status != "ok"}
    if unscored:
        yield "candidates " + ", ".join(f"{status} × {count}" for status, count in sorted(unscored.items()))
    if series.broken:
        yield "connections " + ", ".join(f"{reason} × {count}" for reason, count in sorted(series.broken.items()))
    if series.unsent:
        yield f"{series.unsent} not sent: too many were under way"


def _series_as_json(series: Series) -> Json:
    return {
        "planned": series.planned,
        "unsent": series.unsent,
        "unanswered": series.unanswered,
        "statuses": {str(status): count for status, count in sorted(series.statuses.items())},
        "candidates": dict(series.candidates),
        "retry_after": dict(series.retry_after),
        "without_retry_after": series.unexplained,
        "broken": dict(series.broken),
        "accepted_s": latencies_as_json(series.accepted),
        "refused_s": latencies_as_json(series.refused),
    }
