"""`python -m evaluation.attached`: a server that ends with whoever started it, even by kill -9: its stdin ends then."""

import subprocess
import sys
import threading

# A server drains accepted groups for up to two minutes: nobody waits for them any more.
_STOP_S = 10.0


def main(options: list[str]) -> int:
    """The server's exit code."""
    server = subprocess.Popen([sys.executable, "-m", "service", *options], stdin=subprocess.DEVNULL)
    threading.Thread(target=_stop_at_end_of_stdin, args=(server,), daemon=True).start()
    return server.wait()


def _stop_at_end_of_stdin(server: subprocess.Popen[bytes]) -> None:
    sys.stdin.read()
    server.terminate()
    try:
        server.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        server.kill()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
