"""Faults of the device as the engine knows them, whatever torch raised."""

from collections.abc import Callable, Generator
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

from service.engine import DeviceFault, OutOfMemory

Params = ParamSpec("Params")
Result = TypeVar("Result")


def raising_device_faults(method: Callable[Params, Result]) -> Callable[Params, Result]:
    """A fault of the accelerator is no candidate's fault, and every later call would raise it again."""

    @wraps(method)
    def guarded(*args: Params.args, **kwargs: Params.kwargs) -> Result:
        try:
            return method(*args, **kwargs)
        except (torch.OutOfMemoryError, MemoryError) as error:
            raise OutOfMemory(str(error)) from error
        except torch.AcceleratorError as error:
            raise DeviceFault(str(error)) from error
        except RuntimeError as error:
            # What the processor's allocator raises has no class of its own.
            if "not enough memory" in str(error) or "can't allocate memory" in str(error):
                raise OutOfMemory(str(error)) from error
            raise

    return guarded


def guarded(work: Generator[None, None, Result]) -> Generator[None, None, Result]:
    """Work that raises them; torch's mode is set for each piece, as others run between."""
    step = raising_device_faults(torch.inference_mode()(lambda: next(work)))
    while True:
        try:
            step()
        except StopIteration as ended:
            result: Result = ended.value
            return result
        yield
