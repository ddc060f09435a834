"""The cycle collector held back, each time in a process of its own: what it does is done to the whole process."""

import subprocess
import sys

PROGRAM = """
import gc, weakref
from service.collector import catch_up, hold_back

class Node: pass

def cycle():
    node = Node()
    node.itself = node
    return weakref.ref(node)

hold_back()
"""


def said(program: str) -> list[str]:
    command = [sys.executable, "-c", PROGRAM + program]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def test_a_flood_of_what_lives_on_is_never_walked_whole() -> None:
    program = """
full = []
gc.callbacks.append(lambda phase, info: full.append(info["generation"]) if phase == "start" else None)
kept = [[] for _ in range(1_000_000)]
print(full.count(2), full.count(0) > 100)
"""
    assert said(program) == ["0", "True"]


def test_a_cycle_that_grew_old_is_caught_up_with() -> None:
    program = """
old = cycle()
node = old()
gc.collect(1)
del node
gc.collect(1)
print(old() is None)
catch_up()
print(old() is None)
"""
    assert said(program) == ["False", "True"]


def test_where_nothing_grew_old_there_is_nothing_to_catch_up_with() -> None:
    program = """
young = cycle()
catch_up()
print(young() is None)
"""
    assert said(program) == ["False"]
