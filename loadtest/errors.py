"""What stops a run before it can say anything about the server."""


class LoadTestError(Exception):
    """The message is one line for whoever started the run."""
