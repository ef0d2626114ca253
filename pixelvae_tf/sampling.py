"""The only loops that turn noise into images or latents.

A sample of an autoregressive distribution is a function of its noise: location by location, and inside a location
channel group by channel group,

    x[i] = site.transform(network(x[:i]), noise[i]).

The methods differ in how often they ask the network, and what of it they compute again, never in their result:

- "cached": every location once, with what the causal layers keep (`layers.causal`). The work of
  a sample is about that of one forward pass, in H x W small steps.
- "rows": row by row. A row is guessed, and computed from the guess, all its locations together, again and again until
  nothing changes: then it is the row that "cached" makes. After n rounds the first n locations (or channel groups of
  locations) are right, mostly many more. The rows above are kept as in "cached".
- "oracle": the whole forward pass for every location (and channel group), as `log_prob` computes it. It
  uses nothing of the causal layers but `call`, and is there to be agreed with.
- "auto": "rows" or "cached", whichever is expected to be faster; see `rows_are_faster`.

A network that does not look at the values (a VAE's) is asked once, for the whole image, except by "oracle".

`sample` makes graphs of its loops and keeps them: eagerly they would run operation by operation, and in graphs that
sample more than once (the signatures of a SavedModel) they would be traced again and again.

Legend: B batch, H height, W width, C channels, G channel groups, S random numbers of a location.
"""

import weakref
from typing import Any, Literal, NamedTuple, get_args

import tensorflow as tf

from pixelvae_tf import control_flow
from pixelvae_tf.layers.causal import Nest, Stepper
from pixelvae_tf.layers.masks import merge_groups

Method = Literal["auto", "cached", "rows", "oracle"]

# Where "rows" is the faster one: the rule of "auto", measured by benchmarks/sampling.py (docs/sampling.md).
ROWS_MAX_BATCH, ROWS_MIN_WIDTH, ROWS_MAX_VALUES = 16, 16, 2


class Known(NamedTuple):
    """Values that are given, and stay as they are.

    Attributes:
      values: [B, H, W, C], of the site's dtype.
      mask: bool [B, H, W, 1], where they are given.
    """

    values: tf.Tensor
    mask: tf.Tensor


class Autoregression(NamedTuple):
    """What is sampled: the distribution of each value given those before it.

    Attributes:
      network: a raster-causal layer from values [B, H, W, C] to site parameters.
      site: one of `distributions.sites`.
      context: what the network is conditioned on, first dimension B, or None.
      temperature: scalar or [B], positive.
    """

    network: Any
    site: Any
    context: tf.Tensor | None = None
    temperature: float | tf.Tensor = 1.0


def sample(
    autoregression: Autoregression, noise: tf.Tensor, method: Method = "auto", known: Known | None = None
) -> tf.Tensor:
    """Turns noise into a sample of the autoregressive distribution.

    Args:
      autoregression: the distribution.
      noise: [B, H, W, S], of the kind that the site asks for.
      method: see the module.
      known: values that are given. Each of the others is drawn given all values before it in raster order.

    Returns:
      Values [B, H, W, C] of the site's dtype.

    Raises:
      ValueError: for another method.
    """
    check_method(method)
    network, site, context, temperature = autoregression
    # As a tensor of one dtype: a number would be a constant, every temperature another graph.
    temperature = tf.cast(temperature, tf.float64)
    graph = _graph(network, site, method, tuple(noise.shape[1:]), tf.executing_eagerly())
    return graph(context, noise, temperature, known)


def check_method(method: str) -> None:
    """Raises a ValueError for another method."""
    if method not in get_args(Method):
        raise ValueError(f"method must be one of {', '.join(get_args(Method))}. Received: method={method!r}")


# By network, site, and what else `_graph` is given. They go when the network or the site goes.
_graphs = weakref.WeakKeyDictionary()


def _graph(
    network, site, method: Method, shape: tuple, eager: bool = True
) -> tf.types.experimental.PolymorphicFunction:
    """`_sample` of a network as one function, which is traced and optimized once for all graphs that call it.

    In eager calls the batch is left open from the second size on, and that of images, `shape`, never.
    """
    graphs = _graphs.setdefault(network, weakref.WeakKeyDictionary()).setdefault(site, {})
    if (method, shape, eager) not in graphs:
        parts = weakref.ref(network), weakref.ref(site)

        def sampled(context, noise, temperature, known):
            network, site = (part() for part in parts)
            return _sample(Autoregression(network, site, context, temperature), noise, method, known)

        # Not inlined, or each of the graphs would be optimized with a copy of it.
        graphs[method, shape, eager] = tf.function(
            sampled, autograph=False, reduce_retracing=eager, experimental_attributes={"_noinline": True}
        )
    return graphs[method, shape, eager]


def _sample(autoregression: Autoregression, noise: tf.Tensor, method: Method, known: Known | None) -> tf.Tensor:
    if method == "oracle":
        return oracle(autoregression, noise, known)
    network, site, context, temperature = autoregression
    if not network.reads_values:
        params = network(_zeros(noise, site), context=context)
        drawn = site.transform(params, noise, temperature)
        return drawn if known is None else tf.where(known.mask, known.values, drawn)
    stepper = network.stepper(context, tf.shape(noise)[0], tuple(noise.shape[1:3]))
    arguments = (stepper, network.channel_groups, site, noise, temperature, known)
    faster = rows_are_faster(network, site, noise) if method == "auto" else method == "rows"
    if isinstance(faster, bool):
        return rows(*arguments)[0] if faster else cached(*arguments)
    return control_flow.cond(faster, lambda: rows(*arguments)[0], lambda: cached(*arguments))


def rows_are_faster(network, site, noise: tf.Tensor) -> bool | tf.Tensor:
    """The rule of "auto"; docs/sampling.md has what it was measured on.

    A pixel of two values seldom changes with the one beside it, so that a row is done after two or three rounds;
    one of 256 mostly does, and a latent always. Many images wait for the slowest of them.

    Args:
      network, site, noise: as for `sample`.

    Returns:
      A bool, or a scalar tensor of it where B is known at run time alone.
    """
    few_values = site.num_values is not None and site.num_values <= ROWS_MAX_VALUES
    if network.scans_rows or not few_values or noise.shape[2] < ROWS_MIN_WIDTH:
        return False
    if noise.shape[0] is not None:
        return noise.shape[0] <= ROWS_MAX_BATCH
    return tf.shape(noise)[0] <= ROWS_MAX_BATCH


def _by_location(x: tf.Tensor, groups: int = 1) -> tf.Tensor:
    """[B, H, W, C] -> [H, W, G, B, C / G]: the axes that the loops walk along come first."""
    height, width, channels = x.shape[1:]
    return tf.transpose(tf.reshape(x, (-1, height, width, channels // groups, groups)), (1, 2, 4, 0, 3))


def _take_or_draw(stepper: Stepper, known: Known | None, row: tf.Tensor, state: Nest, draw) -> tuple:
    """A row [B, W, C], the state after it and the rounds it took: by `draw()`, unless every image knows the whole row.

    Then no location waits for another, and of the network only what `Stepper.row` keeps is computed.
    """
    if known is None:
        return draw()

    def take():
        values = known.values[:, row]
        return values, stepper.row(state, values)[1], tf.constant(0)

    return control_flow.cond(tf.reduce_all(known.mask[:, row]), take, draw)


def cached(
    stepper: Stepper, groups: int, site, noise: tf.Tensor, temperature=1.0, known: Known | None = None
) -> tf.Tensor:
    """The method "cached"; see `sample`.

    Args:
      stepper: of the network.
      groups: G.
      site, noise, temperature, known: as for `sample`.
    """
    (height, width), channels = noise.shape[1:3], site.channels
    noise = _by_location(noise, groups)
    batch = tf.shape(noise)[3]
    if known is not None:
        values, mask = _by_location(known.values, groups), _by_location(known.mask)

    def location(row, column, state, last, pixels):
        parts = []
        for group in range(groups):
            params, state = stepper.step(state, last, column, group)
            last = site.transform(params, noise[row, column, group], temperature)
            if known is not None:
                last = tf.where(mask[row, column, 0], values[row, column, group], last)
            last.set_shape(nothing.shape)
            parts.append(last)
        return row, column + 1, state, last, pixels.write(column, merge_groups(parts))

    # What a row's first location is given does not matter.
    nothing = tf.ensure_shape(tf.zeros((batch, channels // groups), site.dtype), (noise.shape[3], channels // groups))

    def draw(row, state):
        pixels = tf.TensorArray(site.dtype, width, element_shape=(noise.shape[3], channels))
        _, _, state, _, pixels = control_flow.while_loop(
            lambda row, column, *_: column < width,
            location,
            (row, tf.constant(0), state, nothing, pixels),
            maximum_iterations=width,
        )
        return tf.transpose(pixels.stack(), (1, 0, 2)), state, tf.constant(width)

    def make_row(row, state, image):
        finished, state, _ = _take_or_draw(stepper, known, row, state, lambda: draw(row, state))
        _, state = stepper.next_row(state, finished, row + 1)
        return row + 1, state, image.write(row, finished)

    image = tf.TensorArray(site.dtype, height, element_shape=(noise.shape[3], width, channels))
    _, _, image = control_flow.while_loop(
        lambda row, *_: row < height,
        make_row,
        (tf.constant(0), stepper.start(), image),
        maximum_iterations=height,
    )
    return tf.transpose(image.stack(), (1, 0, 2, 3))


def rows(
    stepper: Stepper, groups: int, site, noise: tf.Tensor, temperature=1.0, known: Known | None = None
) -> tuple[tf.Tensor, tf.Tensor]:
    """The method "rows"; arguments as for `cached`.

    Returns:
      Values [B, H, W, C], and the rounds that each row took, int32 [H]; none where all images know it.
    """
    (height, width), channels = noise.shape[1:3], site.channels
    # Every round makes one more location (and group) right, if no more; the last one finds that all are.
    limit = width * groups + 1

    def draw(row, state, guess):
        def with_known(values):
            if known is not None:
                values = tf.where(known.mask[:, row], known.values[:, row], values)
            return tf.ensure_shape(values, guess.shape)

        def again(count, values, new_state, changed):
            params, new_state = stepper.row(state, values)
            drawn = with_known(site.transform(params, noise[:, row], temperature))
            return count + 1, drawn, new_state, tf.reduce_any(drawn != values)

        count, values, new_state, _ = control_flow.while_loop(
            lambda count, values, new_state, changed: changed,
            again,
            (tf.constant(0), with_known(guess), state, tf.constant(True)),
            maximum_iterations=limit,
        )
        return values, new_state, count

    def make_row(row, state, guess, image, counts):
        values, state, count = _take_or_draw(stepper, known, row, state, lambda: draw(row, state, guess))
        values = tf.ensure_shape(values, guess.shape)
        _, state = stepper.next_row(state, values, row + 1)
        return row + 1, state, values, image.write(row, values), counts.write(row, count)

    guess = _zeros(noise, site)[:, 0]
    image = tf.TensorArray(site.dtype, height, element_shape=(noise.shape[0], width, channels))
    _, _, _, image, counts = control_flow.while_loop(
        lambda row, *_: row < height,
        make_row,
        # The row above is the guess of a row.
        (tf.constant(0), stepper.start(), guess, image, tf.TensorArray(tf.int32, height, element_shape=())),
        maximum_iterations=height,
    )
    return tf.transpose(image.stack(), (1, 0, 2, 3)), counts.stack()


def _zeros(noise: tf.Tensor, site) -> tf.Tensor:
    """Values [B, H, W, C] of 0."""
    zeros = tf.zeros((tf.shape(noise)[0], *noise.shape[1:3], site.channels), site.dtype)
    return tf.ensure_shape(zeros, (*noise.shape[:3], site.channels))


def oracle(
    autoregression: Autoregression, noise: tf.Tensor, known: Known | None = None, num_locations: int | None = None
) -> tf.Tensor:
    """The method "oracle"; see `sample`.

    Args:
      autoregression, noise, known: as for `sample`.
      num_locations: how many locations to make, in raster order; all of them by default. (To time a few.)

    Returns:
      Values [B, H, W, C]; zeros where none was made.
    """
    network, site, context, temperature = autoregression
    (height, width), channels, groups = noise.shape[1:3], site.channels, network.channel_groups
    num_locations = height * width if num_locations is None else num_locations

    def flat(x: tf.Tensor) -> tf.Tensor:
        return tf.reshape(x, (-1, height * width, x.shape[-1]))

    def location(index, values):
        here = tf.reshape(tf.range(height * width) == index, (1, height, width, 1))
        for group in range(groups):
            params = flat(network(values, context=context))[:, index]
            drawn = site.transform(params, flat(noise)[:, index], temperature)
            if known is not None:
                drawn = tf.where(flat(known.mask)[:, index], flat(known.values)[:, index], drawn)
            in_group = tf.range(channels) % groups == group
            values = tf.where(here & in_group, drawn[:, None, None, :], values)
        return index + 1, values

    _, values = control_flow.while_loop(
        lambda index, values: index < num_locations,
        location,
        (tf.constant(0), _zeros(noise, site)),
        maximum_iterations=num_locations,
    )
    return values
