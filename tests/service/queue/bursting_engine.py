"""An engine process that answers each job candidate by candidate, with all its deliveries in one write."""

import argparse
import socket

from service.job import Delivery, EngineModel, Outcome
from service.queue.frames import Delivered, Ready, pack_frame
from service.queue.pipe import PipeSource


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--log-level")
    connection = socket.socket(fileno=parser.parse_args().fd)
    source = PipeSource(connection)
    configure = source.configuration()
    assert configure is not None
    source.send(Ready(tuple(EngineModel(model.name, "sha256:none", "float32") for model in configure.models)))
    while (intake := source.take(wait=True)) is not None:
        for job in intake.jobs:
            frames = [Delivered(Delivery(job.id, (Outcome(index, "ok"),))) for index in job.left]
            connection.sendall(b"".join(map(pack_frame, frames)))


if __name__ == "__main__":
    main()
