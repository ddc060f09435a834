"""A video's frames as one picture, composed as the reference does. Torch-free."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

from models.ixc_reward.layout import Size, UnusablePicture

CAPTION_SIZE = 40
# Pixels: of the caption beside a frame, of the gap behind it, and where in the gap the line is.
_CAPTION, _GAP, _LINE = 40, 10, 5

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont


def canvas_size(frames: Sequence[Size], tile_size: int) -> Size:
    """(width, height) of the picture that frames of these (width, height) make.

    Raises UnusablePicture for a frame so thin that, scaled, its short side has no pixel left.
    """
    scaled = [_scaled(frame, 2 * tile_size) for frame in frames]
    for frame, (width, height) in zip(frames, scaled, strict=True):
        if not width or not height:
            raise UnusablePicture(f"a frame of {frame[0]} × {frame[1]} pixels: scaled, its short side vanishes")
    if _is_wide(frames[-1]):
        return max(width for width, _ in scaled), sum(height + _CAPTION + _GAP for _, height in scaled)
    return sum(width + _GAP for width, _ in scaled), max(height for _, height in scaled) + _CAPTION


def compose(frames: Sequence[Image.Image], tile_size: int, font: Font | None = None) -> Image.Image:
    """RGB frames, at least one, each under its caption: below each other if the last is wide, else side by side.

    `font` is Pillow's built-in one if not given; the reference's SimHei cannot be shipped, and another font moves
    the score slightly. Raises UnusablePicture.
    """
    font = font or ImageFont.load_default(size=CAPTION_SIZE)
    wide = _is_wide(frames[-1].size)
    canvas = Image.new("RGB", canvas_size([frame.size for frame in frames], tile_size), "white")
    draw = ImageDraw.Draw(canvas)
    x = y = 0
    for index, frame in enumerate(frames):
        scaled = frame.resize(_scaled(frame.size, 2 * tile_size), Image.Resampling.BILINEAR)
        canvas.paste(scaled, (x, y + _CAPTION))
        draw.text((x, y), f"<IMAGE {index}>", font=font, fill="black")
        end_x, end_y = x + scaled.width, y + _CAPTION + scaled.height
        if index + 1 < len(frames):
            line = (0, end_y + _LINE, canvas.width, end_y + _LINE)
            draw.line(line if wide else (end_x + _LINE, 0, end_x + _LINE, canvas.height), fill="black", width=2)
        x, y = (x, end_y + _GAP) if wide else (end_x + _GAP, y)
    return canvas


def _is_wide(size: Size) -> bool:
    return size[0] > size[1]


def _scaled(size: Size, long_side: int) -> Size:
    """To `long_side` pixels along the longer side."""
    ratio = size[0] / size[1]
    return (long_side, int(long_side / ratio)) if _is_wide(size) else (int(long_side * ratio), long_side)
