"""VisualProcessBench's measure over a real server."""

import json
from pathlib import Path

import pytest

from evaluation.process_bench import main
from tests.evaluation.made_up import finish, solutions, table, write_lines
from tests.service.running import Running, shared


@pytest.fixture(scope="module")
def server(request: pytest.FixtureRequest) -> Running:
    return shared(request.session)


def test_every_source_and_the_overall_figure_equal_a_count_by_hand(server: Running, tmp_path: Path) -> None:
    lines = solutions(tmp_path)
    data = write_lines(tmp_path / "test.jsonl", lines)
    assert finish(main, "--data", data, "--url", server.url, "--out", tmp_path / "out", "--threshold", 0.4) == 0
    records = [json.loads(line) for line in (tmp_path / "out" / "records.jsonl").read_text().splitlines()]
    scores = {record["id"]: record["results"][0]["step_scores"] for record in records}
    rows = {row["source"]: row for row in table(tmp_path / "out", "Macro-F1")}
    assert set(rows) == {"MMMU", "MathVision", "MathVerse", "DynaMath", "WeMath", "Overall"}
    for source, row in rows.items():
        pairs = [
            (score > 0.4, label == 1)
            for index, line in enumerate(lines)
            if source in (line["data_source"], "Overall")
            for score, label in zip(scores[str(index)], line["response"]["process_correctness"], strict=True)
            if label != 0
        ]
        assert row["steps"] == len(pairs)
        assert row["macro-F1"] == pytest.approx(100 * (f1(pairs, True) + f1(pairs, False)) / 2)


def f1(pairs: list[tuple[bool, bool]], positive: bool) -> float:
    hits = sum(said == meant == positive for said, meant in pairs)
    said, meant = (sum(pair[side] == positive for pair in pairs) for side in (0, 1))
    if hits == 0:
        return 0.0
    precision, recall = hits / said, hits / meant
    return 2 * precision * recall / (precision + recall)
