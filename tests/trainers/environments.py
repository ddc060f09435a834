"""The environments of the trainers: one folder each, outside the project's own."""

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
# What the client needs.
CLIENT = ("httpx2>=2.16", "pydantic>=2.12")


@dataclass(frozen=True, slots=True)
class Trainer:
    """What is installed for one trainer, by which Python; `alone` is what comes without its own requirements."""

    name: str
    packages: tuple[str, ...]
    alone: tuple[str, ...] = ()
    python: str = "3.11"


TRAINERS = (
    Trainer(
        "openrlhf",
        (
            "torch==2.13.0",
            "transformers==5.15.0",
            "ray==2.55.0",
            *("accelerate", "aiohttp", "datasets", "einops", "jsonlines", "loralib", "optree", "peft", "pillow"),
            *("pylatexenc", "sympy", "torchdata", "tqdm"),
        ),
        # Its requirements flash-attn, deepspeed and bitsandbytes are for a GPU.
        alone=("openrlhf==0.11.2",),
    ),
    Trainer(
        "verl",
        (
            "torch==2.13.0",
            "verl==0.9.1",
            *("TransferQueue", "cachetools", "fastapi", "msgspec", "pyzmq", "qwen_vl_utils", "uvicorn"),
        ),
    ),
    Trainer("swift", ("torch==2.13.0", "ms-swift==4.6.0")),
    Trainer("nemo_gym", ("nemo-gym==0.4.0",), python="3.12"),
)


def install(trainer: Trainer, folder: Path) -> str | None:
    """The last line of what went wrong, or None. What is there already is left as it is."""
    place = folder / trainer.name
    commands = [["pip", "install", "--python", str(place), *trainer.packages, *CLIENT]]
    if trainer.alone:
        commands.append(["pip", "install", "--python", str(place), "--no-deps", *trainer.alone])
    if not python_of(trainer, folder).exists():
        commands.insert(0, ["venv", "--python", trainer.python, str(place)])
    for command in commands:
        uv = [sys.executable, str(ROOT / "requirements" / "uv.py"), *command]
        ended = subprocess.run(uv, capture_output=True, text=True, check=False)
        if ended.returncode:
            return (ended.stderr.strip().splitlines() or ["nothing was said"])[-1]
    return None


def python_of(trainer: Trainer, folder: Path) -> Path:
    return folder / trainer.name / "bin" / "python"
