"""NeMo-Gym's resources server and one rollout sent to it, with a Steelyard server at STEELYARD_URL.

In a run the server is `python -m steelyard.trainers.nemo_gym --port 9000`.
"""

import base64
from pathlib import Path
from threading import Thread

import httpx2

from steelyard.trainers import Scorer
from steelyard.trainers.nemo_gym import ResourcesServer

if __name__ == "__main__":
    url = "data:image/png;base64," + base64.b64encode((Path(__file__).parent / "circle.png").read_bytes()).decode()
    parts = [{"type": "input_image", "image_url": url}, {"type": "input_text", "text": "what is the green shape?"}]
    said = [{"type": "output_text", "text": "The color is green.\n\nAnswer: circle", "annotations": []}]
    rollout = {
        "responses_create_params": {"input": [{"role": "user", "content": parts}]},
        "response": {"output": [{"type": "message", "role": "assistant", "content": said}]},
    }
    with ResourcesServer(Scorer()) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        answer = httpx2.post(f"http://127.0.0.1:{server.server_address[1]}/verify", json=rollout, timeout=60)
        server.shutdown()
    print(answer.raise_for_status().json()["reward"])
