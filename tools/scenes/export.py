"""Writes a run as a folder in the diffusers layout, in f16: `export.py RUN_FOLDER OUT_FOLDER`. sdconvert makes a .sdw of it."""
import argparse
import json
import os

import torch
from safetensors.torch import save_file

import bpe
from common import AE_CONFIG, UNET_CONFIG, text_config

SCHEDULER = {
    "_class_name": "DPMSolverMultistepScheduler", "algorithm_type": "dpmsolver++", "beta_end": 0.012, "beta_schedule": "scaled_linear",
    "beta_start": 0.00085, "clip_sample": False, "num_train_timesteps": 1000, "prediction_type": "v_prediction",
    "set_alpha_to_one": False, "solver_order": 2, "steps_offset": 1, "timestep_spacing": "trailing", "trained_betas": None,
}
INDEX = {
    "_class_name": "StableDiffusionPipeline", "scheduler": ["diffusers", "DPMSolverMultistepScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"], "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"], "vae": ["diffusers", "AutoencoderKL"],
    "safety_checker": [None, None], "feature_extractor": [None, None],
}
GENERATION = {"num_inference_steps": 20, "guidance_scale": 3.0}  # what a request leaves open; see docs/weight-format.md


def write_json(folder, name, value):
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "w") as f:
        json.dump(value, f, indent=1)


def save(state, folder, name, config):
    write_json(folder, "config.json", config)
    save_file({k: v.to(torch.float16).contiguous() for k, v in state.items()}, os.path.join(folder, name))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run")
    parser.add_argument("out")
    args = parser.parse_args()
    read = lambda name: os.path.join(args.run, name)
    ae = torch.load(read("ae.pt"), weights_only=False)["ema"]
    with open(read("scale.json")) as f:
        scale = json.load(f)
    with open(read("merges.json")) as f:
        tokenizer = bpe.Tokenizer(json.load(f))
    state = torch.load(read("unet.pt"), weights_only=False)["ema"]
    part = lambda name: {k[len(name) + 1:]: v for k, v in state.items() if k.startswith(name + ".")}
    weights = "diffusion_pytorch_model.safetensors"
    save(ae, os.path.join(args.out, "vae"), weights, {**AE_CONFIG, "scaling_factor": scale})
    save(part("unet"), os.path.join(args.out, "unet"), weights, UNET_CONFIG)
    save(part("text"), os.path.join(args.out, "text_encoder"), "model.safetensors", text_config(len(tokenizer)))
    tokenizer.save(os.path.join(args.out, "tokenizer"))
    write_json(os.path.join(args.out, "scheduler"), "scheduler_config.json", SCHEDULER)
    write_json(args.out, "model_index.json", INDEX)
    write_json(args.out, "generation_config.json", GENERATION)


if __name__ == "__main__":
    main()
