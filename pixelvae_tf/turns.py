"""The orders in which an image may be gone through, by name: in raster order after it was turned so.

`distributions.orders` computes with them; this is what configs know, without TensorFlow.
"""

from collections.abc import Sequence

RASTER = "raster"
# Of an array [H, W], the symmetries of a square by Pillow's names.
TURNS = {
    RASTER: lambda image: image,
    "rotate_180": lambda image: image[::-1, ::-1],
    "flip_left_right": lambda image: image[:, ::-1],
    "flip_top_bottom": lambda image: image[::-1],
    "transpose": lambda image: image.T,
    "transverse": lambda image: image[::-1, ::-1].T,
    "rotate_90": lambda image: image.T[::-1],
    "rotate_270": lambda image: image.T[:, ::-1],
}
# Those that exchange height and width.
OF_SQUARES = ("transpose", "transverse", "rotate_90", "rotate_270")


def check_orders(names: Sequence[str], size: Sequence[int], where: str = "orders") -> None:
    """Raises a ValueError unless names are orders of a grid (H, W), each once."""
    if not names or set(names) - set(TURNS) or len(set(names)) < len(names):
        raise ValueError(f"{where} must be of {', '.join(TURNS)}, each once at most. Received: {tuple(names)}")
    if size[0] != size[1] and (turned := [name for name in names if name in OF_SQUARES]):
        raise ValueError(
            f"{where} may have {', '.join(OF_SQUARES)} for square images alone. "
            f"Received: {', '.join(turned)} for {size[0]}x{size[1]}"
        )
