"""A reward file for OpenRLHF: `--reward.remote_url examples/openrlhf_reward.py`, with a server at STEELYARD_URL.

By itself it scores one response as OpenRLHF would ask (it needs torch): `python examples/openrlhf_reward.py`.
"""

from pathlib import Path

from steelyard.trainers import Scorer
from steelyard.trainers.openrlhf import RewardFunction

reward_func = RewardFunction(Scorer())

if __name__ == "__main__":
    prompt = "<|im_start|>user\n<|image_pad|>what is the green shape?<|im_end|>\n<|im_start|>assistant\n"
    query = prompt.replace("<|image_pad|>", "<|image_pad|>" * 64) + "The color is green.\n\nAnswer: circle<|im_end|>"
    label = {"images": [str(Path(__file__).parent / "circle.png")], "answer": "circle"}
    print(reward_func([query], [prompt], [label]))
