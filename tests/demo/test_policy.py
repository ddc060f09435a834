"""The policy that reward models select from: how often it is right, and how it errs."""

import json
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from demo.policy import candidates, draw_questions, misperceptions, write

N = 64


def test_four_in_ten_are_right_in_every_form() -> None:
    right: dict[str, list[bool]] = defaultdict(list)
    for asked in draw_questions("test", 0, 180):
        chains = candidates(asked, 0, N)
        right[asked.question.form] += [chain.succeeds(asked.picture.facts) for chain in chains]
    assert len(right) == 6
    for told in right.values():
        assert 0.35 <= sum(told) / len(told) <= 0.45


def test_errors_share_a_misperception_and_stay_consistent_with_it() -> None:
    for asked in draw_questions("test", 1, 40):
        facts, wrong = asked.picture.facts, misperceptions(asked.question, asked.picture.facts)
        shared = Counter[str]()
        for chain in candidates(asked, 1, N):
            if chain.succeeds(facts):
                assert all(judged.right for judged in chain.judge(facts))
                continue
            held = [seen for seen in wrong if all(judged.right for judged in chain.judge(seen))]
            assert held
            shared[str(held[0])] += 1
        if len(wrong) > 2:
            assert 0.35 <= shared.most_common(1)[0][1] / shared.total() <= 0.85


def test_more_candidates_begin_with_the_same_ones() -> None:
    (asked,) = draw_questions("test", 3, 1)
    few, many = candidates(asked, 3, 8), candidates(asked, 3, N)
    assert many[:8] == few
    assert candidates(asked, 4, 8) != few


@pytest.mark.parametrize("split", ["train", "test"])
def test_questions_are_of_the_split_and_as_often_yes_as_no(split: str) -> None:
    drawn = draw_questions("train" if split == "train" else "test", 0)
    assert all(f"/{split}/" in asked.picture.path.as_posix() for asked in drawn)
    answers = Counter(asked.answer for asked in drawn)
    assert abs(answers["yes"] - answers["no"]) <= 4


def test_the_file_holds_what_evaluation_reads(tmp_path: Path) -> None:
    write(tmp_path / "out.jsonl", draw_questions("test", 0, 5), 0, 3)
    records = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len(records) == 5
    for record in records:
        assert Path(record["image"]).is_file()
        assert len(record["candidates"]) == 3
        for candidate in record["candidates"]:
            assert candidate["steps"][-1] == f"Answer: {candidate['answer']}"
            assert candidate["correct"] == (candidate["answer"] == record["answer"])
