"""A causal network as a distribution over grids: of pixels, or of latent feature maps.

    p(x | context) = prod_i p(x_i | x_1, ..., x_{i-1}, context)          PixelVAE, equation (1)

The product runs over locations in raster order and, inside a location, over channel groups. The
network computes all its factors' parameters in one call, each from the locations before. Of several orders the
distribution is the mixture of one such product each; see `orders`.

Legend: S sample shape, B batch, H height, W width, C channels, O orders.
"""

import contextlib

import keras
import numpy as np
import tensorflow as tf
import tensorflow_probability as tfp

from pixelvae_tf import checks, pixels, sampling
from pixelvae_tf import noise as noise_lib
from pixelvae_tf.distributions import orders as orders_lib
from pixelvae_tf.distributions.sites import ChannelwiseSite, Site
from pixelvae_tf.distributions.whole_images import WholeImages, as_whole_images, check_params
from pixelvae_tf.layers.causal import CausalLayer
from pixelvae_tf.layers.dropout import fold_in
from pixelvae_tf.noise import Kind
from pixelvae_tf.turns import RASTER, check_orders

tfd = tfp.distributions

# The part of a dropout seed that chooses orders: layers take those from 0 on, priors those below 0.
ORDERS = 2**30


class AutoregressiveGrid(tfp.distributions.Distribution):
    """The distribution over [H, W, C] that a causal network and a site define.

    It holds tensors and layers but owns no variables: models own the layers.

        network = layers.Chain([
            layers.ScalePixels(256), layers.MaskedConv2D(32, 7, "A"), layers.Activation("relu"),
            layers.MaskedConv2D(256, 3),
        ])
        grid = AutoregressiveGrid(network, CategoricalSite(256), (28, 28, 1))
        images = grid.sample(4, seed=0)  # [4, 28, 28, 1]; `method=` as of `transform`
        grid.log_prob(images)  # nats, [4]

    Args:
      network: a raster-causal layer from values [N, H, W, C] to [N, H, W, site.units]; built here if it is not. Or any
        Keras layer or model that is causal, which `testing.check_causal_layer` tells: it is given the values as floats
        (with a context a list of both), and sampled by the oracle. If it orders the channels of a pixel, as in R, G, B,
        its attribute `channel_groups` says how many there are. If its attribute `orders` has names of `turns.TURNS`,
        images are turned so before they are gone through in raster order; of several the distribution is the mixture,
        and a context for the network ends in a one-hot of which it is: [B, D + O], [B, H, W, D + O], or [B, O].
      site: what stands at a location.
      event_shape: (H, W, C).
      context: None, or what the network is conditioned on: [B, D], or [B, H, W, D]. Its first
        dimension is the batch shape; without a context, or with a vector [D], that is ().
      temperature: scalar or [B], positive; divides logits, multiplies scales. [B] makes a batch by itself.
      dropout_seed: int32 [2], in training: the network's dropout is on in `log_prob`; and of several orders each image
        is gone through in one, whose log p is on average at most that of the mixture.

    Raises:
      ValueError: if network, site, orders and shapes do not belong together.

    Examples:
      >>> network = layers.Chain([layers.ScalePixels(2), layers.MaskedConv2D(4, 3, "A"), layers.MaskedConv2D(1, 1)])
      >>> grid = distributions.AutoregressiveGrid(network, distributions.BernoulliSite(), (5, 5, 1))
      >>> grid.log_prob(np.zeros((2, 5, 5, 1), "uint8")).shape  # grid.sample(2, seed=(0, 1)) draws such images
      TensorShape([2])
    """

    def __init__(
        self,
        network: keras.layers.Layer,
        site: Site,
        event_shape: tuple[int, ...],
        context: tf.Tensor | None = None,
        temperature: float | tf.Tensor = 1.0,
        dropout_seed: tf.Tensor | None = None,
    ):
        parameters = dict(locals())
        context = None if context is None else tf.convert_to_tensor(context)
        if context is not None and not (context.dtype.is_floating and context.shape.rank in (1, 2, 4)):
            raise ValueError(
                "context must be floating point, [D], [B, D] or [B, H, W, D]. "
                f"Received: {context.dtype.name} of shape {context.shape}"
            )
        if len(event_shape) != 3 or event_shape[-1] != site.channels:
            raise ValueError(
                f"event_shape must be (H, W, {site.channels}), of the channels of the site. Received: {event_shape}"
            )
        self._site, self._grid_shape = site, (event_shape[0], event_shape[1], event_shape[2])
        orders = getattr(network, "orders", (RASTER,))
        check_orders(orders, self._grid_shape)
        self._orders = orders_lib.over(orders, self._grid_shape)
        self._one_context = context is not None and context.shape.rank == 1
        checks.check_temperature(temperature)
        checks.check_same_batch(context=None if self._one_context else context, temperature=temperature)
        self._context = context[None] if context is not None and self._one_context else context
        self._network = self._ready(network)
        self._temperature, self._dropout_seed = temperature, dropout_seed
        # Whatever has the batch as its first dimension.
        self._batched = tf.convert_to_tensor(temperature if context is None or self._one_context else context)
        super().__init__(
            dtype=site.dtype,
            reparameterization_type=tfd.NOT_REPARAMETERIZED,
            validate_args=False,
            allow_nan_stats=True,
            parameters=parameters,
            name="AutoregressiveGrid",
        )

    def _ready(self, network: keras.layers.Layer) -> CausalLayer | WholeImages:
        """A network that is built and fits."""
        shape, context = (None, *self._grid_shape), self._context
        groups = getattr(network, "channel_groups", 1)
        if groups > 1 and (not isinstance(self._site, ChannelwiseSite) or self._site.channels % groups):
            # Parameters of its first channels would come from units that see them.
            raise ValueError(
                f"network must make all channels of a location at once for {type(self._site).__name__} of "
                f"{self._site.channels} channels. Received: one with {groups} channel groups"
            )
        context_shape = self._orders.context_shape(None if context is None else (None, *context.shape[1:]))
        if not isinstance(network, CausalLayer):
            return as_whole_images(network, self._grid_shape, self._site.units, context_shape)
        if not network.built:
            network.build(shape, context_shape)
        with contextlib.suppress(NotImplementedError):  # layers of users' own may not tell
            expected = (*shape[:-1], self._site.units)
            check_params(network.compute_output_shape(shape, context_shape), expected)
        return network

    @classmethod
    def _parameter_properties(cls, dtype, num_classes=None):
        raise NotImplementedError("AutoregressiveGrid's parameters are a network and a context.")

    @property
    def site(self) -> Site:
        """What stands at a location."""
        return self._site

    def _event_shape(self):
        return tf.TensorShape(self._grid_shape)

    def _event_shape_tensor(self):
        return tf.constant(self._grid_shape)

    def _batch_shape(self):
        return self._batched.shape[:1]

    def _batch_shape_tensor(self):
        return tf.shape(self._batched)[:1]

    def _default_event_space_bijector(self):
        return None

    def _tiled(self, x, count):
        """Repeats a tensor [B, ...] to [count * B, ...]; leaves scalars and None."""
        if x is None or tf.convert_to_tensor(x).shape.rank == 0:
            return x
        return tf.tile(x, [count] + [1] * (tf.convert_to_tensor(x).shape.rank - 1))

    def _context_of(self, images: tf.Tensor, count: int | tf.Tensor = 1) -> tf.Tensor | None:
        """The context of each of some images [count * B, ...]."""
        return self._tiled(self._context, tf.shape(images)[0] if self._one_context else count)

    def _params(self, value: tf.Tensor, context: tf.Tensor | None) -> tf.Tensor:
        """The parameters of every location given those before it."""
        training = self._dropout_seed is not None
        return self._network(value, context=context, training=training, seed=self._dropout_seed)

    def conditionals(self, value: tf.Tensor) -> tfp.distributions.Distribution:
        """The distribution of every location given the locations before it in `value`, all together.

        Its KL divergence from a Gaussian is analytic where this distribution's own is not: for a z from q, the mean of
        KL(q || conditionals(z)) over z is the KL of q from this distribution, if q's locations are independent.

        Args:
          value: [B, H, W, C].

        Returns:
          Batch shape [B], event shape [H, W, C].

        Raises:
          NotImplementedError: for other orders than the raster's.
        """
        if not self._orders.is_raster:
            raise NotImplementedError(
                f"conditionals are of raster order alone. Received: {', '.join(self._orders.names)}"
            )
        params = self._params(value, self._context_of(value))
        return tfd.Independent(self._site.distribution(params, self._temperature), 2)

    def log_prob(self, value, name: str = "log_prob", **kwargs) -> tf.Tensor:
        """log p(value | context).

        Args:
          value: [..., H, W, C]; of pixels integers, in the range of their values.

        Returns:
          Nats, [...].

        Raises:
          ValueError: for values of another shape, dtype or (outside graphs) range.
          tf.errors.InvalidArgumentError: in a graph, for pixels out of range (not under XLA).
        """
        return super().log_prob(self._as_tensor(value), name, **kwargs)

    def _log_prob(self, value):
        return tf.reduce_sum(self.log_prob_map(value), axis=(-2, -1))

    def log_prob_map(self, value: tf.Tensor, preceding: tf.Tensor | None = None) -> tf.Tensor:
        """log p of each location, all its channels, given the locations before it: `log_prob` is the sum.

        Args, Raises: as `log_prob`.
          preceding: what stands before each location in place of `value`, of its shape.

        Returns:
          Nats, [..., H, W]; of several orders see `orders.Orders.mixed`.
        """
        value, prefix = self._flat(value)
        preceding = value if preceding is None else self._flat(preceding)[0]
        batch = tf.maximum(tf.reduce_prod(self._batch_shape_tensor()), 1)
        maps = self._maps(value, preceding, tf.shape(value)[0] // batch)
        return tf.reshape(maps, tf.concat([prefix, self._grid_shape[:-1]], 0))

    def _flat(self, value: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Values as [N, H, W, C], N a multiple of the batch, checked; and the shape of N."""
        value = self._as_tensor(value)
        shape = value.shape
        if shape.rank is not None and not (shape.rank > 2 and shape[-3:].is_compatible_with(self._grid_shape)):
            raise ValueError(f"value must be of shape [..., {str(self._grid_shape)[1:-1]}]. Received: shape {shape}")
        if shape.rank == 4 and shape[0] != 1 and self._batched.shape.rank:
            checks.check_same_batch(context=self._batched, value=value)
        prefix = tf.broadcast_dynamic_shape(tf.shape(value)[:-3], self._batch_shape_tensor())
        value = tf.broadcast_to(value, tf.concat([prefix, self._grid_shape], 0))
        flat = tf.reshape(value, (-1, *self._grid_shape))
        if self._site.num_values is not None:
            # A log-probability of what cannot happen would be a number too.
            flat = tf.cast(pixels.require_images(flat, self._grid_shape, self._site.num_values), self.dtype)
        return flat, prefix

    def _maps(self, value: tf.Tensor, preceding: tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
        """log p of each location of values [count * B, H, W, C], by what stands before it."""
        orders, number = self._orders, tf.shape(value)[0]
        if orders.number == 1:
            return self._maps_in(tf.zeros([number], tf.int32), value, preceding, count)
        if self._dropout_seed is not None:
            return self._maps_in(orders.in_turn(number, fold_in(self._dropout_seed, ORDERS)), value, preceding, count)
        # All orders in one batch.
        which = tf.repeat(tf.range(orders.number), number)
        value, preceding = self._tiled(value, orders.number), self._tiled(preceding, orders.number)
        maps = self._maps_in(which, value, preceding, count * orders.number)
        return orders.mixed(tf.reshape(maps, (orders.number, -1, *self._grid_shape[:-1])))

    def _maps_in(self, which: tf.Tensor, value: tf.Tensor, preceding: tf.Tensor, count: int | tf.Tensor) -> tf.Tensor:
        """`_maps` with an order for each value."""
        orders = self._orders
        context = orders.context(self._context_of(value, count), which, self._network.compute_dtype)
        params = self._params(orders.turn(preceding, which), context)
        site = self._site.distribution(params, self._tiled(self._temperature, count))
        return orders.turn_back(site.log_prob(orders.turn(value, which)), which)

    def _as_tensor(self, value) -> tf.Tensor:
        """Pixels in the dtype that they came in: TFP would make integers of floats, to be refused with their dtype."""
        if self._site.num_values is not None and not tf.is_tensor(value):
            value = np.asarray(value)
        return tf.convert_to_tensor(value, dtype_hint=None if self._site.num_values is not None else self.dtype)

    def noise(self, seeds: tf.Tensor, stream: tf.Tensor) -> tf.Tensor:
        """The noise of samples, one seed an image.

        Args:
          seeds: int64 [N].
          stream: from `noise.stream`.

        Returns:
          [N, H, W, site.noise_size], uniform or normal as the site asks. Of several orders a location has a number
          more, and that of the first chooses the order.
        """
        make = noise_lib.uniform if self._site.noise == "uniform" else noise_lib.normal
        size = self._site.noise_size + (self._orders.number > 1)
        return make(seeds, stream, (*self._grid_shape[:-1], size))

    def transform(
        self, noise: tf.Tensor, known: sampling.Known | None = None, method: sampling.Method = "auto"
    ) -> tf.Tensor:
        """Turns noise into samples, one for each image of the batch.

        Args:
          noise: from `noise`, of B images; of any number where the batch shape is ().
          known: values that are given and stay. Of several orders an image has the one in which most of what is known
            stands before what is not; the noise draws among equals.
          method: see `sampling`; all methods give the same samples.

        Returns:
          Values [B, H, W, C].

        Raises:
          ValueError: for noise of another shape, another method, or one that needs the steppers of causal layers, of a
            network without.
        """
        noise = tf.convert_to_tensor(noise)
        size = self._site.noise_size + (self._orders.number > 1)
        expected = [*(list(self.batch_shape) or [None]), *self._grid_shape[:-1], size]
        if not noise.shape.is_compatible_with(expected):
            raise ValueError(
                f"noise must be what `noise` gives for this grid and so many images, {expected}. "
                f"Received: shape {noise.shape}"
            )
        if known is not None:
            known = sampling.Known(tf.cast(known.values, self.dtype), tf.cast(known.mask, tf.bool))
            shapes = [*expected[:-1], self._grid_shape[-1]], [*expected[:-1], 1]
            for name, tensor, shape in zip(known._fields, known, shapes, strict=True):
                if not tensor.shape.is_compatible_with(shape):
                    raise ValueError(f"known.{name} must be of shape {shape}. Received: {tensor.shape}")
        return self._transform(noise, self._context_of(noise), self._temperature, known, method)

    def _transform(self, noise, context, temperature, known: sampling.Known | None, method: sampling.Method):
        if isinstance(self._network, WholeImages):
            if method not in ("auto", "oracle"):
                raise ValueError(
                    "method must be auto or oracle for a network that is not a layers.CausalLayer. "
                    f"Received: {method!r}"
                )
            method = "oracle"
        orders, size = self._orders, self._site.noise_size
        number = noise[:, 0, 0, -1] if self._site.noise == "uniform" else tfd.Normal(0.0, 1.0).cdf(noise[:, 0, 0, -1])
        which = orders.drawn(number)
        if known is not None:
            which = orders.informed(known.mask, number)
            known = sampling.Known(orders.turn(known.values, which), orders.turn(known.mask, which))
        context = orders.context(context, which, self._network.compute_dtype)
        autoregression = sampling.Autoregression(self._network, self._site, context, temperature)
        return orders.turn_back(sampling.sample(autoregression, noise[..., :size], method, known), which)

    def _sample_n(self, n, seed=None, method: sampling.Method = "auto"):
        seed = tfp.random.sanitize_seed(seed, salt="AutoregressiveGrid")
        key = tf.bitcast(tf.cast(seed, tf.int32), tf.int64)
        batch_shape = self._batch_shape_tensor()
        num_images = n * tf.reduce_prod(batch_shape)
        seeds = noise_lib.derive_seeds(key, tf.range(tf.cast(num_images, tf.int64), dtype=tf.int64))
        # Latents and pixels of the same seed must not share their noise.
        noise = self.noise(seeds, noise_lib.stream(Kind.PIXELS if self._site.dtype.is_integer else Kind.PRIOR))
        temperature = self._tiled(self._temperature, n)
        values = self._transform(noise, self._context_of(noise, n), temperature, None, method)
        return tf.reshape(values, tf.concat([[n], batch_shape, self._grid_shape], 0))
