"""Makes the models that OpenVINO and ONNX Runtime run, once: convert.py CONFIGS OUT --part P --engine E --precision R.

CONFIGS is a folder of config.json files in the diffusers layout (bench_picture --configs FAMILY OUT writes one), OUT a
folder that keeps the results. Weights are random: what is measured does not depend on them.
"""

import argparse
import pathlib

from configs import inputs

# Networks are recorded on a small picture, whatever the size that they are for; worker.py reshapes them.
RECORDED_SIZE = 128


def model_path(out, part, engine, precision):
    """bf16 is a setting of the run, not another file."""
    kind = "int8" if precision.startswith("int8") else "f32"
    suffix = "xml" if engine == "openvino" else "onnx"
    return pathlib.Path(out) / f"{engine}-{part}-{kind}" / f"model.{suffix}"


def to_openvino(configs, part):
    import openvino

    import networks
    import torch

    example = {name: torch.from_numpy(value) for name, value in inputs(configs, part, RECORDED_SIZE).items()}
    with torch.no_grad():
        model = openvino.convert_model(networks.build(configs, part), example_input=example)
    for port, name in zip(model.inputs, example):
        port.get_tensor().set_names({name})
    return model


def quantised(configs, part):
    """Weights and activations in int8, calibrated on one random input (NNCF's settings for a network with attention)."""
    import nncf

    calibration = nncf.Dataset([inputs(configs, part, RECORDED_SIZE)])
    return nncf.quantize(
        to_openvino(configs, part), calibration, subset_size=1, model_type=nncf.ModelType.TRANSFORMER
    )


def to_onnx(configs, part, path):
    import networks
    import torch

    example = {name: torch.from_numpy(value) for name, value in inputs(configs, part, RECORDED_SIZE).items()}
    sizes = {n: {d: f"{n}_{d}" for d in range(v.dim()) if v.dim() == 4 and d > 1} for n, v in example.items()}
    with torch.no_grad():
        torch.onnx.export(
            networks.build(configs, part),
            tuple(example.values()),
            path,
            input_names=list(example),
            dynamic_axes=sizes,
            dynamo=False,
        )


def convert(configs, out, part, engine, precision):
    """Path of the model; makes it where it is not there yet."""
    path = model_path(out, part, engine, precision)
    if path.exists():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    if engine == "onnxruntime":
        to_onnx(configs, part, path)
        return path
    import openvino

    model = quantised(configs, part) if precision.startswith("int8") else to_openvino(configs, part)
    openvino.save_model(model, path, compress_to_fp16=False)
    return path


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("configs")
    parser.add_argument("out")
    parser.add_argument("--part", choices=["text", "step", "decode"], required=True)
    parser.add_argument("--engine", choices=["openvino", "onnxruntime"], default="openvino")
    parser.add_argument("--precision", choices=["f32", "bf16", "int8", "int8_bf16"], default="f32")
    a = parser.parse_args()
    print(convert(a.configs, a.out, a.part, a.engine, a.precision))


if __name__ == "__main__":
    main()
