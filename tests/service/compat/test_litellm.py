"""LiteLLM's reranking through three of its providers; `make check-clients` installs it in an environment of its own."""

import json
import os
import subprocess
from collections.abc import Mapping
from pathlib import Path

import httpx2
import pytest

from tests.service.compat.asked import ANSWERS, ASKED, MODELS, QUESTION, bounded, rewards
from tests.service.running import Running

PYTHON = os.environ.get("CLIENTS_PYTHON", "")
CALLS = Path(__file__).with_name("litellm_calls.py")
PROVIDERS = ("cohere", "jina_ai", "hosted_vllm")
# With a text for a query, with a picture in it, and with nothing to put in order.
FORMS: dict[str, dict[str, object]] = {
    "text": {},
    "picture": {"query": {"content": ASKED}},
    "nothing": {"documents": []},
}

pytestmark = pytest.mark.skipif(not PYTHON, reason="make check-clients has LiteLLM")
Answers = Mapping[tuple[str, str, str], list[list[float]] | str]


@pytest.fixture(scope="module")
def answers(server: Running) -> Answers:
    """Of every call in one process: LiteLLM takes seconds to import."""
    asked = [(provider, model, form) for provider in PROVIDERS for model in MODELS for form in FORMS]
    calls = [
        {"model": f"{provider}/{model}", "api_base": server.url, "query": QUESTION, "documents": ANSWERS} | FORMS[form]
        for provider, model, form in asked
    ]
    environment = os.environ | {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}
    ended = subprocess.run(
        [PYTHON, CALLS],
        input=json.dumps(calls),
        env=environment,
        capture_output=True,
        text=True,
        timeout=150,
        check=True,
    )
    return dict(zip(asked, json.loads(ended.stdout.splitlines()[-1]), strict=True))


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("provider", PROVIDERS)
def test_litellm_reads_the_rewards(answers: Answers, api: httpx2.Client, provider: str, model: str) -> None:
    assert answers[provider, model, "text"] == as_pairs(bounded(model, rewards(api, model, images=[])))
    seen = answers[provider, model, "picture"]
    if provider == "jina_ai":
        assert seen == as_pairs(bounded(model, rewards(api, model)))
    else:
        assert "valid string" in seen, "LiteLLM lets pictures through to Jina's form alone"
    assert "documents" in answers[provider, model, "nothing"]


def as_pairs(scores: list[float]) -> list[list[float]]:
    """Index and score, best first."""
    return [[index, scores[index]] for index in sorted(range(len(scores)), key=lambda index: -scores[index])]
