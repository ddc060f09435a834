"""slime's custom reward, called as slime would: `python examples/slime_reward.py`, with a server at STEELYARD_URL.

In a run there is no file to write: `--custom-rm-path steelyard.trainers.slime.reward`.
"""

import asyncio
from pathlib import Path
from types import SimpleNamespace

from steelyard.trainers.slime import reward

if __name__ == "__main__":
    args = SimpleNamespace(steelyard={"kind": "steps"})
    label = {"question": "what is the green shape?", "images": [str(Path(__file__).parent / "circle.png")]}
    responses = ["The color is green.\n\nAnswer: circle", "The color is red.\n\nAnswer: circle"]
    samples = [
        SimpleNamespace(prompt="", response=text, label=label, reward=None, metadata={}, multimodal_inputs=None)
        for text in responses
    ]
    print(asyncio.run(reward(args, samples)))
