"""A reward file for EasyR1: `worker.reward.reward_function=examples/easyr1_reward.py:compute_score`.

By itself it scores two responses as EasyR1 would ask, with a server at STEELYARD_URL.
"""

import json
from pathlib import Path

from steelyard.trainers.easyr1 import REWARD_NAME, REWARD_TYPE, RewardInput, compute_score

__all__ = ["REWARD_NAME", "REWARD_TYPE", "compute_score"]

if __name__ == "__main__":
    picture = str(Path(__file__).parent / "circle.png")
    truth = json.dumps({"question": "what is the green shape?", "images": [picture], "answer": "circle"})
    responses = ["The color is green.\n\nAnswer: circle", "The color is red.\n\nAnswer: circle"]
    print(compute_score([RewardInput(response=text, response_length=9, ground_truth=truth) for text in responses]))
