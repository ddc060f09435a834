"""Run by LiteLLM's own environment: calls on standard input, what became of each on standard output."""

import json
import sys


def call(asked: dict[str, object]) -> list[list[float]] | str:
    """Index and score of each result, or what LiteLLM says of the refusal."""
    import litellm

    try:
        answer = litellm.rerank(api_key="none", **asked)
    except Exception as error:  # noqa: BLE001
        return str(error)
    return [[result["index"], result["relevance_score"]] for result in answer.results]


if __name__ == "__main__":
    print(json.dumps([call(asked) for asked in json.load(sys.stdin)]))
