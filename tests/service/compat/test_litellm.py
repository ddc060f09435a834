"""LiteLLM's reranking through three of its providers; `make check-clients` installs it in an environment of its own."""

import json
import os
import subprocess
from pathlib import Path

import httpx2
import pytest

from tests.service.compat.asked import ANSWERS, ASKED, MODELS, QUESTION, bounded, rewards
from tests.service.running import Running

PYTHON = os.environ.get("CLIENTS_PYTHON", "")
CALLS = Path(__file__).with_name("litellm_calls.py")

pytestmark = pytest.mark.skipif(not PYTHON, reason="make check-clients has LiteLLM")


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("provider", ["cohere", "jina_ai", "hosted_vllm"])
def test_litellm_reads_the_rewards(server: Running, api: httpx2.Client, provider: str, model: str) -> None:
    asked = {"model": f"{provider}/{model}", "api_base": server.url, "query": QUESTION, "documents": ANSWERS}
    shown = asked | {"query": {"content": ASKED}}
    environment = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    calls = json.dumps([asked, shown, asked | {"documents": []}])
    ended = subprocess.run(
        [PYTHON, CALLS], input=calls, env=environment, capture_output=True, text=True, timeout=120, check=False
    )
    assert ended.returncode == 0, ended.stderr[-2000:]
    blind, seen, refusal = json.loads(ended.stdout.splitlines()[-1])
    assert blind == as_pairs(bounded(model, rewards(api, model, images=[])))
    if provider == "jina_ai":
        assert seen == as_pairs(bounded(model, rewards(api, model)))
    else:
        assert "valid string" in seen, "LiteLLM lets pictures through to Jina's form alone"
    assert "documents" in refusal


def as_pairs(scores: list[float]) -> list[list[float]]:
    """Index and score, best first."""
    return [[index, scores[index]] for index in sorted(range(len(scores)), key=lambda index: -scores[index])]
