"""What `steelyard filter` does."""

from steelyard.arguments import Arguments
from steelyard.data.filtering import run
from steelyard.data.selection import Selection
from steelyard.data.task import Filtering
from steelyard.errors import InvalidCall

_DONE, _SOME_UNSCORED, _RETRYABLE = 0, 3, 4


def run_filter(given: Arguments, timeout_s: float | None) -> int:
    """The exit code. Raises SteelyardError."""
    if given.resume and given.overwrite:
        raise InvalidCall("--resume or --overwrite: only one of them")
    summary = run(_filtering(given, timeout_s))
    print(summary.json() if given.json else "\n".join(summary.lines()))
    if summary.retryable:
        return _RETRYABLE
    return _DONE if summary.complete else _SOME_UNSCORED


def _filtering(given: Arguments, timeout_s: float | None) -> Filtering:
    return Filtering(
        input=given.input,
        output=given.output,
        url=given.url,
        model=given.model,
        question=given.question_column,
        messages=given.messages,
        response=given.response,
        candidates=given.candidates,
        images=given.images,
        images_root=given.images_root,
        no_images=given.no_images,
        form=given.form,
        format=given.format,
        prefix=given.prefix,
        selection=Selection(given.min_score, given.top, given.deduplicate),
        margin=given.margin,
        label_threshold=given.label_threshold,
        max_tiles=given.max_tiles,
        max_steps=given.max_steps,
        aggregate=given.aggregate,
        control_tokens=given.control_tokens,
        skip_bad=given.skip_bad,
        resume=given.resume,
        overwrite=given.overwrite,
        engine=given.engine,
        workers=given.workers,
        concurrency=given.concurrency,
        timeout_s=timeout_s,
    )
