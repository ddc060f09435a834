"""The adapters below the real trainers: `make check-trainers` makes their environments and drives their reward code."""
