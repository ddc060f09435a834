"""Golden cases of one family, in process or against a server: `python -m tests.conformance NAME --cases FILE`."""
