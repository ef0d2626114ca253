"""Masks of causal convolutions (van den Oord et al. 2016a, section 3.4; their figure 2).

Pixels are ordered as they are read: row by row, left to right, and inside a pixel by channel
group (R, then G, then B). A convolution may see what came before:

    type A: strictly before            type B: before, and the pixel itself

        1 1 1 1 1                          1 1 1 1 1
        1 1 1 1 1                          1 1 1 1 1
        1 1 a 0 0                          1 1 b 0 0
        0 0 0 0 0                          0 0 0 0 0
        0 0 0 0 0                          0 0 0 0 0

With one channel group `a` is 0 and `b` is 1. With three groups they are matrices from the
input's group (rows) to the output's group (columns):

            R G B                              R G B
         R  0 1 1                           R  1 1 1
     a = G  0 0 1                       b = G  0 1 1
         B  0 0 0                           B  0 0 1

Unit k of a feature map belongs to group `k mod groups`.
"""

from typing import Literal

import numpy as np
import tensorflow as tf

MaskType = Literal["A", "B"]


def check_mask_type(mask_type: str) -> None:
    """Raises a ValueError unless `mask_type` is "A" or "B"."""
    if mask_type not in ("A", "B"):
        raise ValueError(f'mask_type must be "A" or "B". Received: mask_type={mask_type!r}')


def check_groups(name: str, units: int, groups: int) -> None:
    """Raises a ValueError unless `groups` divides `units`; `name` says what the units are."""
    if groups < 1 or units % groups:
        raise ValueError(
            f"{name} must be a multiple of the number of channel groups, so that every group gets "
            f"as many units. Received: {name}={units}, groups={groups}"
        )


def center_mask(mask_type: MaskType, in_units: int, out_units: int, groups: int = 1) -> np.ndarray:
    """What a pixel's own units may see of that pixel: `a` or `b` of the module's picture.

    Args:
      mask_type: "A" (strictly earlier groups) or "B" (earlier groups and the same).
      in_units: units of the input, a multiple of `groups`.
      out_units: units of the output, a multiple of `groups`.
      groups: number of channel groups.

    Returns:
      float32 [in_units, out_units] of zeros and ones.

    Raises:
      ValueError: for another type, or units that the groups do not divide.
    """
    check_mask_type(mask_type)
    check_groups("in_units", in_units, groups)
    check_groups("out_units", out_units, groups)
    source = np.arange(in_units)[:, None] % groups
    target = np.arange(out_units)[None, :] % groups
    visible = source < target if mask_type == "A" else source <= target
    return visible.astype(np.float32)


def raster_mask(mask_type: MaskType, kernel_size: int, in_units: int, out_units: int, groups: int = 1) -> np.ndarray:
    """The mask of a whole square kernel, as drawn above.

    The layers never multiply a whole kernel by it: they crop to the rows and columns that it
    lets through, and mask the one tap at the centre where channel groups force it.

    Args:
      mask_type: "A" or "B".
      kernel_size: odd height and width of the kernel.
      in_units: units of the input.
      out_units: units of the output.
      groups: number of channel groups.

    Returns:
      float32 [kernel_size, kernel_size, in_units, out_units] of zeros and ones.

    Raises:
      ValueError: for an even kernel, or as `center_mask`.
    """
    half = side_of_kernel(kernel_size) // 2
    mask = np.zeros((kernel_size, kernel_size, in_units, out_units), np.float32)
    mask[:half] = 1
    mask[half, :half] = 1
    mask[half, half] = center_mask(mask_type, in_units, out_units, groups)
    return mask


def side_of_kernel(kernel_size: int | tuple[int, int]) -> int:
    """k of a k x k kernel that is given as k or, as Keras has it, as (k, k); raises a ValueError unless k is odd."""
    sides = {kernel_size} if isinstance(kernel_size, int | np.integer) else set(kernel_size)
    if len(sides) != 1 or min(sides) < 1 or min(sides) % 2 == 0:
        raise ValueError(f"kernel_size must be k or (k, k), odd and positive. Received: kernel_size={kernel_size}")
    return int(*sides)


def units_of_group(x: tf.Tensor, group: int, groups: int) -> tf.Tensor:
    """The units [..., C / groups] of one channel group of x [..., C]."""
    return x if groups == 1 else x[..., group::groups]


def merge_groups(parts: list[tf.Tensor]) -> tf.Tensor:
    """Undoes `units_of_group`: the units [..., C] of all channel groups, each [..., C / groups]."""
    if len(parts) == 1:
        return parts[0]
    return tf.reshape(tf.stack(parts, axis=-1), (-1, *parts[0].shape[1:-1], len(parts) * parts[0].shape[-1]))
