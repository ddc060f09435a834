"""When a kernel runs, and what becomes of one that does not work."""

import os
import subprocess
import sys

import pytest
import torch

from kernels.dispatch import interpreting, runs_kernel, switched_off
from kernels.rms_norm import rms_norm, rms_norm_reference
from kernels.self_test import failing_kernels
from kernels.triton import KERNELS

# A process in which Triton cannot be imported, as if it were not installed.
_BLOCKED = """
import sys
from importlib.abc import MetaPathFinder

class Blocked(MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "triton":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
"""


def test_a_processors_tensors_are_torchs() -> None:
    assert not any(runs_kernel(name, torch.empty(1)) for name in KERNELS)


@pytest.mark.usefixtures("through_kernels")
def test_a_kernel_that_is_off_leaves_its_work_to_torch() -> None:
    x = torch.randn(7, 96)
    with switched_off(["rms_norm"]):
        assert not runs_kernel("rms_norm", x)
        assert runs_kernel("swiglu", x)
        torch.testing.assert_close(rms_norm(x, torch.ones(96), 1e-5), rms_norm_reference(x, torch.ones(96), 1e-5))
    assert runs_kernel("rms_norm", x)


@pytest.mark.usefixtures("through_kernels")
def test_a_type_that_no_kernel_knows_is_torchs() -> None:
    assert not runs_kernel("rms_norm", torch.empty(1, dtype=torch.float64))


def test_kernels_for_a_gpu_are_not_interpreted() -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    code = "from kernels.dispatch import interpreting\nwith interpreting(): pass"
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False)
    assert "start the process with TRITON_INTERPRET=1" in done.stderr


def test_every_kernel_passes_the_trial_of_a_start() -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    assert failing_kernels("interpreter") == {}


def test_a_kernel_that_fails_is_named_with_its_reason_and_does_not_hide_the_next() -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    failed = failing_kernels("interpreter", ["no_such_kernel", "swiglu"])
    assert failed.keys() == {"no_such_kernel"}
    assert "No module named" in failed["no_such_kernel"]


def test_without_triton_a_processor_scores_as_ever_and_a_gpus_kernels_are_off() -> None:
    code = f"""{_BLOCKED}
import torch
import models.tree_scorer, models.ixc_reward.network, models.visual_prm.network, service.engine_process
from kernels.rms_norm import rms_norm, rms_norm_reference
x, weight = torch.randn(7, 96), torch.randn(96)
torch.testing.assert_close(rms_norm(x, weight, 1e-5), rms_norm_reference(x, weight, 1e-5))
from kernels.dispatch import has_triton
assert not has_triton()
from kernels.self_test import failing_kernels
assert set(failing_kernels().values()) == {{"Triton is not installed"}}
assert "triton" not in sys.modules
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_interpreting_ends_with_its_block() -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    with interpreting():
        assert runs_kernel("rms_norm", torch.empty(1))
    assert not runs_kernel("rms_norm", torch.empty(1))
