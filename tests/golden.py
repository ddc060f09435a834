"""Where the reference's answers lie: beside the checkout."""

import json
from pathlib import Path
from typing import Any

import pytest

GOLDEN = Path(__file__).parents[2] / "shared" / "golden"
if not GOLDEN.is_dir():
    pytest.skip(f"the reference's answers are not at {GOLDEN}", allow_module_level=True)
VISUAL_PRM = GOLDEN / "visualprm"
TINY_VISUAL_PRM = VISUAL_PRM / "tiny-visualprm"
IXC_REWARD = GOLDEN / "ixc_reward"
TINY_IXC_REWARD = IXC_REWARD / "tiny-ixc-reward"
REAL_TOKENIZER = GOLDEN / "internlm2_tokenizer"


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def visual_prm_cases(kind: str = "score") -> list[dict[str, Any]]:
    return [case for case in read_lines(VISUAL_PRM / "cases.jsonl") if case["type"] == kind]
