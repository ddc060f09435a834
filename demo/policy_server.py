"""`python -m demo.policy_server`: the seeded policy behind an OpenAI-compatible address, whole chains or step by step.

A request's seed is the number of the candidate, so that `seed: 3` is the fourth chain of `demo.policy`'s file; with
`stop: ["\\n\\n"]` a single step is drawn, after those of an assistant's last message when there is one.
"""

import argparse
import base64
import hashlib
import json
import re
import threading
from collections.abc import Mapping, Sequence
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from random import Random
from typing import ClassVar

from demo.continuing import Unheard, is_whole, next_step, whole_chain
from demo.facts import Picture, pictures
from demo.policy import Asked, candidates
from demo.questions import every_question

_BLANK = "\n\n"
_TOKEN = re.compile(r"\w+|[^\w\s]")
_MOST_BYTES = 32 * 2**20
# Beyond these a chain is drawn by its own number, not as the next of all before it.
_LISTED = 1024


class Refused(Exception):
    """A request that this policy cannot answer; the message says why."""


def complete(body: Mapping[str, object], policy_seed: int) -> dict[str, object]:
    """The answer to a request. Raises Refused."""
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise Refused("messages: a list that is not empty")
    asked, said = _asked(messages), _said(messages)
    seed = body.get("seed")
    number = seed if isinstance(seed, int) else _next_number()
    stop = body.get("stop")
    stepwise = isinstance(stop, list) and _BLANK in stop
    try:
        added = _draw(asked, policy_seed, said, number, stepwise=stepwise)
    except Unheard as error:
        raise Refused(str(error)) from None
    ended = not added or is_whole(added)
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": _BLANK.join(added)},
        "finish_reason": "stop",
        "stop_reason": None if ended else _BLANK,
    }
    # A step's own words, and the blank line or the end after it.
    tokens = sum(len(_TOKEN.findall(step)) + 1 for step in added) or 1
    usage = {"prompt_tokens": 0, "completion_tokens": tokens, "total_tokens": tokens}
    return {"id": f"{number}", "object": "chat.completion", "model": "policy", "choices": [choice], "usage": usage}


def _draw(asked: Asked, policy_seed: int, said: Sequence[str], number: int, *, stepwise: bool) -> list[str]:
    """What is added to what was said."""
    if is_whole(said):
        return []
    if not said and not stepwise and 0 <= number < _LISTED:
        return list(candidates(asked, policy_seed, number + 1)[number].texts)
    place = f"{policy_seed}/{asked.picture.path.name}/{asked.question.text}"
    random = Random(f"{place}/{number}/{_BLANK.join(said)}")
    if stepwise:
        return [next_step(asked, policy_seed, said, random)]
    return whole_chain(asked, policy_seed, said, random)[len(said) :]


def _asked(messages: Sequence[object]) -> Asked:
    """The question, up to its first blank line, and the picture of the user's turn."""
    content = next((m.get("content") for m in messages if isinstance(m, dict) and m.get("role") == "user"), None)
    parts = [part for part in content if isinstance(part, dict)] if isinstance(content, list) else []
    text = "".join(str(part.get("text", "")) for part in parts if part.get("type") == "text")
    asked = next((one for one in every_question() if one.text == text.strip().partition("\n")[0].strip()), None)
    urls = [part["image_url"] for part in parts if part.get("type") == "image_url"]
    if asked is None or len(urls) != 1 or not isinstance(urls[0], dict):
        raise Refused("this policy answers easy-vqa's questions about one of its pictures")
    try:
        digest = hashlib.sha256(base64.b64decode(str(urls[0].get("url")).partition(",")[2], validate=True)).hexdigest()
    except ValueError:
        raise Refused("image_url: a data URL with base64") from None
    picture = _by_digest().get(digest)
    if picture is None or not asked.suits(picture.facts):
        raise Refused("not a picture of easy-vqa, or one that the question does not suit")
    return Asked(asked, picture)


def _said(messages: Sequence[object]) -> tuple[str, ...]:
    """The steps of a last message of the assistant's own."""
    last = messages[-1]
    if not isinstance(last, dict) or last.get("role") != "assistant":
        return ()
    return tuple(step for step in str(last.get("content", "")).split(_BLANK) if step)


@cache
def _by_digest() -> dict[str, Picture]:
    every = (*pictures("train"), *pictures("test"))
    return {hashlib.sha256(picture.path.read_bytes()).hexdigest(): picture for picture in every}


_numbers = iter(range(2**62))
_numbers_lock = threading.Lock()


def _next_number() -> int:
    with _numbers_lock:
        return next(_numbers)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    policy_seed: ClassVar[int]
    # Small answers must not wait for one another's acknowledgement.
    wbufsize = -1
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        if length > _MOST_BYTES:
            self.close_connection = True
            self._say(413, {"error": {"message": "the body is too large"}})
            return
        content = self.rfile.read(length)
        if self.path != "/v1/chat/completions":
            self._say(404, {"error": {"message": f"there is no {self.path} here"}})
            return
        try:
            body = json.loads(content)
            if not isinstance(body, dict):
                raise Refused("the body is no object")
            self._say(200, complete(body, self.policy_seed))
        except (Refused, ValueError) as error:
            self._say(400, {"error": {"message": str(error), "type": "invalid_request_error"}})

    def _say(self, status: int, answer: Mapping[str, object]) -> None:
        content = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass


class PolicyServer(ThreadingHTTPServer):
    """Listens on a port of this machine, a free one for 0; `url` is its address up to and with `/v1`."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, port: int = 0, policy_seed: int = 0) -> None:
        _by_digest()
        super().__init__(("127.0.0.1", port), type("Handler", (_Handler,), {"policy_seed": policy_seed}))
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"

    def __enter__(self) -> "PolicyServer":
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--port", type=int, default=9000)
    parser.add_argument("--seed", type=int, default=0, help="of the policy: which questions it errs on, and how")
    options = parser.parse_args()
    server = PolicyServer(options.port, options.seed)
    print(f"the policy answers on {server.url}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
