"""A video's frames as one picture, composed as the reference does. Torch-free."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

CAPTION_SIZE = 40
# Pixels: of the caption beside a frame, of the gap behind it, and where in the gap the line is.
_CAPTION, _GAP, _LINE = 40, 10, 5

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def compose(frames: Sequence[Image.Image], tile_size: int, font: Font | None = None) -> Image.Image:
    """RGB frames, at least one, each under its caption: below each other if the last is wide, else side by side.

    `font` is Pillow's built-in one if not given; the reference's SimHei cannot be shipped, and another font moves
    the score slightly.
    """
    font = font or ImageFont.load_default(size=CAPTION_SIZE)
    wide = frames[-1].width > frames[-1].height
    scaled = [_scale(frame, 2 * tile_size) for frame in frames]
    canvas = Image.new("RGB", _canvas_size(scaled, wide), "white")
    draw = ImageDraw.Draw(canvas)
    x = y = 0
    for index, frame in enumerate(scaled):
        canvas.paste(frame, (x, y + _CAPTION))
        draw.text((x, y), f"<IMAGE {index}>", font=font, fill="black")
        end_x, end_y = x + frame.width, y + _CAPTION + frame.height
        if index + 1 < len(scaled):
            line = (0, end_y + _LINE, canvas.width, end_y + _LINE)
            draw.line(line if wide else (end_x + _LINE, 0, end_x + _LINE, canvas.height), fill="black", width=2)
        x, y = (x, end_y + _GAP) if wide else (end_x + _GAP, y)
    return canvas


def _scale(frame: Image.Image, long_side: int) -> Image.Image:
    """To `long_side` pixels along the longer side."""
    ratio = frame.width / frame.height
    wide = frame.width > frame.height
    size = (long_side, int(long_side / ratio)) if wide else (int(long_side * ratio), long_side)
    return frame.resize(size, Image.Resampling.BILINEAR)


def _canvas_size(frames: Sequence[Image.Image], wide: bool) -> tuple[int, int]:
    if wide:
        return max(frame.width for frame in frames), sum(frame.height + _CAPTION + _GAP for frame in frames)
    return sum(frame.width + _GAP for frame in frames), max(frame.height for frame in frames) + _CAPTION
