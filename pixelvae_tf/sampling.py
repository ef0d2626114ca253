"""The only loops that turn noise into images or latents.

A sample of an autoregressive distribution is a function of its noise: location by location,
`x[i] = site.transform(network(x[:i]), noise[i])`. The methods differ in how much of the network
they compute again, never in their result:

- "cached": every location once, with what the causal layers keep (`layers.causal`). The work of
  a sample is about that of one forward pass, in H x W small steps.
- "oracle": the whole forward pass for every location (and channel group), as `log_prob` computes it. It
  uses nothing of the causal layers' begin, start_row, step and observe, and is there to be agreed with.

A network that does not look at the values (a VAE's) is asked once, for the whole image.

Legend: B batch, H height, W width, C channels, S random numbers of a location.
"""

from typing import Literal

import tensorflow as tf

Method = Literal["cached", "oracle"]


def sample(
    network, site, context: tf.Tensor | None, noise: tf.Tensor, temperature=1.0, method: Method = "cached"
) -> tf.Tensor:
    """Turns noise into a sample of the autoregressive distribution.

    Args:
      network: a raster-causal layer from values [B, H, W, C] to site parameters.
      site: one of `distributions.sites`.
      context: what the network is conditioned on, first dimension B, or None.
      noise: [B, H, W, S], of the kind that the site asks for.
      temperature: scalar or [B], positive.
      method: "cached" or "oracle".

    Returns:
      Values [B, H, W, C] of the site's dtype.

    Raises:
      ValueError: for another method.
    """
    if method not in ("cached", "oracle"):
        raise ValueError(f'method must be "cached" or "oracle". Received: method={method!r}')
    if method == "oracle":
        return oracle(network, site, context, noise, temperature)
    if not network.reads_values:
        params = network(tf.zeros((*tf.unstack(tf.shape(noise))[:3], site.channels), site.dtype), context=context)
        return site.transform(params, noise, temperature)
    return _cached(network, site, context, noise, temperature)


def _fill(site, network, pixel: tf.Tensor, group: int, params: tf.Tensor, noise: tf.Tensor, temperature) -> tf.Tensor:
    """Puts the channels of one group into pixel [B, C]."""
    drawn = site.transform(params, noise, temperature)
    if network.channel_groups == 1:
        return drawn
    in_group = tf.range(site.channels) % network.channel_groups == group
    return tf.where(in_group, drawn, pixel)


def _cached(network, site, context, noise, temperature) -> tf.Tensor:
    height, width, channels = *noise.shape[1:3], site.channels
    batch = tf.shape(noise)[0]
    constants, state = network.begin(context, batch, (height, width))
    # The first axis is the one that the loops walk along.
    noise = tf.transpose(noise, (1, 2, 0, 3))

    def location(row, column, state, values):
        pixel = tf.zeros((batch, channels), site.dtype)
        told = state
        for group in range(network.channel_groups):
            params, told = network.step(constants, state, pixel, row, column)
            pixel = _fill(site, network, pixel, group, params, noise[row, column], temperature)
        told = network.observe(constants, told, pixel, row, column)
        return row, column + 1, told, values.write(column, pixel)

    def make_row(row, state, rows):
        values = tf.TensorArray(site.dtype, width, element_shape=(noise.shape[2], channels))
        _, _, state, values = tf.while_loop(
            lambda row, column, state, values: column < width,
            location,
            (row, tf.constant(0), state, values),
            maximum_iterations=width,
        )
        finished = tf.transpose(values.stack(), (1, 0, 2))
        _, state = network.start_row(constants, state, finished, row + 1)
        return row + 1, state, rows.write(row, finished)

    rows = tf.TensorArray(site.dtype, height, element_shape=(noise.shape[2], width, channels))
    _, _, rows = tf.while_loop(
        lambda row, state, rows: row < height,
        make_row,
        (tf.constant(0), state, rows),
        maximum_iterations=height,
    )
    return tf.transpose(rows.stack(), (1, 0, 2, 3))


def oracle(
    network, site, context: tf.Tensor | None, noise: tf.Tensor, temperature=1.0, num_locations: int | None = None
) -> tf.Tensor:
    """The slow method; see `sample` for the other arguments.

    Args:
      num_locations: how many locations to make, in raster order; all of them by default. (To time a few.)

    Returns:
      Values [B, H, W, C]; zeros where none was made.
    """
    height, width, channels = *noise.shape[1:3], site.channels
    num_locations = height * width if num_locations is None else num_locations

    def location(index, values):
        here = tf.reshape(tf.range(height * width) == index, (1, height, width, 1))
        for group in range(network.channel_groups):
            params = network(values, context=context)
            flat = tf.reshape(params, (-1, height * width, params.shape[-1]))[:, index]
            pixel = tf.reshape(values, (-1, height * width, channels))[:, index]
            this_noise = tf.reshape(noise, (-1, height * width, site.noise_size))[:, index]
            pixel = _fill(site, network, pixel, group, flat, this_noise, temperature)
            values = tf.where(here, pixel[:, None, None, :], values)
        return index + 1, values

    values = tf.zeros((tf.shape(noise)[0], height, width, channels), site.dtype)
    values = tf.ensure_shape(values, (noise.shape[0], height, width, channels))
    _, values = tf.while_loop(
        lambda index, values: index < num_locations,
        location,
        (tf.constant(0), values),
        maximum_iterations=num_locations,
    )
    return values
