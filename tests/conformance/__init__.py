"""Golden cases of one model family, run in process or against a server: `python -m tests.conformance NAME --cases FILE`."""
