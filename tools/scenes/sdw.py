"""Reads a model that ships, .sdw file or diffusers folder, so that a training can go on from it. The format is described in
docs/weight-format.md; checksums are left to `sdconvert verify`."""
import os
import struct

import numpy as np
import torch

DTYPES = {1: torch.float32, 2: torch.float16, 3: torch.bfloat16}
MAGIC = b"\x89SDW\r\n\x1a\n"


def _read_sdw(path):
    data = np.fromfile(path, np.uint8)
    directory, = struct.unpack_from("<Q", data, 32)
    components, tensors, texts, string_bytes = struct.unpack_from("<4I", data, 56)
    records = directory + 64 * components
    text_records = records + 128 * tensors
    names = data[text_records + 64 * texts:][:string_bytes].tobytes()
    name = lambda record: names[slice(*np.cumsum(struct.unpack_from("<2I", data, record)))].decode()
    parts = [name(directory + 64 * i) for i in range(components)]
    weights, found = {part: {} for part in parts}, {}
    for record in range(records, text_records, 128):
        component, _, dtype, rank = struct.unpack_from("<IHBB", data, record + 8)
        shape = struct.unpack_from("<4Q", data, record + 16)[:rank]
        offset, size = struct.unpack_from("<2Q", data, record + 48)
        tensor = torch.frombuffer(bytearray(data[offset:offset + size]), dtype=DTYPES[dtype])
        weights[parts[component]][name(record)] = tensor.view(shape).float()
    for record in range(text_records, text_records + 64 * texts, 64):
        offset, size = struct.unpack_from("<2Q", data, record + 8)
        found[name(record)] = data[offset:offset + size].tobytes().decode()
    return weights, found


def _read_folder(path):
    from safetensors.torch import load_file
    weights, texts = {}, {}
    for part in os.listdir(path):
        if not os.path.isdir(os.path.join(path, part)):
            continue
        for file in os.listdir(os.path.join(path, part)):
            name = os.path.join(path, part, file)
            if file.endswith(".safetensors"):
                weights[part] = {k: v.float() for k, v in load_file(name).items()}
            else:
                with open(name) as f:
                    texts[f"{part}/{file}"] = f.read()
    return weights, texts


def read_model(path):
    """({component: {name: f32 tensor}}, {"vae/config.json": text, ...})"""
    if os.path.isdir(path):
        return _read_folder(path)
    with open(path, "rb") as f:
        if f.read(8) != MAGIC:
            raise SystemExit(f"{path}: no .sdw file and no folder")
    return _read_sdw(path)
