"""Trains the autoencoder. Crops first (four times as many steps a second), whole pictures at the end, whose statistics the
group norms will see. `train_ae.py RUN_FOLDER` goes on from the folder's last checkpoint."""
import argparse
import csv
import os
import random

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

import world
from common import AE_CONFIG, Checkpoint, Ema, Progress, learning_rate, log
from modules import AutoencoderKL

CROP = 64


def batch(rng, count, whole):
    """count × 3 × side × side in [-1, 1]; crops lie mostly around things, where the edges are."""
    pictures = []
    for _ in range(count):
        spec = world.sample(rng, held_out=False)
        p = world.paint(spec, rng.random())
        if not whole:
            if rng.random() < 0.8:
                o = rng.choice(spec["objects"])
                x, y = (int((o[k] + rng.uniform(-0.25, 0.25)) * world.SIZE) - CROP // 2 for k in "xy")
            else:
                x, y = rng.randrange(world.SIZE), rng.randrange(world.SIZE)
            x, y = (min(max(v, 0), world.SIZE - CROP) // 8 * 8 for v in (x, y))
            p = p[y:y + CROP, x:x + CROP]
        pictures.append(p)
    x = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
    return x.contiguous(memory_format=torch.channels_last)


def loss_of(x, y, mean, logvar):
    """Absolute and square error; the error of 8×8 averages, so that colours are right; that of gradients, so that edges are."""
    d = y - x
    gradient = (d[..., 1:] - d[..., :-1]).abs().mean() + (d[:, :, 1:] - d[:, :, :-1]).abs().mean()
    kl = 0.5 * (mean.square() + logvar.exp() - 1 - logvar).mean()
    return d.abs().mean() + 4 * d.square().mean() + F.avg_pool2d(d, 8).abs().mean() + 0.5 * gradient + 3e-4 * kl


def psnr(x, y):
    """In dB, picture by picture, of 8-bit values."""
    d = ((x - y.clamp(-1, 1)) * 0.5).square().mean((1, 2, 3))
    return float((-10 * d.log10()).mean())


def evaluate(model, count=48, folder=None, name=None):
    rng = random.Random(12345)
    x = batch(rng, count, whole=True)
    with torch.no_grad():
        y = torch.cat([model.decode(model.encode(part)[0]) for part in x.split(8)])
    if folder:
        rows = [torch.cat([*x[i:i + 8], ], 2) if k == 0 else torch.cat([*y[i:i + 8].clamp(-1, 1)], 2)
                for i in range(0, 24, 8) for k in (0, 1)]
        sheet = ((torch.cat(rows, 1).permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()
        Image.fromarray(sheet).save(os.path.join(folder, name))
    return psnr(x, y)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--steps", type=int, default=11000)
    parser.add_argument("--whole-from", type=float, default=0.85, help="from this part of the steps on, whole pictures")
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    os.makedirs(args.folder, exist_ok=True)
    torch.manual_seed(args.seed)
    torch.set_num_threads(2)

    model = AutoencoderKL(AE_CONFIG).to(memory_format=torch.channels_last)
    ema = Ema(model, 0.999)
    optimizer = torch.optim.AdamW(model.parameters(), lr=args.lr, betas=(0.9, 0.99), weight_decay=1e-4)
    checkpoint = Checkpoint(os.path.join(args.folder, "ae.pt"))
    start = 0
    if state := checkpoint.load():
        start = state["step"]
        model.load_state_dict(state["model"])
        ema.model.load_state_dict(state["ema"])
        optimizer.load_state_dict(state["optimizer"])
        log(f"going on from step {start}")
    log(f"{sum(p.numel() for p in model.parameters())} parameters")

    progress = Progress(args.steps)
    for step in range(start, args.steps):
        rng = random.Random(args.seed * 1_000_003 + step)  # a step's pictures do not depend on interruptions
        whole = step >= args.whole_from * args.steps
        x = batch(rng, 4 if whole else 16, whole)
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps, args.lr)
        with torch.autocast("cpu", torch.bfloat16):
            mean, logvar = model.encode(x)
            z = mean + (0.5 * logvar.float()).exp() * torch.randn(mean.shape)
            y = model.decode(z)
        loss = loss_of(x, y.float(), mean.float(), logvar.float())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        ema.update(model, step)
        progress.show(step, f"loss {loss.item():.4f}")
        done = step + 1
        if done % 500 == 0:
            sheet = done % 2000 == 0
            db = evaluate(ema.model, folder=args.folder if sheet else None, name=f"ae_{done:06d}.png")
            log(f"step {done}: {db:.2f} dB, latent deviation {mean.float().std().item():.3f}")
            with open(os.path.join(args.folder, "ae_log.csv"), "a", newline="") as f:
                csv.writer(f).writerow([done, f"{loss.item():.5f}", f"{db:.3f}"])
        state = {"step": done, "model": model.state_dict(), "ema": ema.model.state_dict(), "optimizer": optimizer.state_dict()}
        checkpoint.save(state, force=done == args.steps)


if __name__ == "__main__":
    main()
