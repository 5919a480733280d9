"""What the training programs share: configurations, checkpoints, logs."""
import copy
import json
import math
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

    def load(self, model, ema, optimizers):
        """(steps done, seconds spent). A checkpoint that came from a shipped model has no optimizers' states: they begin anew."""
        if not os.path.exists(self.path):
            return 0, 0.0
        state = torch.load(self.path, weights_only=False)
        model.load_state_dict(state["model"])
        ema.model.load_state_dict(state["ema"])
        for optimizer, saved in zip(optimizers, state["optimizers"]):
            optimizer.load_state_dict(saved)
        log(f"going on from step {state['step']}")
        return state["step"], state["spent"]

    def save(self, step, spent, model, ema, optimizers, force=False):
        if not force and time.time() - self.last < self.seconds:
            return
        write_checkpoint(self.path, step, spent, model.state_dict(), ema.model.state_dict(), [o.state_dict() for o in optimizers])
        self.last = time.time()


def write_checkpoint(path, step, spent, model, ema, optimizers):
    torch.save({"step": step, "spent": spent, "model": model, "ema": ema, "optimizers": optimizers}, path + ".tmp")
    os.replace(path + ".tmp", path)


def adopt(folder, model):
    """Fills a run folder from a model that ships: whatever the folder lacks of checkpoints, tokenizer and scale of latents."""
    import bpe
    from sdw import read_model
    weights, texts = read_model(model)
    both = {f"{ours}.{k}": v for ours, theirs in (("unet", "unet"), ("text", "text_encoder")) for k, v in weights[theirs].items()}
    for name, state in (("ae.pt", weights["vae"]), ("unet.pt", both)):
        path = os.path.join(folder, name)
        if not os.path.exists(path):
            write_checkpoint(path, 0, 0.0, state, state, [])
    for name, value in (("scale.json", json.loads(texts["vae/config.json"])["scaling_factor"]),
                        ("merges.json", bpe.read_merges(texts["tokenizer/merges.txt"]))):
        path = os.path.join(folder, name)
        if not os.path.exists(path):
            with open(path, "w") as f:
                json.dump(value, f)


class Progress:
    """One line that is rewritten on a terminal, a line now and then otherwise."""

    def __init__(self, every=100):
        self.every, self.start, self.first = every, time.time(), None

    def show(self, step, at, text):
        """at: how much of the whole is done, 0 to 1."""
        if self.first is None:
            self.first, self.first_at, self.start = step, at, time.time()
        seconds = time.time() - self.start
        left = (1 - at) * seconds / max(at - self.first_at, 1e-9) / 60
        line = f"step {step} {100 * at:.1f} % {(step - self.first) / max(seconds, 1e-9):.2f} steps/s {left:.0f} min left  {text}"
        if sys.stdout.isatty():
            print("\r" + line, end="", flush=True)
        elif step % self.every == 0:
            log(line)


class Schedule:
    """How far a run is, from 0 to 1: by steps, or by minutes of training where a deadline counts. Rates follow it."""

    def __init__(self, steps, minutes, spent=0.0):
        self.steps, self.minutes, self.start = steps, minutes, time.time() - spent

    def spent(self):
        """Seconds trained, earlier sittings included."""
        return time.time() - self.start

    def at(self, step):
        return min(1.0, self.spent() / (60 * self.minutes) if self.minutes else step / self.steps)


def set_rates(optimizers, step, at, warmup=100, floor=0.002):
    """Each group's peak × a linear rise over `warmup` steps × half a cosine down to `floor` at `at` = 1."""
    factor = min(1.0, (step + 1) / warmup) * (floor + (1 - floor) * 0.5 * (1 + math.cos(math.pi * at)))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group.setdefault("peak", group["lr"]) * factor


class Team:
    """Processes that train one model, each on its part of every batch: `--team RANK/SIZE`, rank 0 keeps the books. With one
    thread each they wait for each other once a step, where threads do so at every loop."""

    def __init__(self, text):
        self.rank, self.size = (int(x) for x in text.split("/"))
        if self.size > 1:
            torch.distributed.init_process_group("gloo", init_method="tcp://127.0.0.1:29517", rank=self.rank, world_size=self.size)

    def mine(self, values):
        return values[self.rank::self.size]

    def average(self, model, at):
        """Gradients, in place, and how far the run is, so that all take the same step."""
        if self.size == 1:
            return at
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        flat = torch.cat([torch.tensor([at]), *(g.flatten() for g in gradients)])
        torch.distributed.all_reduce(flat)
        flat /= self.size
        for g, part in zip(gradients, flat[1:].split([g.numel() for g in gradients])):
            g.copy_(part.view_as(g))
        return flat[0].item()


def has_bf16():
    """Whether this processor multiplies in bf16; elsewhere autocast would only be slower."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def text_config(vocabulary):
    import bpe
    return {
        "architectures": ["CLIPTextModel"], "model_type": "clip_text_model", "hidden_act": "quick_gelu", "hidden_size": 128,
        "intermediate_size": 512, "num_attention_heads": 4, "num_hidden_layers": 3, "max_position_embeddings": bpe.LENGTH,
        "layer_norm_eps": 1e-05, "projection_dim": 128, "vocab_size": vocabulary, "bos_token_id": vocabulary - 2,
        "eos_token_id": vocabulary - 1, "pad_token_id": vocabulary - 1,
    }
