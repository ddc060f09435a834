"""A module for the jumping clock to run: what it sees, as JSON."""

import json
import sys
import time
from time import time as imported

if __name__ == "__main__":
    seen = {"time": time.time(), "ns": time.time_ns(), "imported": imported(), "monotonic": time.monotonic()}
    print(json.dumps(seen | {"arguments": sys.argv[1:]}))
