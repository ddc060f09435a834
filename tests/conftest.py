"""Kernels are interpreted in the tests' process, from before anything can import Triton.

Where there is a GPU, TRITON_INTERPRET=0 tests them on it.
"""

import os

os.environ.setdefault("TRITON_INTERPRET", "1")
