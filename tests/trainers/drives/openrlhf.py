"""OpenRLHF's own executor and samples, over a reward file and, where the server has the route, over `/get_reward`."""

import asyncio
import json
import os
import sys
import tempfile
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import httpx2

from steelyard import Client
from tests.trainers.drives import expected
from tests.trainers.drives.policy_tokenizer import policy_tokenizer

# OpenRLHF imports vLLM beside its sampling; the drive's engine stands in for it.
sys.modules["vllm"] = ModuleType("vllm")
sys.modules["vllm"].SamplingParams = SimpleNamespace  # type: ignore[attr-defined]
sys.modules["openrlhf.trainer.ray.vllm_engine"] = ModuleType("vllm_engine")
sys.modules["openrlhf.trainer.ray.vllm_engine"].batch_vllm_engine_call = None  # type: ignore[attr-defined]

from openrlhf.trainer.ppo_utils.experience import Experience  # noqa: E402
from openrlhf.trainer.ppo_utils.samples_generator import SamplesGenerator  # noqa: E402
from openrlhf.utils.agent import SingleTurnAgentExecutor  # noqa: E402

REWARD_FILE = "from steelyard.trainers import Scorer\nfrom steelyard.trainers.openrlhf import RewardFunction\n\n"
PROMPT = (
    "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>"
    f"{expected.QUESTION}<|im_end|>\n<|im_start|>assistant\n"
)


class Engine:
    """The seam: what vLLM would have generated."""

    def __init__(self, tokenizer: Any, response: str) -> None:  # noqa: ANN401
        self._ids = tokenizer(response + "<|im_end|>", add_special_tokens=False)["input_ids"]

    async def generate(self, *_: object, **__: object) -> SimpleNamespace:
        output = SimpleNamespace(token_ids=self._ids, finish_reason="stop", logprobs=None)
        return SimpleNamespace(outputs=[output])


def main() -> None:
    with Client() as client:
        image = client.put_image(expected.PICTURE).id
    label = json.dumps({"images": [image], "answer": "circle"})
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "my_reward.py"
        path.write_text(REWARD_FILE + "reward_func = RewardFunction(Scorer())\n")
        _drive(str(path), label, "reward_func from a file")
    address = os.environ["STEELYARD_URL"] + "/get_reward?model=visualprm"
    if httpx2.post(address, json={"query": [], "prompts": [], "labels": []}).status_code == 200:
        _drive(address, label, "the remote form")
    else:
        print("  not driven: the remote form, since this server has no /get_reward")


def _drive(endpoint: str, label: str, what: str) -> None:
    executor, tokenizer = SingleTurnAgentExecutor([endpoint]), policy_tokenizer()
    outputs = asyncio.run(_roll_out(executor, tokenizer, expected.RESPONSES, label))
    expected.check_close([float(output["reward"][0]) for output in outputs], expected.scores(), what)
    experiences = [SamplesGenerator._process_response_into_experience(None, output) for output in outputs]
    merged = Experience.concat_experiences(experiences, 0)
    expected.check_close(merged.rewards.flatten().tolist(), expected.scores(), f"{what}: rewards of an experience")
    expected.check_close(merged.scores.flatten().tolist(), expected.scores(), f"{what}: scores of an experience")

    (lost,) = asyncio.run(_roll_out(executor, tokenizer, [expected.TOO_LONG], label))
    assert lost["reward"] is None, lost["reward"]
    missing = SamplesGenerator._process_response_into_experience(None, lost)
    try:
        Experience.concat_experiences([experiences[0], missing], 0)
    except AttributeError:
        print(f"  ok: {what}: without a score there is no number, and the step ends with an error")
    else:
        raise AssertionError("a missing reward went unnoticed")


async def _roll_out(executor: Any, tokenizer: Any, responses: list[str], label: str) -> list[Any]:  # noqa: ANN401
    sampling = SimpleNamespace(max_tokens=64_000, logprobs=None)
    calls = [
        executor.execute(PROMPT, label, sampling, 128_000, tokenizer, Engine(tokenizer, response))
        for response in responses
    ]
    return list(await asyncio.gather(*calls))


if __name__ == "__main__":
    main()
