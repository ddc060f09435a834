"""Which frames of a video IXC-2.5-Reward looks at: what to send as `video_frames`."""

# The most frames that one composite has.
MOST_FRAMES = 32


def sample_frames(frames: int, fps: float) -> list[int]:
    """Indices of the frames to send of a video of `frames` frames at `fps` a second, as the model's authors pick them.

    About one a second from the first on; of more than 32, so many spread over the video, the last never among them.
    Raises ValueError for a video without frames, and for so few a second that none would be skipped to.
    """
    # To even at a half, as the reference rounds it.
    step = round(fps) if frames > 0 else 0
    if step < 1:
        raise ValueError(f"{frames} frames at {fps} a second: needs frames, and more than half of one a second")
    taken = range(0, frames, step)
    if len(taken) <= MOST_FRAMES:
        return list(taken)
    stride = len(taken) / (MOST_FRAMES + 1)
    return [taken[int(index * stride)] for index in range(MOST_FRAMES)]
