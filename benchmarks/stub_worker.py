"""The real worker over a stub engine: STUB_ENGINE, or one that answers at once."""

import asyncio
import os
import sys

from service.settings import read_settings
from service.worker import run_until_told
from service.worker_loop import Worker


def main() -> None:
    settings = read_settings(sys.argv[1:], os.environ)
    engine = os.environ.get("STUB_ENGINE", "benchmarks.stub_engine")
    asyncio.run(run_until_told(lambda: Worker(settings, lambda: None, engine)))


if __name__ == "__main__":
    main()
