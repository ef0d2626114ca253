"""What the codec asks of a model, as functions of tensors that a SavedModel holds beside its signatures.

A raster is what is made location by location: the pixels, and the latents of a level whose prior is learnt. Each has

    begin(inputs)                           -> params of the first location's first channel group; constants, state
    step_g(constants, state, last, column)  -> params of group g, given `last`, the values [B, C / G] before it; state
    next_row(constants, state, finished, row) -> params of the first group of `row`, given the row above it; state

`inputs` are what the raster is conditioned on, by name: z1 (of the pixels) or the latents of the level above, and the
label. Constants and states are lists of tensors that are handed on as they are. Of a raster whose locations do not
depend on each other `begin` gives the params of all, [B, H, W, ...], and nothing else; it has no other function.

Encoder and decoder call the same functions at the same batch size, so that their numbers are equal to the last bit on
one machine. `params` are those of the distribution, see `parameters`.

Legend: B batch, H height, W width, C channels, G channel groups.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from pixelvae_tf import distributions
from pixelvae_tf.codec import sites
from pixelvae_tf.distributions.sites import ChannelwiseSite, Site
from pixelvae_tf.models import PixelVAE
from pixelvae_tf.turns import RASTER

__all__ = ["PIXELS", "functions", "inputs_of", "parameters", "tree"]

PIXELS = "pixels"


def parameters(site: Site, raw: tf.Tensor) -> tf.Tensor:
    """The parameters of a location's distribution, float32 [B, c, P] of c channels.

    Logits of categorical values, P = V, and of binary ones, P = 1; means and standard deviations of normal ones, those
    of pixels in units of values, P = 2. Of a mixture of logistics [B, 1, K (1 + 2 C + C (C - 1) / 2)]: of each
    component its logit, means, log scales, and coefficients, as in `distributions.LogisticMixture`. Of any other
    channelwise site the log-probabilities of all values, P = V.
    """
    if isinstance(site, ChannelwiseSite):
        of_channels = site.channel_distribution(raw)
        if isinstance(site, distributions.CategoricalSite):
            params = of_channels.logits
        elif isinstance(site, distributions.BernoulliSite):
            params = of_channels.logits[..., None]
        elif isinstance(site, distributions.GaussianSite | distributions.QuantizedNormalSite):
            params = tf.stack([of_channels.loc, of_channels.scale], axis=-1)
        else:
            rank = len(of_channels.batch_shape)
            values = tf.reshape(tf.range(site.num_values, dtype=site.dtype), [-1] + [1] * rank)
            params = tf.transpose(of_channels.log_prob(values), [*range(1, rank + 1), 0])
    else:
        mixture = site.distribution(raw)
        parts = [mixture.logits[..., None], mixture.loc, mixture.log_scale, mixture.coefficients]
        whole = tf.concat(parts, axis=-1)
        params = tf.reshape(whole, (-1, *raw.shape[1:-1], 1, whole.shape[-1] * whole.shape[-2]))
    return tf.cast(params, tf.float32)


def tree(site: Site) -> sites.Tree:
    """How the codec walks to a value of a site of pixels, from its `parameters`."""
    assert site.num_values is not None  # which it is of real numbers alone
    if isinstance(site, distributions.LogisticMixtureSite):
        return sites.LogisticMixture(site.num_values, site.channels, site.num_mixtures)
    if isinstance(site, distributions.QuantizedNormalSite):
        return sites.Gaussian(site.num_values, 0.5, 1.0)
    return sites.Categorical(site.num_values)


def inputs_of(model: PixelVAE, raster: str) -> dict[str, tf.TensorSpec]:
    """What a raster is conditioned on, by name."""
    level = 0 if raster == PIXELS else int(raster.removeprefix("z"))
    specs = {}
    if level < model.num_levels:
        specs[f"z{level + 1}"] = tf.TensorSpec((None, *model.config.levels[level].shape), tf.float32)
    if not level and model.config.num_classes:
        specs["label"] = tf.TensorSpec((None,), tf.int64)
    return specs


def functions(model: PixelVAE, jit_compile: bool = False) -> dict[str, Callable]:
    """The functions of a model, traced.

    Args:
      model: with weights.
      jit_compile: whether XLA compiles them, anew for every batch size.

    Returns:
      {"pixels_begin": ..., "pixels_step_0": ..., "pixels_next_row": ..., "z1_begin": ...}; none where the site of
      pixels is neither channelwise nor a mixture of logistics, for which the codec has no tree, or where raster order
      is none of the model's: of several it is the one that images are coded in.
    """
    orders = model.config.orders
    if RASTER not in orders or not isinstance(model.site, ChannelwiseSite | distributions.LogisticMixtureSite):
        return {}

    def pixels_context(inputs: dict[str, tf.Tensor]) -> tf.Tensor | None:
        context = model.context([inputs["z1"]] if model.num_levels else [], inputs.get("label"))
        which = tf.fill([inputs["batch"]], orders.index(RASTER))
        return model.network_context(context, which)

    rasters = {PIXELS: (model.network, model.site, model.config.image_shape, pixels_context)}
    for index, level in enumerate(model.levels[:-1]):
        above = model.levels[index + 1]

        def context(inputs: dict[str, tf.Tensor], above=above, name=f"z{index + 2}") -> tf.Tensor:
            return above.condition(inputs[name])

        site = distributions.GaussianSite(level.config.dim)
        rasters[f"z{index + 1}"] = level.prior_network, site, level.config.shape, context
    return {
        f"{name}_{key}": function
        for name, raster in rasters.items()
        for key, function in _raster(inputs_of(model, name), jit_compile, *raster).items()
    }


def _raster(
    inputs: dict[str, tf.TensorSpec], jit_compile: bool, network: Any, site: Site, shape: tuple, context: Callable
) -> dict[str, Callable]:
    """The functions of one raster."""
    (height, width, channels), groups = shape, network.channel_groups
    # A batch of no inputs has its size from one all the same.
    inputs = {**inputs, "batch": tf.TensorSpec((), tf.int32)}

    def graph(function: Callable, *specs) -> Callable:
        traced = tf.function(function, autograph=False, jit_compile=jit_compile or None)
        traced.get_concrete_function(*specs)
        return traced

    if not network.reads_values:

        def begin_all(inputs):
            nothing = tf.zeros((inputs["batch"], *shape), site.dtype)
            return {"params": parameters(site, network(nothing, context=context(inputs)))}

        return {"begin": graph(begin_all, inputs)}
    nothing = tf.zeros((1, channels // groups), site.dtype)  # what the first location of a row is given
    # The nests that the lists are of: of the stepper, and of the states before each group and after the last. Between
    # the groups of a location a state holds what is known of it.
    nests: dict[Any, Any] = {}

    def step_on(stepper, state, last, column, group: int) -> dict[str, Any]:
        raw, nests[group + 1] = stepper.step(state, last, column, group)
        return {"params": parameters(site, raw), "state": _flat(nests[group + 1])}

    def begin(inputs):
        stepper = network.stepper(context(inputs), inputs["batch"], (height, width))
        nests.update({"constants": stepper, 0: stepper.start()})
        last = tf.repeat(nothing, inputs["batch"], axis=0)
        return {**step_on(stepper, nests[0], last, tf.constant(0), 0), "constants": _flat(stepper)}

    def specs(group: int) -> list[list[tf.TensorSpec]]:
        return [[tf.TensorSpec(x.shape, x.dtype) for x in _flat(nests[name])] for name in ("constants", group)]

    def step(group: int) -> Callable:
        of_state = nests[group]

        def run(constants, state, last, column):
            return step_on(_pack(nests["constants"], constants), _pack(of_state, state), last, column, group)

        return graph(run, *specs(group), tf.TensorSpec((None, channels // groups), site.dtype), scalar)

    def next_row(constants, state, finished, row):
        stepper = _pack(nests["constants"], constants)
        _, state = stepper.next_row(_pack(nests[0], state), finished, row)
        last = tf.repeat(nothing, tf.shape(finished)[0], axis=0)
        return step_on(stepper, state, last, tf.constant(0), 0)

    scalar, finished = tf.TensorSpec((), tf.int32), tf.TensorSpec((None, width, channels), site.dtype)
    graphs = {"begin": graph(begin, inputs)}
    graphs |= {f"step_{group}": step(group) for group in range(groups)}
    return {**graphs, "next_row": graph(next_row, *specs(0), finished, scalar)}


def _flat(nest: Any) -> list[tf.Tensor]:
    return [tensor for tensor in tf.nest.flatten(nest) if tensor is not None]


def _pack(nest: Any, tensors: list[tf.Tensor]) -> Any:
    """The nest that `_flat` took apart."""
    tensors = iter(tensors)
    return tf.nest.map_structure(lambda leaf: None if leaf is None else next(tensors), nest)
