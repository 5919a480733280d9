"""What the training programs share: configurations, checkpoints, logs."""
import copy
import os
import sys
import time

import torch

AE_CONFIG = {
    "_class_name": "AutoencoderKL", "act_fn": "silu", "block_out_channels": [32, 48, 64, 80],
    "down_block_types": ["DownEncoderBlock2D"] * 4, "up_block_types": ["UpDecoderBlock2D"] * 4,
    "in_channels": 3, "out_channels": 3, "latent_channels": 4, "layers_per_block": 1, "norm_num_groups": 8,
    "mid_block_add_attention": False, "sample_size": 128, "scaling_factor": 1.0,
}
UNET_CONFIG = {
    "_class_name": "UNet2DConditionModel", "act_fn": "silu", "attention_head_dim": [4, 5], "block_out_channels": [64, 120],
    "center_input_sample": False, "cross_attention_dim": 128, "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
    "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"], "downsample_padding": 1, "flip_sin_to_cos": True, "freq_shift": 0,
    "in_channels": 4, "out_channels": 4, "layers_per_block": 1, "mid_block_scale_factor": 1, "norm_eps": 1e-05,
    "norm_num_groups": 8, "sample_size": 16, "use_linear_projection": True,
}


def log(message):
    print(message, flush=True)


class Ema:
    """The running average of a model's weights that is tested and shipped."""

    def __init__(self, model, decay):
        self.model, self.decay = copy.deepcopy(model).eval().requires_grad_(False), decay

    def update(self, model, step):
        decay = min(self.decay, (step + 1) / (step + 10))
        with torch.no_grad():
            torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - decay)


class Checkpoint:
    """Everything a run needs to go on, in one file, replaced as a whole every few minutes."""

    def __init__(self, path, seconds=180):
        self.path, self.seconds, self.last = path, seconds, time.time()

    def load(self):
        return torch.load(self.path, weights_only=False) if os.path.exists(self.path) else None

    def save(self, state, force=False):
        if not force and time.time() - self.last < self.seconds:
            return
        torch.save(state, self.path + ".tmp")
        os.replace(self.path + ".tmp", self.path)
        self.last = time.time()


class Progress:
    """One line that is rewritten on a terminal, a line now and then otherwise."""

    def __init__(self, total, every=100):
        self.total, self.every, self.start, self.first = total, every, time.time(), None

    def show(self, step, text):
        if self.first is None:
            self.first, self.start = step, time.time()
        done = step - self.first
        rate = done / max(time.time() - self.start, 1e-9)
        left = (self.total - step) / rate / 60 if done else 0
        line = f"{step}/{self.total} {rate:.2f} steps/s {left:.0f} min left  {text}"
        if sys.stdout.isatty():
            print("\r" + line, end="", flush=True)
        elif step % self.every == 0:
            log(line)


def learning_rate(step, total, peak, warmup=200, floor=0.02):
    import math
    if step < warmup:
        return peak * (step + 1) / warmup
    at = min(1.0, (step - warmup) / max(1, total - warmup))
    return peak * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * at)))


def text_config(vocabulary):
    import bpe
    return {
        "architectures": ["CLIPTextModel"], "model_type": "clip_text_model", "hidden_act": "quick_gelu", "hidden_size": 128,
        "intermediate_size": 512, "num_attention_heads": 4, "num_hidden_layers": 3, "max_position_embeddings": bpe.LENGTH,
        "layer_norm_eps": 1e-05, "projection_dim": 128, "vocab_size": vocabulary, "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1, "pad_token_id": vocabulary - 1,
    }
