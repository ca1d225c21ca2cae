"""How long a click in the explorer takes: TransNeXt-T at 224 pixels, after the image's first pass.

    python benchmarks/explorer_clicks.py
    python benchmarks/explorer_clicks.py --model transnext_base --threads 2

The server runs in this process and is asked over HTTP as the page asks it: each click is another random point of the
photograph, in the last block of stage 3 and the mean of all heads. Prints the median and the slowest of ``--clicks``,
and the same after changing the stage with each click. No network is run for a click.
"""

import argparse
import http.client
import json
import random
import statistics
import threading
import time

import torch
import uvicorn

from foveal.app.networks import Network, Networks, random_subject
from foveal.app.samples import sample
from foveal.app.serve import listen
from foveal.app.server import create_app
from foveal.app.session import Sessions


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="transnext_tiny")
    parser.add_argument("--clicks", type=int, default=20)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    sessions, listening = Sessions(), listen("127.0.0.1", 0)
    networks = Networks([Network(options.model, random_subject(options.model))])
    server = uvicorn.Server(uvicorn.Config(create_app(networks, sessions), log_level="error", ws="none"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    try:
        session = sessions.create()
        session.open(1, *sample("flower"))
        connection = http.client.HTTPConnection("127.0.0.1", listening.getsockname()[1])
        first = _click(connection, session.token, options.model, 2, (256, 256))
        print(f"{options.model}, {options.threads} threads: first pass {1000 * first:.0f} ms")
        for what, stages in (("same stage", [2]), ("another stage each time", [0, 1, 2, 3])):
            seconds = _clicks(connection, session.token, options, stages)
            print(f"{what}: median {1000 * statistics.median(seconds):.1f} ms, slowest {1000 * max(seconds):.1f} ms")
    finally:
        server.should_exit = True
        thread.join()


def _clicks(
    connection: http.client.HTTPConnection, token: str, options: argparse.Namespace, stages: list[int]
) -> list[float]:
    draw = random.Random(0)
    points = [(draw.uniform(40, 470), draw.uniform(40, 470)) for _ in range(options.clicks)]
    return [
        _click(connection, token, options.model, stages[number % len(stages)], point)
        for number, point in enumerate(points)
    ]


def _click(
    connection: http.client.HTTPConnection, token: str, model: str, stage: int, point: tuple[float, float]
) -> float:
    question = {"network": model, "stage": stage, "block": -1, "point": point, "heads": []}
    start = time.perf_counter()
    connection.request("POST", "/api/attention", json.dumps(question), {"X-Foveal-Session": token})
    answer = connection.getresponse()
    answer.read()
    if answer.status != 200:
        raise SystemExit(f"The server answered {answer.status}.")
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
