"""A reward file for verl: `reward.custom_reward_function.path=examples/verl_reward.py`, with a server at STEELYARD_URL.

Without a file of your own the path is `pkg://steelyard.trainers.verl`. By itself it scores one response.
"""

import asyncio
from pathlib import Path

from steelyard.trainers.verl import compute_score

if __name__ == "__main__":
    asked = {"question": "what is the green shape?", "images": [str(Path(__file__).parent / "circle.png")]}
    response = "The color is green.\n\nAnswer: circle"
    print(asyncio.run(compute_score("easy-vqa", response, "circle", asked, kind="steps")))
