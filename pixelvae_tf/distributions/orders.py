"""The orders in which a grid may be gone through: raster order over the image as it is, or turned.

A network that is told the order makes one distribution of each, p_o(x), and all of them see the same images. Their
mixture with equal weights is a distribution as exact as one of them:

    p(x) = 1/O sum_o p_o(x)

Legend: B batch, H height, W width, C channels, D dimensions of a context, O orders.
"""

import functools
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

from pixelvae_tf.turns import RASTER, TURNS


class Orders:
    """A list of orders over a grid; an order is given by its index in it.

    Args:
      names: O names of `TURNS`.
      size: (H, W).
    """

    def __init__(self, names: tuple[str, ...], size: tuple[int, int]):
        places = np.arange(size[0] * size[1], dtype=np.int32).reshape(size)
        # Where each location of the turned image is in the image, and the other way round.
        self._turned = np.stack([TURNS[name](places).reshape(-1) for name in names])
        self._upright = np.argsort(self._turned, axis=1).astype(np.int32)
        self.names, self.number = tuple(names), len(names)

    @property
    def is_raster(self) -> bool:
        """Whether there is but the raster order, for which nothing is turned."""
        return self.names == (RASTER,)

    def turn(self, x: tf.Tensor, which: tf.Tensor) -> tf.Tensor:
        """Images [B, H, W, ...], each turned for its order, `which` [B]."""
        if self.is_raster:
            return x
        return _gather(x, tf.gather(self._turned, which))

    def turn_back(self, x: tf.Tensor, which: tf.Tensor) -> tf.Tensor:
        """The inverse of `turn`."""
        if self.is_raster:
            return x
        return _gather(x, tf.gather(self._upright, which))

    def context_shape(self, shape: tuple | None) -> tuple | None:
        """The shape of what `context` gives, by that of the context."""
        if self.number == 1:
            return shape
        return (None, self.number) if shape is None else (*shape[:-1], shape[-1] + self.number)

    def context(self, context: tf.Tensor | None, which: tf.Tensor, dtype: str | tf.DType) -> tf.Tensor | None:
        """What the network is conditioned on: the context turned as its image is, and, of several orders, which it is.

        Args:
          context: [B, D], [B, H, W, D] or None.
          which: [B].
          dtype: of the result where there is no context.

        Returns:
          [B, D + O], [B, H, W, D + O] or [B, O]; of one order the context.
        """
        if context is not None and context.shape.rank == 4:
            context = self.turn(context, which)
        if self.number == 1:
            return context
        one_hot = tf.one_hot(which, self.number, dtype=dtype if context is None else context.dtype)
        if context is None:
            return one_hot
        if context.shape.rank == 4:
            one_hot = tf.tile(one_hot[:, None, None], (1, *context.shape[1:3], 1))
        return tf.concat([context, one_hot], axis=-1)

    def drawn(self, uniform: tf.Tensor) -> tf.Tensor:
        """Orders by numbers in (0, 1), both [B]."""
        return tf.minimum(tf.cast(uniform * self.number, tf.int32), self.number - 1)

    def in_turn(self, number: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
        """An order for each of a number of images: each order as often as any other, the first by the seed, int32 [2].

        Chance has each order at each place alike, and batches differ less than with an order drawn for each image.
        """
        first = tf.random.stateless_uniform((), seed, maxval=self.number, dtype=tf.int32)
        return (first + tf.range(number)) % self.number

    def informed(self, known: tf.Tensor, uniform: tf.Tensor) -> tf.Tensor:
        """The order in which most of what is known of an image stands before what is not, drawn among equals.

        Args:
          known: bool [B, H, W, 1], what is known.
          uniform: numbers in (0, 1), [B], as for `drawn`.

        Returns:
          [B].
        """
        if self.number == 1:
            return self.drawn(uniform)
        batch = tf.shape(known)[0]
        every = tf.repeat(tf.range(self.number), batch)
        masks = self.turn(tf.tile(tf.cast(known, tf.int64), (self.number, 1, 1, 1)), every)
        masks = tf.reshape(masks, (self.number, batch, -1))
        # Pairs of a location that is drawn and a known one before it.
        pairs = tf.reduce_sum((1 - masks) * tf.cumsum(masks, axis=-1), axis=-1)
        best = tf.cast(pairs == tf.reduce_max(pairs, axis=0), tf.int32)
        # The one with as many of the best before it as the number says.
        place = tf.cast(uniform * tf.cast(tf.reduce_sum(best, axis=0), uniform.dtype), tf.int32)
        passed = tf.cast(tf.cumsum(best, axis=0) <= place, tf.int32)
        return tf.minimum(tf.reduce_sum(passed, axis=0), self.number - 1)

    def mixed(self, maps: tf.Tensor) -> tf.Tensor:
        """log p of each location under the mixture: the orders' own, weighted by p(order | image).

        These sum to log p(x) and the Kullback-Leibler divergence of the weights from equal ones, which is of no
        location: an equal share of it is taken from each, so that the sum is log p(x).

        Args:
          maps: log p in each order, [O, B, H, W].

        Returns:
          [B, H, W].
        """
        nats = tf.reduce_sum(maps, axis=(2, 3))
        total = tf.reduce_logsumexp(nats, axis=0) - tf.math.log(tf.cast(self.number, nats.dtype))
        weights = tf.nn.softmax(nats, axis=0)
        weighted = tf.reduce_sum(weights[..., None, None] * maps, axis=0)
        rest = (total - tf.reduce_sum(weights * nats, axis=0)) / float(self._turned.shape[1])
        return weighted + rest[:, None, None]


def over(names: Sequence[str], size: Sequence[int]) -> Orders:
    """`Orders`, made once."""
    return _over(tuple(names), (size[0], size[1]))


_over = functools.lru_cache(Orders)


def _gather(x: tf.Tensor, places: tf.Tensor) -> tf.Tensor:
    """Of images [B, H, W, ...] the locations `places` [B, H W], in this order."""
    flat = tf.reshape(x, (-1, places.shape[1], *x.shape[3:]))
    return tf.reshape(tf.gather(flat, places, batch_dims=1), tf.shape(x))
