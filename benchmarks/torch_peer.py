"""The Gated PixelVAE without upsampling in PyTorch, as a good user writes it; a worker of peers.py.

    python benchmarks/torch_peer.py MODEL.npz BATCH SAMPLES [--compile] [--bfloat16]

Cropped kernels, channels last, fused Adam. Sampling by a pass a pixel, and by a cache: the vertical stream row by row,
the horizontal one pixel by pixel from the last few of each block. Needs PyTorch and NumPy, and nothing of this package.

MODEL.npz holds the weights of ours by name, images, latents, and what ours makes of them: both compute the same.

Legend: B batch, C channels, H height, W width, D dimensions of a latent.
"""

import argparse
import sys

import numpy as np
import torch
import turns
from torch import nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize

LATENTS, FILTERS, LAYERS, SIDE = 16, 16, 12, 28
ORACLE_PIXELS = 8


def convolution(inputs: int, outputs: int, kernel=1, stride: int = 1, bias: bool = True) -> nn.Module:
    """A weight-normalised one, without padding."""
    return parametrizations.weight_norm(nn.Conv2d(inputs, outputs, kernel, stride, bias=bias))


def gate(x: torch.Tensor) -> torch.Tensor:
    """tanh(a) sigmoid(b) of the halves of the channels."""
    a, b = x.chunk(2, 1)
    return torch.tanh(a) * torch.sigmoid(b)


class ResidualDown(nn.Module):
    """A residual block at half the resolution, odd sides rounded up."""

    def __init__(self, inputs: int, outputs: int):
        super().__init__()
        self.first = convolution(inputs, outputs, 3, 2)
        self.second = convolution(outputs, outputs, 3)
        self.shortcut = convolution(inputs, outputs, 1, 2)

    def forward(self, x):
        """Maps x [B, C, H, W]."""
        before = x.shape[-1] % 2  # as TensorFlow pads
        y = F.elu(self.first(F.pad(F.elu(x), (before, 1, before, 1))))
        return self.second(F.pad(y, (1, 1, 1, 1))) + self.shortcut(x)


class GatedBlock(nn.Module):
    """Both streams; see `layers/gated.py` for the equations."""

    def __init__(self, inputs: int, size: int, first: bool, last: bool):
        super().__init__()
        self.reach, self.is_first = size // 2, first
        self.vertical = convolution(inputs, 2 * FILTERS, (self.reach + 1, size))
        self.horizontal = convolution(inputs, 2 * FILTERS, (1, self.reach + (not first)))
        self.vertical_to_horizontal = convolution(2 * FILTERS, 2 * FILTERS, bias=False)
        self.output_projection = convolution(FILTERS, FILTERS)
        self.horizontal_context = convolution(LATENTS, 2 * FILTERS, bias=False)
        self.vertical_context = None if last else convolution(LATENTS, 2 * FILTERS, bias=False)

    def forward(self, vertical, horizontal, z):
        """Maps both streams [B, C, H, W], given z [B, D, 1, 1]; the last block's vertical one is None."""
        reach = self.reach
        above = self.vertical(F.pad(vertical, (reach, reach, reach, 0)))
        y = self.horizontal(F.pad(horizontal, (reach, 0, 0, 0)))[..., : horizontal.shape[-1]]
        y = y + F.pad(self.vertical_to_horizontal(above), (0, 0, 1, 0))[:, :, :-1] + self.horizontal_context(z)
        y = self.output_projection(gate(y))
        y = y if self.is_first else y + horizontal
        return None if self.vertical_context is None else gate(above + self.vertical_context(z)), y


class GatedPixelVAE(nn.Module):
    """The whole model."""

    def __init__(self):
        super().__init__()
        self.stem = convolution(1, 32, 3)
        self.down = nn.ModuleList([ResidualDown(32, 32), ResidualDown(32, 64), ResidualDown(64, 64)])
        self.posterior_head = parametrizations.weight_norm(nn.Linear(64 * 16, 2 * LATENTS))
        self.blocks = nn.ModuleList(
            [GatedBlock(1, 7, True, False)]
            + [GatedBlock(FILTERS, 5, False, index == LAYERS - 1) for index in range(LAYERS)]
        )
        self.outputs = nn.ModuleList([convolution(FILTERS, 2 * FILTERS) for _ in range(2)])
        self.output_contexts = nn.ModuleList([convolution(LATENTS, 2 * FILTERS, bias=False) for _ in range(2)])
        self.params = convolution(FILTERS, 1)

    def encode(self, x):
        """Images in -1..1 -> means and raw scales, [B, D] each."""
        x = self.stem(F.pad(x, (1, 1, 1, 1)))
        for block in self.down:
            x = block(x)
        return self.posterior_head(F.elu(x).permute(0, 2, 3, 1).flatten(1)).chunk(2, 1)

    def head(self, y, z):
        """The horizontal stream -> logits."""
        for layer, context in zip(self.outputs, self.output_contexts, strict=True):
            y = gate(layer(y) + context(z))
        return self.params(y)

    def logits(self, x, z):
        """Logits [B, 1, H, W] of images in -1..1, given z [B, D]."""
        z, vertical, horizontal = z[:, :, None, None], x, x
        for block in self.blocks:
            vertical, horizontal = block(vertical, horizontal, z)
        return self.head(horizontal, z)

    def forward(self, images, normals):
        """The negative ELBO of images of 0 and 1, a mean over the batch."""
        mean, raw = self.encode(2 * images - 1)
        mean, sigma = mean.float(), F.softplus(raw.float()) + 1e-4
        logits = self.logits(2 * images - 1, mean + sigma * normals)
        nats = F.binary_cross_entropy_with_logits(logits.float(), images, reduction="sum")
        return (nats + 0.5 * (mean**2 + sigma**2 - 2 * sigma.log() - 1).sum()) / len(images)

    def load(self, weights: dict[str, np.ndarray]) -> None:
        """Takes the weights of ours, by their names."""
        places = {"level_1/encoder/stem": self.stem, "level_1/posterior_head": self.posterior_head}
        places |= {f"level_1/encoder/block_{i}": block for i, block in enumerate(self.down)}
        places |= {f"pixels/block_{i}": block for i, block in enumerate(self.blocks)}
        places |= {f"pixels/output_{i}/projection": layer for i, layer in enumerate(self.outputs)}
        places |= {f"pixels/output_{i}/context_projection": layer for i, layer in enumerate(self.output_contexts)}
        places["pixels/params"] = self.params
        for name, value in weights.items():
            prefix, rest = next((p, name[len(p) + 1 :]) for p in places if name.startswith(p + "/"))
            *parts, kind = rest.split("/")
            layer = places[prefix]
            for part in parts:
                layer = getattr(layer, part)
            weight = layer.parametrizations.weight
            value = torch.from_numpy(value)
            if kind == "v":  # [.., inputs, outputs] -> [outputs, inputs, ..]
                order = (3, 2, 0, 1) if value.ndim == 4 else (1, 0)
                weight.original1.data = value.permute(order).contiguous()
            elif kind == "g":
                weight.original0.data = value.reshape(weight.original0.shape)
            else:
                layer.bias.data = value


@torch.no_grad()
@parametrize.cached()
def sample_by_passes(model: GatedPixelVAE, z, uniforms, pixels: int = SIDE * SIDE):
    """A forward pass for each of the first `pixels`: values [B, 1, H, W]."""
    values = torch.zeros_like(uniforms)
    for index in range(pixels):
        row, column = divmod(index, SIDE)
        one = torch.sigmoid(model.logits(2 * values - 1, z)[:, :, row, column].float())
        values[:, :, row, column] = (uniforms[:, :, row, column] < one).float()
    return values


@torch.no_grad()
@parametrize.cached()
def sample_with_cache(model: GatedPixelVAE, z, uniforms):
    """The same from what is kept: the last rows of a block's vertical input, the last pixels of its horizontal one."""
    batch, context = len(z), z[:, :, None, None]
    values, blocks = torch.zeros_like(uniforms), model.blocks
    folded = [(block.horizontal.weight[:, :, 0].flatten(1), block.horizontal.bias) for block in blocks]
    projections = [(block.output_projection.weight[:, :, 0, 0], block.output_projection.bias) for block in blocks]
    from_z = [block.horizontal_context(context) for block in blocks]
    heads = [(layer.weight[:, :, 0, 0], layer.bias) for layer in model.outputs]
    head_z = [layer(context)[:, :, 0, 0] for layer in model.output_contexts]
    params = model.params.weight[:, :, 0, 0], model.params.bias
    inputs = [1] + [FILTERS] * LAYERS
    rows = [z.new_zeros(batch, c, b.reach + 1, SIDE) for c, b in zip(inputs, blocks, strict=True)]
    addends = [y.expand(-1, -1, 1, SIDE) for y in from_z]
    for row in range(SIDE):
        queues = [z.new_zeros(batch, c, w.shape[1] // c) for c, (w, _) in zip(inputs, folded, strict=True)]
        for column in range(SIDE):
            y = None
            for index, ((weight, bias), projection) in enumerate(zip(folded, projections, strict=True)):
                if index:  # the first block sees the pixels before alone
                    queues[index] = torch.cat([queues[index][..., 1:], y[..., None]], -1)
                h = F.linear(queues[index].flatten(1), weight, bias) + addends[index][:, :, 0, column]
                h = F.linear(gate(h), *projection)
                y = h + y if index else h
            for head, addend in zip(heads, head_z, strict=True):
                y = gate(F.linear(y, *head) + addend)
            drawn = (uniforms[:, :, row, column] < torch.sigmoid(F.linear(y, *params))).float()
            values[:, :, row, column] = drawn
            queues[0] = torch.cat([queues[0][..., 1:], 2 * drawn[..., None] - 1], -1)
        vertical = 2 * values[:, :, row : row + 1] - 1
        for index, block in enumerate(blocks):
            rows[index] = torch.cat([rows[index][:, :, 1:], vertical], 2)
            above = block.vertical(F.pad(rows[index], (block.reach, block.reach)))
            addends[index] = block.vertical_to_horizontal(above) + from_z[index]
            if block.vertical_context is not None:
                vertical = gate(above + block.vertical_context(context))
    return values


def check(model: GatedPixelVAE, given: dict[str, torch.Tensor]) -> None:
    """Ours and this one compute the same; so do both samplers.

    Raises:
      AssertionError: if not.
    """
    with torch.no_grad():
        x = 2 * given["images"] - 1
        log_prob = -F.binary_cross_entropy_with_logits(model.logits(x, given["z"]), given["images"], reduction="none")
        # Sums of 784 float32 numbers behind 13 layers.
        torch.testing.assert_close(log_prob.sum((1, 2, 3)), given["log_prob"], rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(model.encode(x)[0], given["mean"], rtol=1e-3, atol=1e-4)
        uniforms = torch.rand(given["images"].shape)
        naive = sample_by_passes(model, given["z"], uniforms, 2 * SIDE)[:, :, :2]
        assert (naive == sample_with_cache(model, given["z"], uniforms)[:, :, :2]).float().mean() > 0.99


def main() -> None:
    """Makes the calls and serves them."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("batch", type=int)
    parser.add_argument("samples", type=int)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--bfloat16", action="store_true")
    options = parser.parse_args()
    torch.manual_seed(0)
    with np.load(options.model) as file:
        arrays = dict(file)
    given = {name: torch.from_numpy(arrays.pop(name)) for name in ("images", "z", "log_prob", "mean")}
    given["images"] = given["images"].permute(0, 3, 1, 2).float()  # [B, H, W, C] -> [B, C, H, W]
    model = GatedPixelVAE()
    model.load(arrays)
    check(model, given)
    model = model.to(memory_format=torch.channels_last)
    batch, samples = options.batch, options.samples
    images = (torch.rand(batch, 1, SIDE, SIDE) < 0.2).float().to(memory_format=torch.channels_last)
    z, few_z, uniforms = torch.randn(batch, LATENTS), torch.randn(samples, LATENTS), torch.rand(samples, 1, SIDE, SIDE)
    optimizer = torch.optim.Adam(model.parameters(), 1e-6, fused=True)
    loss_of, logits_of = model, model.logits
    if options.compile:
        loss_of, logits_of = torch.compile(model), torch.compile(model.logits)
    precision = torch.autocast("cpu", torch.bfloat16, enabled=options.bfloat16)

    def step():
        optimizer.zero_grad(set_to_none=True)
        with precision:
            loss = loss_of(images, torch.randn(batch, LATENTS))
        loss.backward()
        optimizer.step()

    def forward():
        with torch.no_grad(), precision:
            logits_of(2 * images - 1, z)

    calls = {f"training step of {batch}": step, f"forward pass of {batch}": forward}
    if not (options.compile or options.bfloat16):
        calls[f"{ORACLE_PIXELS} pixels of {samples}, a pass each"] = lambda: sample_by_passes(
            model, few_z, uniforms, ORACLE_PIXELS
        )
        calls[f"sample of {samples}"] = lambda: sample_with_cache(model, few_z, uniforms)
    weights = sum(weight.numel() for weight in model.parameters())
    turns.serve(calls, weights=weights, version=f"PyTorch {torch.__version__}")


if __name__ == "__main__":
    sys.exit(main())
