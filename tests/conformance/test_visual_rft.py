"""The public golden cases, through the same code as `python -m tests.conformance visual_rft`."""

import json
from collections import Counter
from importlib.metadata import version

import pytest

from tests.conformance import visual_rft
from tests.golden import GOLDEN

CASES = GOLDEN / "visual_rft" / "public.json"


def test_every_case_is_equal_in_each_mode(capsys: pytest.CaptureFixture[str]) -> None:
    found = list(visual_rft.verdicts(CASES, None, None))
    kinds = Counter(case["kind"] for case in json.loads(CASES.read_text(encoding="utf-8")))
    with capsys.disabled():
        passed = sum(verdict.passed for verdict in found)
        print(f"\nvisual_rft: {passed} of {len(found)} equal, {dict(kinds)}, worst {max(v.worst for v in found):.1e}")
    assert [f"{verdict.id}: {line}" for verdict in found for line in verdict.differences] == []
    assert len(found) == sum(kinds.values()) > 0


@pytest.mark.parametrize("field", ["expected", "strict", "expected_without_math"])
def test_a_wrong_number_is_told(field: str) -> None:
    case = next(case for case in json.loads(CASES.read_text(encoding="utf-8")) if case["id"] == "det_exact")
    wrong = {**case, field: {**case[field], "confidence": case[field]["confidence"] + 1e-9}}
    assert not visual_rft.verdict_of(wrong).passed
    assert visual_rft.verdict_of(case).passed


def test_the_installed_versions_answer_is_the_expected_one() -> None:
    case = {
        "expected": {"reward": 0.0},
        "expected_by_math_verify": {version("math-verify"): {"reward": 1.0}},
    }
    assert visual_rft.upstream_expected(case) == {"reward": 1.0}
    assert visual_rft.upstream_expected({**case, "expected_by_math_verify": {"0.0.1": {"reward": 0.5}}}) == {
        "reward": 0.0
    }
