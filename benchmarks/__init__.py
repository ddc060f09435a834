"""Speed and memory, each file a command: `python -m benchmarks.NAME`."""
