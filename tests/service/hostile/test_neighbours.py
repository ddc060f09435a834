"""Good calls among hostile ones, all at once."""

from concurrent.futures import ThreadPoolExecutor
from random import Random

import httpx2

from tests.service.hostile import test_outcomes, test_steps
from tests.service.hostile.conftest import NEIGHBOURS
from tests.service.hostile.sending import answer_of, checked
from tests.service.running import Running, same_scores

AT_ONCE = 50
PATIENCE_S = 60.0


def test_fifty_good_calls_keep_their_scores_among_fifty_hostile_ones(server: Running) -> None:
    rows = [("/score_outcomes", make) for make, _ in test_outcomes.HOSTILE.values()]
    rows += [("/score_steps", make) for make, _ in test_steps.HOSTILE.values()]
    hostile = [(path, make()) for path, make in Random(7).sample(rows, AT_ONCE)]
    limits = httpx2.Limits(max_connections=2 * AT_ONCE)
    with (
        httpx2.Client(base_url=server.url, timeout=PATIENCE_S, limits=limits) as client,
        ThreadPoolExecutor(2 * AT_ONCE) as pool,
    ):
        expected = {path: answer_of(client.post(path, json=group)) for path, group in NEIGHBOURS.items()}
        bad = [pool.submit(client.post, path, content=content) for path, content in hostile]
        paths = [path for path in NEIGHBOURS for _ in range(AT_ONCE // len(NEIGHBOURS))]
        good = [(path, pool.submit(client.post, path, json=NEIGHBOURS[path])) for path in paths]
        for path, answer in good:
            assert same_scores(answer_of(checked(answer.result())), expected[path])
        for refusal in bad:
            checked(refusal.result())
