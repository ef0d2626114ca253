"""How a context, the latents or a label, enters causal layers: as an addend of pre-activations.

Van den Oord et al. 2016b, equations (4) and (5): V h for a vector h, a 1x1 convolution of a map.

Legend: B batch, H height, W width, D dimensions of the context, F filters.
"""

import tensorflow as tf

from pixelvae_tf.layers.causal import CausalLayer, take_row
from pixelvae_tf.layers.configured import Configured
from pixelvae_tf.layers.weight_norm import WeightNormConv2D


class ContextProjection(WeightNormConv2D):
    """A context, [B, D] or [B, H, W, D], as addends of pre-activations: [B, 1, 1, F] or [B, H, W, F].

    A map starts with gain 0. Whatever path learns first takes the model over: while the KL costs little, a map that
    says what stands where, at full strength, makes a plain VAE of a PixelVAE before its autoregression is there. A
    vector says less, and from gain 0 its latents are ignored before they are found; it starts at full gain.
    """

    def __init__(self, filters: int, **kwargs):
        super().__init__(filters, use_bias=False, **kwargs)

    def build(self, context_shape) -> None:
        """Creates the weights for a context [B, D] or [B, H, W, D]."""
        if len(context_shape) == 2:
            context_shape = (None, 1, 1, context_shape[-1])
        else:
            self.gain = 0.0
        super().build(context_shape)

    def call(self, context):
        """Projects."""
        if context.shape.rank == 2:
            context = context[:, None, None, :]
        return super().call(context)


class Conditioned(Configured, CausalLayer):
    """A causal layer that may be conditioned on a context; knows it from `build`."""

    def build_projections(self, context_shape, filters: int, names: tuple[str, ...]) -> None:
        """Creates a projection under each name, or None without a context."""
        self.context_rank = None if context_shape is None else len(context_shape)
        for name in names:
            layer = None
            if context_shape is not None:
                layer = ContextProjection(filters, name=name, dtype=self.dtype_policy)
                layer.build(context_shape)
            setattr(self, name, layer)

    def project(self, name: str, context) -> tf.Tensor | None:
        """The projection called `name` of the context, or None."""
        given = None if context is None else context.shape.rank
        if given != self.context_rank:
            raise ValueError(
                f"context of layer {self.name!r} must have rank {self.context_rank}, as when it was built. "
                f"Received: context of rank {given}"
            )
        return None if context is None else getattr(self, name)(context)


def add_context_row(from_above: tf.Tensor, context: tf.Tensor | None, row: tf.Tensor) -> tf.Tensor:
    """What `row` gets from the row above [B, W, F] and from the projected context, or None: [B, W, F]."""
    return from_above if context is None else from_above + take_row(context, row)
