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
from common import AE_CONFIG, Checkpoint, Ema, Progress, Schedule, adopt, has_bf16, log, set_rates
from modules import AutoencoderKL
from muon import optimizers_of

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
    parser.add_argument("--init", metavar="MODEL", help="begin with the weights of this .sdw file or diffusers folder")
    parser.add_argument("--decoder-only", action="store_true", help="leave the latents as they are, and a UNet that was trained on them valid")
    parser.add_argument("--steps", type=int, default=6000)
    parser.add_argument("--minutes", type=float, help="instead of --steps: the time to spend, which the schedule follows")
    parser.add_argument("--whole-from", type=float, default=0.85, help="from this part of the run on, whole pictures")
    parser.add_argument("--crops", type=int, default=8)
    parser.add_argument("--lr", type=float, default=0.02, help="of Muon's matrices")
    parser.add_argument("--lr-adam", type=float, default=2e-3, help="of all else")
    parser.add_argument("--threads", type=int, default=2, help="1 where others keep the cores busy: no thread then waits for another")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    os.makedirs(args.folder, exist_ok=True)
    if args.init:
        adopt(args.folder, args.init)
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)

    model = AutoencoderKL(AE_CONFIG).to(memory_format=torch.channels_last)
    if args.decoder_only:
        model.encoder.requires_grad_(False)
        model.quant_conv.requires_grad_(False)
    ema = Ema(model, 0.998)
    optimizers = optimizers_of(model, args.lr, args.lr_adam, ("encoder.conv_in", "decoder.conv_out", "quant_conv"))
    checkpoint = Checkpoint(os.path.join(args.folder, "ae.pt"))
    step, spent = checkpoint.load(model, ema, optimizers)
    log(f"{sum(p.numel() for p in model.parameters())} parameters")

    schedule, progress = Schedule(args.steps, args.minutes, spent), Progress()
    while schedule.at(step) < 1:
        rng = random.Random(args.seed * 1_000_003 + step)  # a step's pictures do not depend on interruptions
        whole = schedule.at(step) >= args.whole_from
        x = batch(rng, 4 if whole else args.crops, whole)
        set_rates(optimizers, step, schedule.at(step))
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16()):
            mean, logvar = model.encode(x)
            z = mean + (0.5 * logvar.float()).exp() * torch.randn(mean.shape)
            y = model.decode(z)
        loss = loss_of(x, y.float(), mean.float(), logvar.float())
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        ema.update(model, step)
        progress.show(step, schedule.at(step), f"loss {loss.item():.4f}")
        step += 1
        last = schedule.at(step) >= 1
        if step % 250 == 0 or last:
            sheet = step % 1000 == 0 or last
            db = evaluate(ema.model, folder=args.folder if sheet else None, name=f"ae_{step:06d}.png")
            log(f"step {step}: {db:.2f} dB, latent deviation {mean.float().std().item():.3f}")
            with open(os.path.join(args.folder, "ae_log.csv"), "a", newline="") as f:
                csv.writer(f).writerow([step, f"{schedule.spent():.0f}", f"{loss.item():.5f}", f"{db:.3f}"])
        checkpoint.save(step, schedule.spent(), model, ema, optimizers, force=last)


if __name__ == "__main__":
    main()
