"""A seeded training loop that an interruption does not change: gradient steps, a bar on stderr, resumable state."""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import cos, pi
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

Weights = Mapping[str, torch.Tensor]

_MEAN, _SQUARE = "mean:", "square:"
_BETAS, _EPS, _CLIP = (0.9, 0.98), 1e-8, 1.0
_BAR, _SMOOTH = 24, 0.98


@dataclass(frozen=True, slots=True)
class Plan:
    """How long and how fast; the rate rises over `warmup` steps, then falls along a cosine to a twentieth."""

    steps: int
    rate: float
    warmup: int = 100
    decay: float = 0.01
    save_every: int = 200

    def rate_at(self, step: int) -> float:
        if step < self.warmup:
            return self.rate * (step + 1) / self.warmup
        done = (step - self.warmup) / max(1, self.steps - self.warmup)
        return self.rate * (0.05 + 0.95 * (1 + cos(pi * done)) / 2)


def fit(
    weights: Weights,
    backward: Callable[[int], float],
    plan: Plan,
    state: Path,
    title: str,
    stop: int | None = None,
) -> None:
    """Train `weights` in place by AdamW; `backward(step)` leaves a batch's gradients and returns its loss.

    `state` is a safetensors file, written now and then and read if it is there: what a step does depends on its
    number and the weights alone, so a run that goes on from it ends where an uninterrupted one does. `stop` ends
    the run early, state saved.
    """
    moments = {kind + name: torch.zeros_like(w) for kind in (_MEAN, _SQUARE) for name, w in weights.items()}
    step = _load(state, weights, moments) if state.is_file() else 0
    end = min(plan.steps, stop or plan.steps)
    bar = _Bar(title, step, plan.steps)
    while step < end:
        loss = backward(step)
        _update(weights, moments, plan, step)
        step += 1
        bar.show(step, loss)
        if step == end or step % plan.save_every == 0:
            _save(state, weights, moments, step)
    bar.close()


@torch.no_grad()
def _update(weights: Weights, moments: Weights, plan: Plan, step: int) -> None:
    """One step of AdamW on clipped gradients; vectors (norms, biases) do not decay."""
    norm = torch.stack([w.grad.norm() for w in weights.values() if w.grad is not None]).norm()
    scale = min(1.0, _CLIP / (float(norm) + 1e-6))
    rate, (first, second) = plan.rate_at(step), _BETAS
    for name, weight in weights.items():
        if weight.grad is None:
            continue
        gradient = weight.grad * scale
        mean, square = moments[_MEAN + name], moments[_SQUARE + name]
        mean.lerp_(gradient, 1 - first)
        square.lerp_(gradient.square(), 1 - second)
        wide = (square / (1 - second ** (step + 1))).sqrt_().add_(_EPS)
        if weight.dim() > 1:
            weight.mul_(1 - rate * plan.decay)
        weight.addcdiv_(mean, wide, value=-rate / (1 - first ** (step + 1)))
        weight.grad = None


def _save(state: Path, weights: Weights, moments: Weights, step: int) -> None:
    """Whole or not at all: a run may be killed while it writes."""
    state.parent.mkdir(parents=True, exist_ok=True)
    tensors = {name: weight.detach().contiguous() for name, weight in weights.items()} | dict(moments)
    partial = state.with_suffix(".partial")
    save_file(tensors, partial, metadata={"step": str(step)})
    partial.replace(state)


@torch.no_grad()
def _load(state: Path, weights: Weights, moments: Weights) -> int:
    with safe_open(state, framework="pt") as file:
        for name, tensor in {**weights, **moments}.items():
            tensor.copy_(file.get_tensor(name))
        return int(file.metadata()["step"])


class _Bar:
    """Progress on stderr: a smoothed loss, the speed and the time that is left."""

    def __init__(self, title: str, step: int, steps: int) -> None:
        self._title, self._from, self._steps = title, step, steps
        self._loss: float | None = None
        self._started = self._shown = time.monotonic()

    def show(self, step: int, loss: float) -> None:
        self._loss = loss if self._loss is None else _SMOOTH * self._loss + (1 - _SMOOTH) * loss
        now = time.monotonic()
        if now - self._shown < 1 and step < self._steps:
            return
        self._shown = now
        each = (now - self._started) / (step - self._from)
        bar = "█" * (_BAR * step // self._steps)
        left = time.strftime("%M:%S", time.gmtime(each * (self._steps - step)))
        line = (
            f"{self._title} {bar:<{_BAR}} {step}/{self._steps}  loss {self._loss:.4f}  {each:.3f} s each, {left} left"
        )
        print(f"\r{line} ", end="", file=sys.stderr, flush=True)

    def close(self) -> None:
        if self._loss is not None:
            print(file=sys.stderr)
