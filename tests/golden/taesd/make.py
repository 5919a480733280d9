#!/usr/bin/env python3
"""A small TAESD with random weights, and what PyTorch computes with it in f64: the goldens beside this script.

The published architecture (github.com/madebyollin/taesd): 3×3 convolutions, residual blocks of three of them, ReLU, a decoder that
begins with 3·tanh(x/3). Eight channels in place of 64, three levels in place of four. Needs torch and safetensors.
"""
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import nn

CHANNELS, LATENT = 8, 4
ENCODER_BLOCKS, DECODER_BLOCKS = (1, 2, 1), (2, 1, 1)


def conv(inputs, outputs, **more):
    return nn.Conv2d(inputs, outputs, 3, padding=1, **more)


class SoftClamp(nn.Module):
    def forward(self, x):
        return 3 * torch.tanh(x / 3)


class Residual(nn.Module):
    def __init__(self):
        super().__init__()
        c = CHANNELS
        self.conv = nn.Sequential(conv(c, c), nn.ReLU(), conv(c, c), nn.ReLU(), conv(c, c))

    def forward(self, x):
        return torch.relu(x + self.conv(x))


def encoder():
    layers = []
    for level, blocks in enumerate(ENCODER_BLOCKS):
        layers.append(conv(3, CHANNELS) if level == 0 else conv(CHANNELS, CHANNELS, stride=2, bias=False))
        layers += [Residual() for _ in range(blocks)]
    return nn.Sequential(*layers, conv(CHANNELS, LATENT))


def decoder():
    layers = [SoftClamp(), conv(LATENT, CHANNELS), nn.ReLU()]
    for level, blocks in enumerate(DECODER_BLOCKS):
        if level > 0:
            layers += [nn.Upsample(scale_factor=2), conv(CHANNELS, CHANNELS, bias=False)]
        layers += [Residual() for _ in range(blocks)]
    return nn.Sequential(*layers, conv(CHANNELS, 3))


def main():
    torch.manual_seed(1)
    folder = Path(__file__).parent
    halves = {"encoder": encoder(), "decoder": decoder()}
    for name, network in halves.items():
        with torch.no_grad():
            for p in network.parameters():  # exact in f16 and in bf16
                p.copy_((p * 2 * 1024).round().clamp(-127, 127) / 1024)
        save_file(network.state_dict(), folder / f"taesd_{name}.safetensors")
        network.double()
    image = torch.rand(1, 3, 24, 16, dtype=torch.float64).float()
    latents = 4 * torch.randn(1, LATENT, 5, 7)
    with torch.no_grad():
        outputs = {
            "encode.image": image,  # 0 … 1
            "encode.latents": halves["encoder"](image.double()).float(),
            "decode.latents": latents,
            "decode.image": halves["decoder"](latents.double()).float(),  # about 0 … 1
        }
    save_file({name: t.contiguous() for name, t in outputs.items()}, folder / "outputs.safetensors")


if __name__ == "__main__":
    main()
