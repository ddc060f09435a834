"""The server: a torch-free gateway and the engine processes that score."""
