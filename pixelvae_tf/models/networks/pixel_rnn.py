"""PixelRNN (van den Oord et al. 2016a): residual blocks of an LSTM of h units, 1x1 to 2 h (figure 5)."""

from typing import Any, ClassVar, Literal

from pixelvae_tf.fields import config_dataclass, count
from pixelvae_tf.limits import MAX_LAYERS
from pixelvae_tf.models.networks.base import MAX_KERNEL, OneStreamConfig, register


@config_dataclass
class _PixelRNNConfig(OneStreamConfig):
    """What both share."""

    # TensorFlow cannot hand a scan's list of states from a compiled function to its compiled gradient.
    compiles: ClassVar[bool] = False
    num_layers: int = count(7, most=MAX_LAYERS)

    def make_lstm(self, **options: Any) -> Any:
        """The LSTM of a block."""
        raise NotImplementedError(f"{type(self).__name__} must have make_lstm")

    def make_block(self, name: str, groups: int) -> list:
        """The LSTM and 1x1."""
        from pixelvae_tf import layers

        return [
            self.make_lstm(groups=groups, name=f"{name}_lstm"),
            layers.HorizontalConv2D(2 * self.filters, 1, groups=groups, name=f"{name}_out"),
        ]


@register
@config_dataclass
class RowLSTMConfig(_PixelRNNConfig):
    """PixelRNN with Row LSTM layers (2016a): h units, 2 h channels between the layers.

    Attributes:
      kernel_size: k of the 1 x k kernels, input to state and state to state.
    """

    network: Literal["row_lstm"] = "row_lstm"
    kernel_size: int = count(3, 1, MAX_KERNEL)

    def make_lstm(self, **options: Any) -> Any:
        """A Row LSTM."""
        from pixelvae_tf import layers

        return layers.RowLSTM(self.filters, kernel_size=self.kernel_size, **options)


@register
@config_dataclass
class DiagonalBiLSTMConfig(_PixelRNNConfig):
    """PixelRNN with Diagonal BiLSTM layers (2016a): h units, 2 h channels between the layers."""

    network: Literal["diagonal_bilstm"] = "diagonal_bilstm"

    def make_lstm(self, **options: Any) -> Any:
        """A Diagonal BiLSTM."""
        from pixelvae_tf import layers

        return layers.DiagonalBiLSTM(self.filters, **options)
