"""A model's config files, and random inputs of the shapes that they ask for. NumPy alone: an engine whose memory is measured
must not carry another one's libraries."""

import json
import pathlib

import numpy

TOKENS = 77
SIZES_OF_XL = 6  # original size, crop, target size


def read_config(configs, component):
    return json.loads((pathlib.Path(configs) / component / "config.json").read_text())


def has(configs, component):
    return (pathlib.Path(configs) / component / "config.json").exists()


def inputs(configs, part, size, batch=2):
    """Inputs of the part ("text", "step" or "decode") for pictures of `size` pixels, by name; with guidance `batch` is 2."""
    generator = numpy.random.default_rng(1)
    normal = lambda *shape: generator.standard_normal(shape, dtype=numpy.float32)
    vae, unet = read_config(configs, "vae"), read_config(configs, "unet")
    latent = size >> (len(vae["block_out_channels"]) - 1)
    if part == "text":
        vocabulary = read_config(configs, "text_encoder")["vocab_size"]
        return {"ids": generator.integers(0, vocabulary - 1, (batch, TOKENS))}
    if part == "decode":
        return {"latents": normal(1, vae["latent_channels"], latent, latent)}
    named = {
        "sample": normal(batch, unet["in_channels"], latent, latent),
        "timestep": numpy.array([500.0], dtype=numpy.float32),
        "context": normal(batch, TOKENS, unet["cross_attention_dim"]),
    }
    if unet.get("addition_embed_type") == "text_time":
        pooled = unet["projection_class_embeddings_input_dim"] - SIZES_OF_XL * unet["addition_time_embed_dim"]
        named["pooled"] = normal(batch, pooled)
        named["sizes"] = numpy.array([[size, size, 0, 0, size, size]] * batch, dtype=numpy.float32)
    return named
