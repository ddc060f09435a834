"""A worker process whose engine is `halving_engine`: what a test may kill."""

import asyncio
import os
import sys

from service.settings import read_settings
from service.worker import run_until_told
from service.worker_loop import Worker

if __name__ == "__main__":
    settings = read_settings(sys.argv[1:], os.environ)
    asyncio.run(run_until_told(lambda: Worker(settings, lambda: None, "tests.service.queue.halving_engine")))
