"""vLLM with random weights, timed on request: run by the interpreter of an environment that has vLLM.

`benchmarks.vllm_baseline` starts it. The first line of its input is the task as JSON; every further line asks for
one cold scoring of all prompts, which is answered by one line of JSON.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

_ARCHITECTURES = {"STEP": "Qwen2ForProcessRewardModel", "ALL": "Qwen2ForRewardModel"}


def main() -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # vLLM writes its log to standard output
    task: dict[str, Any] = json.loads(sys.stdin.readline())
    os.environ |= {
        "OMP_NUM_THREADS": str(task["threads"]),
        "VLLM_CPU_OMP_THREADS_BIND": f"0-{task['threads'] - 1}",
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
        "VLLM_LOGGING_LEVEL": os.environ.get("VLLM_LOGGING_LEVEL", "ERROR"),
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "config.json").write_text(json.dumps(_config(task)), encoding="utf-8")
        llm = _load(directory, task)
    for line in sys.stdin:
        if line.strip():
            answers.write(json.dumps(_score(llm, task)) + "\n")
            answers.flush()


def _config(task: dict[str, Any]) -> dict[str, Any]:
    spec = task["spec"]
    return {
        "architectures": [_ARCHITECTURES[task["pooling"]]],
        "model_type": "qwen2",
        "vocab_size": spec["vocab_size"],
        "hidden_size": spec["hidden_size"],
        "intermediate_size": spec["intermediate_size"],
        "num_hidden_layers": spec["layers"],
        "num_attention_heads": spec["heads"],
        "num_key_value_heads": spec["kv_heads"],
        "rms_norm_eps": spec["rms_norm_eps"],
        "rope_theta": spec["rope_theta"],
        "max_position_embeddings": spec["max_positions"],
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "torch_dtype": task["dtype"],
        # A user of STEP gets vLLM's float32 head; the strong baseline is spared it.
        **({"head_dtype": "model"} if task["pooling"] == "ALL" else {}),
    }


def _load(directory: str, task: dict[str, Any]) -> Any:  # noqa: ANN401 - vLLM's class, which is not installed here
    import vllm  # type: ignore[import-not-found]

    longest = max(map(len, task["prompts"]))
    tags = {"step_tag_id": task["step_end"]} if task["pooling"] == "STEP" else {}
    return vllm.LLM(
        directory,
        runner="pooling",
        load_format="dummy",
        skip_tokenizer_init=True,
        enforce_eager=True,
        dtype=task["dtype"],
        max_model_len=longest + 1,
        pooler_config=vllm.config.PoolerConfig(tok_pooling_type=task["pooling"], **tags),
        disable_log_stats=True,
        **task["options"],
    )


def _score(llm: Any, task: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401
    """All prompts at once, the cache empty; `tokens` were computed, `complete` says whether every read-out is there."""
    import vllm

    llm.reset_prefix_cache()
    every = task["pooling"] == "ALL"
    params = vllm.PoolingParams(skip_reading_prefix_cache=False) if every else vllm.PoolingParams()
    prompts = [{"prompt_token_ids": ids} for ids in task["prompts"]]
    started = time.perf_counter()
    outputs = llm.encode(prompts, params, pooling_task="token_classify", use_tqdm=False)
    seconds = time.perf_counter() - started
    rows = [len(output.outputs.data) for output in outputs]
    wanted = [
        len(ids) - ends[0] if every else len(ends) for ids, ends in zip(task["prompts"], task["readouts"], strict=True)
    ]
    complete = all(found >= least if every else found == least for found, least in zip(rows, wanted, strict=True))
    cached = [getattr(output, "num_cached_tokens", 0) or 0 for output in outputs]
    return {"seconds": seconds, "complete": complete, "tokens": sum(map(len, task["prompts"])) - sum(cached)}


if __name__ == "__main__":
    main()
