"""Other projects' clients against a running server (`make serve`): OpenAI's, Cohere's, and what OpenRLHF sends."""

import base64
import os
from pathlib import Path

import cohere
import httpx2
import openai

URL = os.environ.get("STEELYARD_URL", "http://127.0.0.1:8000")
KEY = os.environ.get("STEELYARD_API_KEY", "none")
PICTURE = (Path(__file__).parent / "circle.png").read_bytes()
QUESTION = "what is the green shape?"
ANSWERS = [
    "I see a circle.\n\nThe color is green.\n\nAnswer: circle",
    "The color is green.\n\nThe picture shows a triangle.\n\nAnswer: triangle",
]
DATA_URL = "data:image/png;base64," + base64.b64encode(PICTURE).decode()
ASKED = [{"type": "image_url", "image_url": {"url": DATA_URL}}, {"type": "text", "text": QUESTION}]


def with_openai() -> None:
    """vLLM's routes through OpenAI's client: the reward of each step, and answers in order."""
    with openai.OpenAI(base_url=URL, api_key=KEY) as client:
        print("served:", ", ".join(model.id for model in client.with_options(base_url=URL + "/v1").models.list()))
        chat = [{"role": "user", "content": ASKED}, {"role": "assistant", "content": ANSWERS[0]}]
        pooled = client.post("/pooling", cast_to=dict, body={"model": "visualprm", "messages": chat})
        print("pooling: a row a step,", [round(step, 3) for (step,) in pooled["data"][0]["data"]])
        body = {"model": "ixc_reward", "query": {"content": ASKED}, "documents": ANSWERS, "use_activation": False}
        ranked = client.post("/rerank", cast_to=dict, body=body)
        best = ranked["results"][0]
        print(f"rerank: best {best['index']}, reward {best['relevance_score']:.2f}, activation {ranked['activation']}")


def with_cohere() -> None:
    """Cohere's signature takes texts alone; its request options can say more, for example a picture."""
    client = cohere.ClientV2(api_key=KEY, base_url=URL)
    options = {"additional_body_parameters": {"query": {"content": ASKED}}}
    answer = client.rerank(model="visualprm", query=QUESTION, documents=ANSWERS, request_options=options)
    print(f"cohere: best {answer.results[0].index}, relevance {answer.results[0].relevance_score:.3f}")


def as_openrlhf() -> None:
    """Pictures are stored once; the label names them. `--reward.remote_url URL/get_reward?model=ixc_reward`."""
    prompt = (
        f"<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
    )
    with httpx2.Client(base_url=URL, headers={"Authorization": f"Bearer {KEY}"}, timeout=60) as client:
        picture = client.put("/images", content=PICTURE).raise_for_status().json()["id"]
        body = {
            "query": [f"{prompt}{answer}<|im_end|>\n" for answer in ANSWERS],
            "prompts": [prompt] * len(ANSWERS),
            "labels": [f"circle {picture}"] * len(ANSWERS),
        }
        answer = client.post("/get_reward", params={"model": "ixc_reward"}, json=body).raise_for_status().json()
        print("get_reward:", [round(reward, 2) for reward in answer["rewards"]], "scores", answer["scores"])


if __name__ == "__main__":
    with_openai()
    with_cohere()
    as_openrlhf()
