"""Trains the UNet and the text encoder on the autoencoder's latents. `train_unet.py RUN_FOLDER` goes on from the folder's
last checkpoint. The latents of a fixed set of pictures are encoded once; their captions are made anew at every step."""
import argparse
import csv
import json
import os
import pickle
import random

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

import bpe
import world
from captions import caption
from common import AE_CONFIG, UNET_CONFIG, Checkpoint, Ema, Progress, Schedule, Team, adopt, has_bf16, log, set_rates, text_config
from modules import AutoencoderKL, CLIPTextModel, UNet2DConditionModel
from muon import optimizers_of

TRAIN_STEPS = 1000
SHEET_PROMPTS = [
    "a red boat under a yellow moon", "a blue circle to the left of a green square on white", "a purple star at night",
    "a pink house in a meadow", "three orange fish", "a white heart inside a red circle", "a large yellow moon at sea",
    "a brown tree above a red square on a grey background", "a large green triangle on cream",
    "a pink heart above a black boat at sunset", "a small blue fish and a big orange star", "a green moon at night",
]


def alphas_cumprod():
    betas = torch.linspace(0.00085 ** 0.5, 0.012 ** 0.5, TRAIN_STEPS, dtype=torch.float64) ** 2
    return torch.cumprod(1 - betas, 0).float()


def load_autoencoder(folder):
    model = AutoencoderKL(AE_CONFIG).to(memory_format=torch.channels_last).eval().requires_grad_(False)
    model.load_state_dict(torch.load(os.path.join(folder, "ae.pt"), weights_only=False)["ema"])
    return model


def scale_of(folder, latents):
    """What brings latents to a deviation of 1: measured once, then kept, as the UNet relies on it."""
    path = os.path.join(folder, "scale.json")
    if not os.path.exists(path):
        with open(path, "w") as f:
            json.dump(1.0 / float(latents.astype(np.float32).std()), f)
    with open(path) as f:
        return json.load(f)


def prepare_latents(folder, count, seed):
    """Encodes `count` pictures, or reads what an earlier run encoded."""
    path = os.path.join(folder, "latents.pkl")
    if os.path.exists(path):
        with open(path, "rb") as f:
            return pickle.load(f)
    model, rng = load_autoencoder(folder), random.Random(seed)
    specs = [world.sample(rng, held_out=False) for _ in range(count)]
    latents = np.empty((count, 4, world.SIZE // 8, world.SIZE // 8), np.float16)
    progress = Progress()
    for i in range(0, count, 64):
        pictures = np.stack([world.paint(s, rng.random()) for s in specs[i:i + 64]])
        x = torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1
        with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=has_bf16()):
            latents[i:i + 64] = model.encode(x.contiguous(memory_format=torch.channels_last))[0].float().numpy()
        progress.show(i // 64, i / count, "encoding")
    data = {"specs": specs, "latents": latents, "scale": scale_of(folder, latents)}
    with open(path + ".tmp", "wb") as f:
        pickle.dump(data, f)
    os.replace(path + ".tmp", path)
    return data


def make_tokenizer(folder, seed):
    path = os.path.join(folder, "merges.json")
    if not os.path.exists(path):
        rng = random.Random(seed)
        merges = bpe.learn([caption(rng, world.sample(rng)) for _ in range(20000)], 400)
        with open(path, "w") as f:
            json.dump(merges, f)
    with open(path) as f:
        return bpe.Tokenizer(json.load(f))


@torch.no_grad()
def sample(unet, text, tokenizer, prompts, alphas, seed=0, steps=25, guidance=4.0):
    """DDIM with guidance; latents."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(len(prompts), 4, world.SIZE // 8, world.SIZE // 8, generator=generator)
    context = text(torch.tensor([tokenizer("")] * len(prompts) + [tokenizer(p) for p in prompts]))
    times = [int(t) for t in np.linspace(TRAIN_STEPS - 1, 0, steps).round()]
    for i, t in enumerate(times):
        a, a_next = alphas[t], alphas[times[i + 1]] if i + 1 < steps else torch.tensor(1.0)
        v = unet(torch.cat([x, x]), torch.full((2 * len(prompts),), t), context).float()
        v = v[: len(prompts)] + guidance * (v[len(prompts):] - v[: len(prompts)])
        x0, eps = a.sqrt() * x - (1 - a).sqrt() * v, a.sqrt() * v + (1 - a).sqrt() * x
        x = a_next.sqrt() * x0 + (1 - a_next).sqrt() * eps
    return x


def write_sheet(path, autoencoder, latents, scale, columns=6):
    with torch.no_grad():
        y = autoencoder.decode(latents / scale).clamp(-1, 1)
    rows = [torch.cat([*y[i:i + columns]], 2) for i in range(0, len(y), columns)]
    Image.fromarray(((torch.cat(rows, 1).permute(1, 2, 0) + 1) * 127.5).round().byte().numpy()).save(path)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--init", metavar="MODEL", help="begin with the weights of this .sdw file or diffusers folder")
    parser.add_argument("--steps", type=int, default=14000)
    parser.add_argument("--minutes", type=float, help="instead of --steps: the time to spend, which the schedule follows")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--pictures", type=int, default=48000)
    parser.add_argument("--lr", type=float, default=0.02, help="of Muon's matrices")
    parser.add_argument("--lr-adam", type=float, default=2e-3, help="of all else")
    parser.add_argument("--dropout", type=float, default=0.1, help="captions left empty, for guidance")
    parser.add_argument("--threads", type=int, default=2, help="1 where others keep the cores busy: no thread then waits for another")
    parser.add_argument("--team", default="0/1", help="RANK/SIZE of this process among those that train together")
    parser.add_argument("--seed", type=int, default=2)
    args = parser.parse_args()
    if args.init:
        adopt(args.folder, args.init)
    torch.manual_seed(args.seed)
    torch.set_num_threads(args.threads)
    team = Team(args.team)

    data = prepare_latents(args.folder, args.pictures, args.seed)
    tokenizer, alphas, autoencoder = make_tokenizer(args.folder, args.seed), alphas_cumprod(), load_autoencoder(args.folder)
    unet = UNet2DConditionModel(UNET_CONFIG).to(memory_format=torch.channels_last)
    model = torch.nn.ModuleDict({"unet": unet, "text": CLIPTextModel(text_config(len(tokenizer)))})
    for name in model:
        log(f"{name}: {sum(p.numel() for p in model[name].parameters())} parameters")
    ema = Ema(model, 0.998)
    optimizers = optimizers_of(model, args.lr, args.lr_adam, ("unet.conv_in", "unet.conv_out", "embedding"))
    checkpoint = Checkpoint(os.path.join(args.folder, "unet.pt"))
    step, spent = checkpoint.load(model, ema, optimizers)
    latents, scale = torch.from_numpy(data["latents"]), data["scale"]
    empty = tokenizer("")

    schedule, progress, running = Schedule(args.steps, args.minutes, spent), Progress(), None
    at = schedule.at(step)
    while at < 1:
        rng = random.Random(args.seed * 1_000_003 + step)
        picked = [rng.randrange(len(latents)) for _ in range(args.batch)]
        ids = [empty if rng.random() < args.dropout else tokenizer(caption(rng, data["specs"][i])) for i in picked]
        x0 = latents[picked].float() * scale
        # One time in each of `batch` equal parts of the schedule: less noise in the loss than independent ones.
        t = ((torch.arange(args.batch) + torch.rand(args.batch)) * (TRAIN_STEPS / args.batch)).long().clamp(max=TRAIN_STEPS - 1)
        noise = torch.randn_like(x0)
        x0, t, noise, ids = (team.mine(values) for values in (x0, t, noise, torch.tensor(ids)))
        a = alphas[t][:, None, None, None]
        x, v = a.sqrt() * x0 + (1 - a).sqrt() * noise, a.sqrt() * noise - (1 - a).sqrt() * x0
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16()):
            context = model["text"](ids)
            out = model["unet"](x.contiguous(memory_format=torch.channels_last), t, context)
        loss = F.mse_loss(out.float(), v)
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
        loss.backward()
        at = team.average(model, schedule.at(step))
        set_rates(optimizers, step, at)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            optimizer.step()
        ema.update(model, step)
        step += 1
        if team.rank > 0:
            continue
        running = loss.item() if running is None else 0.98 * running + 0.02 * loss.item()
        progress.show(step, at, f"loss {running:.4f}")
        last = at >= 1
        if step % 50 == 0:
            with open(os.path.join(args.folder, "unet_log.csv"), "a", newline="") as f:
                csv.writer(f).writerow([step, f"{schedule.spent():.0f}", f"{running:.5f}"])
        if step % 500 == 0 or last:
            z = sample(ema.model["unet"], ema.model["text"], tokenizer, SHEET_PROMPTS, alphas)
            write_sheet(os.path.join(args.folder, f"unet_{step:06d}.png"), autoencoder, z, scale)
        checkpoint.save(step, schedule.spent(), model, ema, optimizers, force=last)


if __name__ == "__main__":
    main()
