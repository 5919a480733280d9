"""Muon: momentum whose matrices are made orthogonal before they become a step, for kernels and linear layers; AdamW for the rest.

K. Jordan and others, "Muon: An optimizer for hidden layers in neural networks" (2024). A kernel out × in × h × w counts as a
matrix out × (in·h·w). Five Newton-Schulz iterations of degree 5 bring all singular values near to 1; the coefficients are that
article's, which trade exactness for speed at small values.
"""
import torch

from common import has_bf16

COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonal(m, iterations=5):
    """Nearly U·Vᵀ of m = U·S·Vᵀ, batched over leading dimensions."""
    a, b, c = COEFFICIENTS
    tall = m.shape[-2] > m.shape[-1]
    x = m.mT if tall else m
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    x = x.bfloat16() if has_bf16() else x  # whose rounding these coefficients bear
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(m.dtype)


class Muon(torch.optim.Optimizer):
    """The decay bounds a matrix's norm by 1 / decay, and with it the logits of attention, which nothing else holds."""

    def __init__(self, parameters, lr, momentum=0.95, weight_decay=0.05):
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            by_shape = {}
            for p in group["params"]:
                if p.grad is None:
                    continue
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                step = p.grad.lerp(state["momentum"], group["momentum"])  # Nesterov's
                by_shape.setdefault(p.shape, []).append((p, step.flatten(1)))
            for members in by_shape.values():  # equal shapes at once
                steps = orthogonal(torch.stack([s for _, s in members]))
                scale = max(1.0, steps.shape[-2] / steps.shape[-1]) ** 0.5
                for (p, _), s in zip(members, steps):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).add_(s.view(p.shape), alpha=-group["lr"] * scale)


def optimizers_of(model, lr_muon, lr_adam, first_and_last):
    """One of each kind. `first_and_last`: names of layers whose matrices meet pixels, latents or tokens, and go to AdamW."""
    matrices, others = [], []
    for name, p in model.named_parameters():
        if p.requires_grad:
            (matrices if p.ndim >= 2 and not any(part in name for part in first_and_last) else others).append(p)
    return [Muon(matrices, lr_muon), torch.optim.AdamW(others, lr=lr_adam, betas=(0.9, 0.99), weight_decay=1e-4)]
