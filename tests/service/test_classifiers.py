"""A sequence classifier of transformers behind `POST /score_outcomes` of the real server process."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from demo.random_classifier import END, TEMPLATE, write_checkpoint
from steelyard.schema import ServedModels
from tests.service.running import ROOT, Running, launch, refused, running
from tests.service.test_outcomes import RED, answered, image_part, in_parts, post, scores

ASK = [{"role": "user", "content": "Which shape is red? Think of circles and of squares, and say why."}]
ANSWERS = ["The circle.", "The square, I think.\n\nYes.", "", "The circle."]
# A template that some conversations displease, and a character whose values overflow in the first layer.
PICKY = "{% if messages[0].role == 'assistant' %}{{ raise_exception('nobody asked') }}{% endif %}" + TEMPLATE
OVERFLOWING = "~"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = write_checkpoint(tmp_path_factory.mktemp("reward"))
    (directory / "chat_template.jinja").write_text(PICKY, encoding="utf-8")
    (token,) = AutoTokenizer.from_pretrained(directory)(OVERFLOWING, add_special_tokens=False).input_ids
    tensors = load_file(directory / "model.safetensors")
    embeddings = tensors["model.embed_tokens.weight"]
    embeddings[:, 0], embeddings[token] = 0.0, 0.0
    embeddings[token, 0] = 1.0
    tensors["model.layers.0.self_attn.v_proj.weight"][:, 0] = torch.finfo(torch.float32).max
    save_file(tensors, directory / "model.safetensors", {"format": "pt"})
    return directory


@pytest.fixture(scope="module")
def server(checkpoint: Path) -> Iterator[Running]:
    with running("--model", f"reward={checkpoint}", "--admin-key", "admin", "--api-key", "caller") as server:
        yield server


@pytest.fixture(scope="module")
def api(server: Running) -> Iterator[httpx2.Client]:
    with server.client(headers={"Authorization": "Bearer caller"}) as client:
        yield client


def ask(api: httpx2.Client, **fields: Any) -> httpx2.Response:  # noqa: ANN401
    whole = {} if "conversations" in fields else {"messages": ASK, "candidates": ANSWERS}
    return post(api, **(whole | fields))


def conversation(answer: str) -> dict[str, Any]:
    return {"messages": [*ASK, {"role": "assistant", "content": answer}]}


@pytest.fixture(scope="module")
def expected(checkpoint: Path) -> tuple[list[float], list[int]]:
    """transformers' own scores of the answers, one at a time, and how long their prompts are."""
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    model = AutoModelForSequenceClassification.from_pretrained(checkpoint).eval()
    prompts = [
        tokenizer.apply_chat_template(conversation(text)["messages"], tokenize=True, return_dict=False)
        for text in ANSWERS
    ]
    with torch.no_grad():
        found = [model(input_ids=torch.tensor([prompt])).logits.item() for prompt in prompts]
    return found, [len(prompt) for prompt in prompts]


def test_scores_and_lengths_are_transformers_own(api: httpx2.Client, expected: tuple[list[float], list[int]]) -> None:
    answer = answered(ask(api))
    assert [result.score for result in answer.results] == pytest.approx(expected[0], rel=1e-5, abs=1e-5)
    assert answer.usage.prompt_tokens == sum(expected[1])
    assert answer.results[0].score == answer.results[3].score
    assert (answer.provenance.family, answer.provenance.dtype) == ("sequence_classifier", "float32")
    assert len(set(expected[0])) == 3


def test_what_the_answers_share_is_computed_once(api: httpx2.Client, checkpoint: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(checkpoint)
    texts = ["The circle.", "No, the square."]
    one, other = (
        tokenizer.apply_chat_template(conversation(text)["messages"], tokenize=True, return_dict=False)
        for text in texts
    )
    common = next(place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    usage = answered(ask(api, candidates=texts)).usage
    assert usage.computed_tokens == len(one) + len(other) - common
    assert usage.cached_tokens == common


def test_whole_conversations_have_the_same_scores(api: httpx2.Client, expected: tuple[list[float], list[int]]) -> None:
    conversations = [conversation(text) for text in ANSWERS]
    assert scores(ask(api, conversations=conversations)) == pytest.approx(expected[0], rel=1e-5, abs=1e-5)
    parts = [{"role": "user", "content": [{"type": "text", "text": ASK[0]["content"]}]}]
    assert scores(ask(api, messages=parts)) == pytest.approx(expected[0], rel=1e-5, abs=1e-5)


def test_pictures_are_refused_and_never_left_out(api: httpx2.Client) -> None:
    assert "reward reads text alone" in refused(ask(api, images=[RED]), 422, "invalid_request")
    assert "messages" in refused(ask(api, messages=in_parts("Which?", image_part(RED))), 422, "invalid_request")
    seeing = {"messages": ASK, "images": [RED]}
    found = refused(ask(api, conversations=[conversation("fine"), seeing]), 422, "invalid_request")
    assert "conversations.1.images" in found


def test_what_the_template_refuses_costs_its_own_conversation_alone(api: httpx2.Client) -> None:
    unasked = {"messages": [{"role": "assistant", "content": "Hm."}]}
    answer = answered(ask(api, conversations=[conversation("fine"), unasked, {"messages": []}, conversation("no")]))
    assert [result.status for result in answer.results] == ["ok", "refused", "refused", "ok"]
    assert "nobody asked" in (answer.results[1].detail or "")
    assert "empty" in (answer.results[2].detail or "")


def test_a_number_that_is_not_finite_fails_alone(api: httpx2.Client, expected: tuple[list[float], list[int]]) -> None:
    answer = answered(ask(api, candidates=[*ANSWERS, f"Overflow {OVERFLOWING}"]))
    assert [result.status for result in answer.results] == ["ok"] * 4 + ["failed"]
    assert [r.score for r in answer.results[:4]] == pytest.approx(expected[0], rel=1e-5, abs=1e-5)
    assert "not finite" in (answer.results[4].detail or "")


def test_past_the_models_positions_a_prompt_is_too_long(api: httpx2.Client) -> None:
    answer = answered(ask(api, candidates=["fine", "word " * 600, "x" * 3_000_000]))
    assert [result.status for result in answer.results] == ["ok", "too_long", "too_long"]


def test_control_text_is_told(api: httpx2.Client) -> None:
    answer = answered(ask(api, candidates=[f"Fine.{END}", "fine"], control_tokens="refuse"))
    assert [result.status for result in answer.results] == ["refused", "ok"]
    assert END in (answer.results[0].detail or "")


def test_the_gateway_is_ready_without_torch_or_transformers(server: Running, api: httpx2.Client) -> None:
    assert api.get("/health/ready").json() == {"status": "ok"}
    (model,) = ServedModels.model_validate_json(api.get("/models").content).data
    assert (model.kind, model.limits.max_tokens, model.limits.max_tiles) == ("outcome", 512, 0)
    mapped = {Path(part.path).name for part in psutil.Process(server.process.pid).memory_maps()}
    assert not [name for name in mapped if "torch" in name]
    in_engine = {Path(part.path).name for part in server.engine().memory_maps()}
    assert [name for name in in_engine if "torch" in name]


def test_asleep_it_is_given_other_weights_and_wakes_with_them(
    server: Running, api: httpx2.Client, expected: tuple[list[float], list[int]], checkpoint: Path, tmp_path: Path
) -> None:
    """The last to use the module's server."""
    other = shutil.copytree(checkpoint, tmp_path / "other")
    tensors = load_file(other / "model.safetensors")
    save_file(tensors | {"score.weight": -tensors["score.weight"]}, other / "model.safetensors", {"format": "pt"})
    with server.client(headers={"Authorization": "Bearer admin"}) as admin:
        assert admin.post("/admin/sleep").status_code == 200
        assert admin.post("/admin/reload", json={"models": {"reward": str(other)}}).status_code == 200
        assert admin.post("/admin/wake").status_code == 200
    assert scores(ask(api)) == pytest.approx([-score for score in expected[0]], rel=1e-5, abs=1e-5)


@pytest.mark.slow
def test_the_example_runs_also_batch_invariant() -> None:
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'client'}", "STEELYARD_BATCH_INVARIANT": "1"}
    example = [sys.executable, str(ROOT / "examples" / "score_with_any_reward_model.py")]
    done = subprocess.run(example, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=150, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["0", "1", "2", "best:"]
    assert all(abs(float(line.split()[1])) < 100 for line in lines[:3])


def test_a_checkpoint_that_cannot_be_served_stops_the_start_in_one_line(checkpoint: Path, tmp_path: Path) -> None:
    copied = shutil.copytree(checkpoint, tmp_path / "copied")
    (copied / "chat_template.jinja").unlink()
    process = launch("--model", f"reward={copied}")
    _, log = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"steelyard: {copied}: it has no chat template" in log
