"""Batch t is a pure function of (seed, t): nothing about the data ever needs a checkpoint.

Training walks through an endless stream of positions. Position p is image `p mod N` of epoch `p // N`,
in an order that `RandomIndexShuffle` makes from (seed, epoch) without holding it in memory. Every position
also has its own noise seed. So one device, many replicas and a resumed run all see the same images
with the same noise, and replicas differ in noise because they differ in images.
"""

from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from pixelvae_tf import noise
from pixelvae_tf.data.sources import ImageSet

# Rounds of the shuffling cipher. After the operation's default of 4, batches of 1,000 images hold neighbours and
# epochs of 50,000 resemble each other; after 12 neither can be told from chance.
SHUFFLE_ROUNDS = 16


def check_batch_size(batch_size: int, replicas: int) -> None:
    """Raises a ValueError if the replicas do not divide the batch."""
    if batch_size % replicas:
        raise ValueError(
            "train.batch_size must be a multiple of the number of replicas, so that each gets as many images. "
            f"Received: train.batch_size={batch_size}, replicas={replicas}"
        )


def training_batches(
    image_set: ImageSet,
    batch_size: int,
    seed: int,
    start_step: int = 0,
    input_context: tf.distribute.InputContext | None = None,
    mutation: float = 0.0,
) -> tf.data.Dataset:
    """The endless batches of training, from step `start_step` on.

    Args:
      image_set: where the images are.
      batch_size: images of a step, over all replicas.
      seed: for the order and the noise.
      start_step: first step.
      input_context: which share of each step this worker reads; None for all.
      mutation: the share of the channels' values that is replaced by values drawn evenly, of each image and time anew.

    Returns:
      Elements {"images": uint8 [b, H, W, C], "seeds": int64 [b]}, with "labels": int64 [b] where the set has them,
      one element for each replica and step, in that order. Of a dynamically binarized set the values are drawn anew
      each time.

    Raises:
      ValueError: if the replicas do not divide the batch.
    """
    context = input_context or tf.distribute.InputContext()
    replicas = context.num_replicas_in_sync
    check_batch_size(batch_size, replicas)
    share = batch_size // replicas
    local = replicas // context.num_input_pipelines
    num_images = len(image_set.images)
    take = _taker(image_set)

    def element(index: tf.Tensor) -> dict[str, tf.Tensor]:
        step, replica = start_step + index // local, index % local + context.input_pipeline_id * local
        position = step * batch_size + replica * share + tf.range(share, dtype=tf.int64)
        epoch = position // num_images
        # The raw op: tf.random.experimental.index_shuffle (2.21) pads a matrix of seeds along the wrong axis.
        shuffled = tf.raw_ops.RandomIndexShuffle(
            index=position % num_images,
            seed=tf.stack([tf.zeros_like(epoch), tf.fill([share], tf.constant(seed, tf.int64)), epoch], axis=1),
            max_index=tf.constant(num_images - 1, tf.int64),
            rounds=SHUFFLE_ROUNDS,
        )
        taken, seeds = take(shuffled), noise.derive_seeds(seed, position)
        if image_set.grey is not None:
            taken["images"] = _binarize(taken["images"], seeds)
        if mutation:
            taken["images"] = _mutate(taken["images"], seeds, image_set.num_values, mutation)
        return {**taken, "seeds": seeds}

    dataset = tf.data.Dataset.range(np.iinfo(np.int64).max)
    return dataset.map(element, num_parallel_calls=2, deterministic=True).prefetch(4)


def _binarize(grey: tf.Tensor, seeds: tf.Tensor) -> tf.Tensor:
    """Binary images [b, H, W, C], each value 1 with the probability grey / 255."""
    drawn = noise.uniform(seeds, noise.stream(noise.Kind.BINARIZATION), grey.shape[1:])
    return tf.cast(255.0 * drawn < tf.cast(grey, drawn.dtype), grey.dtype)


def _mutate(images: tf.Tensor, seeds: tf.Tensor, num_values: int, share: float) -> tf.Tensor:
    """Images [b, H, W, C] with a share of their values drawn anew, evenly (Ren et al. 2019, section 3.1)."""
    chosen, drawn = (noise.uniform(seeds, noise.stream(noise.Kind.MUTATION, draw=k), images.shape[1:]) for k in (0, 1))
    return tf.where(chosen < share, tf.cast(drawn * num_values, images.dtype), images)


def _taker(image_set: ImageSet) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """A graph function from indices [b] to images, with their labels if there are any."""
    images = image_set.images if image_set.grey is None else image_set.grey
    arrays = {} if image_set.labels is None else {"labels": tf.constant(image_set.labels)}
    if isinstance(images, np.ndarray):
        arrays["images"] = tf.constant(images)

    def take(places: tf.Tensor) -> dict[str, tf.Tensor]:
        taken = {name: tf.gather(array, places) for name, array in arrays.items()}
        if "images" not in taken:
            read = tf.numpy_function(images.__getitem__, [places], tf.uint8, stateful=False)
            taken["images"] = tf.ensure_shape(read, (places.shape[0], *images.shape[1:]))
        return taken

    return take


def even_batch_size(num_images: int, largest: int, replicas: int = 1) -> int:
    """The batch size for the fewest batches of a split, so even that the last one needs few copies.

    Args:
      num_images: the number of images in the split.
      largest: the size that is allowed.
      replicas: what the size is a multiple of; rounding up to it may go beyond the largest.
    """
    num_batches = -(-num_images // largest)
    size = -(-num_images // num_batches)
    return -(-size // replicas) * replicas


def evaluation_batches(image_set: ImageSet, batch_size: int, seed: int) -> Iterator[dict[str, np.ndarray]]:
    """A split in its order, once. An image's seed does not depend on the batch it is in.

    Args:
      image_set: the split.
      batch_size: images of a batch.
      seed: for the noise.

    Yields:
      {"images": uint8 [batch_size, H, W, C], "seeds": int64 [batch_size], "real": bool [batch_size]}, with
      "labels": int64 [batch_size] where the set has them; the last batch is filled up with copies of the last image,
      which are not `real`.
    """
    num_images = len(image_set.images)
    for start in range(0, num_images, batch_size):
        positions = np.arange(start, start + batch_size, dtype=np.int64)
        indices = np.minimum(positions, num_images - 1)
        labels = {} if image_set.labels is None else {"labels": image_set.labels[indices]}
        yield {
            **labels,
            "images": image_set.images[indices],
            "seeds": noise.derive_seeds(seed, tf.constant(positions)).numpy(),
            "real": positions < num_images,
        }
