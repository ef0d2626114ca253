"""A lossless codec: images in a file as large as the model's bound says.

from pixelvae_tf import codec
from pixelvae_tf.export.local import SavedModel

networks = SavedModel("models/digits").networks
content = codec.compress(networks, images).content  # uint8 [N, H, W, C]
same, labels = codec.decompress(networks, content)

docs/codec.md specifies the file.
"""

from pixelvae_tf.codec.chunks import Statistics
from pixelvae_tf.codec.files import Compressed, Options, compress, decompress
from pixelvae_tf.codec.networks import Networks
from pixelvae_tf.codec.waves import DamagedError

__all__ = ["Compressed", "DamagedError", "Networks", "Options", "Statistics", "compress", "decompress"]
