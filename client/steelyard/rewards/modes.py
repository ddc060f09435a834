"""The two ways in which a reward reads an answer."""

from typing import Literal

# `upstream` is the paper's code bit for bit, exploits included; `strict` closes them.
Mode = Literal["strict", "upstream"]
