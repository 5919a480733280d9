"""One engine with one part of a model loaded: bench/picture/run.py starts it and tells it when to run.

Protocol (bench/picture/main.cpp speaks it too): once ready it prints one line of JSON about itself; for each line "run" on
stdin it runs once and prints {"seconds": S}; at the end of stdin it prints {"peak_bytes": N} and ends.
"""

import argparse
import json
import os
import sys
import time

import numpy

from configs import inputs, read_config
from convert import model_path

STEPS_OF_PICTURE = 2


def peak_bytes():
    """VmHWM: the most memory that was resident, mapped pages included."""
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise RuntimeError("/proc/self/status has no VmHWM")


class OpenVino:
    def __init__(self, a):
        import openvino

        self.version = openvino.get_version()
        self.core, self.openvino, self.a = openvino.Core(), openvino, a
        can = self.core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        self.note = ""
        self.bf16 = a.precision in ("bf16", "int8_bf16")
        if self.bf16 and "BF16" not in can:
            self.note = "this CPU has no bf16: OpenVINO runs f32"

    def load(self, part):
        a = self.a
        model = self.core.read_model(model_path(a.models, part, "openvino", a.precision))
        named = inputs(a.configs, part, a.size)
        model.reshape({name: list(value.shape) for name, value in named.items()})
        compiled = self.core.compile_model(
            model,
            "CPU",
            {
                "INFERENCE_NUM_THREADS": a.threads,
                "NUM_STREAMS": 1,
                "PERFORMANCE_HINT": "LATENCY",
                "INFERENCE_PRECISION_HINT": self.openvino.Type.bf16 if self.bf16 else self.openvino.Type.f32,
            },
        )
        request = compiled.create_infer_request()

        def run(values):
            request.infer(values, share_inputs=True)
            return [request.get_output_tensor(i).data for i in range(len(compiled.outputs))]

        return run, named


class OnnxRuntime:
    note = ""

    def __init__(self, a):
        import onnxruntime

        self.version, self.onnxruntime, self.a = onnxruntime.__version__, onnxruntime, a
        if a.precision != "f32":
            raise SystemExit(f"worker.py: onnxruntime has no {a.precision} for these models on a CPU")

    def load(self, part):
        a = self.a
        options = self.onnxruntime.SessionOptions()
        options.intra_op_num_threads = a.threads
        options.inter_op_num_threads = 1
        path = model_path(a.models, part, "onnxruntime", a.precision)
        session = self.onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return lambda values: session.run(None, values), inputs(a.configs, part, a.size)


class PyTorch:
    compiled = False

    def __init__(self, a):
        import torch

        torch.set_num_threads(a.threads)
        self.version, self.torch, self.a = torch.__version__, torch, a
        types = {"f32": torch.float32, "bf16": torch.bfloat16}
        if a.device == "cuda":
            types["f16"] = torch.float16
            if not torch.cuda.is_available():
                raise SystemExit("worker.py: --device cuda: PyTorch sees no GPU")
            self.version += f", CUDA {torch.version.cuda}, cuDNN {torch.backends.cudnn.version()}"
            torch.backends.cudnn.benchmark = True  # the fastest of cuDNN's algorithms, by measurement
        self.dtype = types.get(a.precision)
        if self.dtype is None:
            raise SystemExit(f"worker.py: pytorch has no {a.precision} here")
        self.note = ""
        if a.device == "cpu" and a.precision == "bf16" and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            self.note = "this CPU has no bf16: PyTorch converts in its own loops"

    def load(self, part):
        import networks

        torch, a = self.torch, self.a
        module = networks.build(a.configs, part).to(a.device, self.dtype).to(memory_format=torch.channels_last)
        if self.compiled:  # with CUDA graphs, as a loop of one shape wants it
            module = torch.compile(module, mode="max-autotune" if a.device == "cuda" else None)

        def typed(value):
            value = torch.as_tensor(value).to(a.device)
            value = value.to(self.dtype) if value.is_floating_point() else value
            return value.contiguous(memory_format=torch.channels_last) if value.dim() == 4 else value

        def run(values):
            with torch.inference_mode():
                out = module(*(typed(v) for v in values.values()))
            return [o.float().cpu().numpy() for o in (out if isinstance(out, tuple) else (out,))]

        return run, inputs(a.configs, part, a.size)

    def device_bytes(self):
        return self.torch.cuda.max_memory_allocated() if self.a.device == "cuda" else None


class PyTorchCompiled(PyTorch):
    compiled = True


ENGINES = {"openvino": OpenVino, "onnxruntime": OnnxRuntime, "pytorch": PyTorch, "pytorch_compile": PyTorchCompiled}


def whole_picture(engine, a):
    """Text, a few guided Euler steps, decode, PNG: what a picture takes once everything is loaded."""
    from PIL import Image

    text, ids = engine.load("text")
    step, given = engine.load("step")
    decode, _ = engine.load("decode")
    scaling = read_config(a.configs, "vae")["scaling_factor"]

    def run():
        values, hidden = dict(given), text(ids)
        values["context"] = hidden[0]
        if len(hidden) > 1:
            values["pooled"] = hidden[1]
        latents = values["sample"][:1] * 14.6
        sigmas = numpy.append(numpy.linspace(14.6, 0.1, a.steps), 0).astype("float32")
        for i in range(a.steps):
            scaled = latents / numpy.sqrt(sigmas[i] ** 2 + 1)
            values["sample"] = numpy.concatenate([scaled, scaled]).astype("float32")
            values["timestep"] = numpy.array([999.0 * (1 - i / a.steps)], dtype="float32")
            without, conditioned = step(values)[0][:2]
            latents = latents + (sigmas[i + 1] - sigmas[i]) * (without + 7 * (conditioned - without))
        image = decode({"latents": (latents / scaling).astype("float32")})[0][0]
        pixels = (numpy.clip(image / 2 + 0.5, 0, 1) * 255).round().astype("uint8").transpose(1, 2, 0)
        Image.fromarray(pixels).save(os.devnull, format="PNG")

    return run


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--engine", choices=ENGINES, required=True)
    parser.add_argument("--part", choices=["text", "step", "decode", "picture"], required=True)
    parser.add_argument("--configs", required=True, help="folder of config.json files, diffusers layout")
    parser.add_argument("--models", required=True, help="folder that convert.py filled")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--precision", choices=["f32", "bf16", "f16", "int8", "int8_bf16"], default="f32")
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--steps", type=int, default=STEPS_OF_PICTURE, help="of a whole picture")
    a = parser.parse_args()

    if a.device == "cuda" and not a.engine.startswith("pytorch"):
        raise SystemExit(f"worker.py: {a.engine} is compared on the CPU alone")
    begin = time.perf_counter()
    engine = ENGINES[a.engine](a)
    if a.part == "picture":
        run = whole_picture(engine, a)
    else:
        call, values = engine.load(a.part)
        run = lambda: call(values)
    about = {"engine": a.engine, "version": engine.version, "note": engine.note}
    print(json.dumps(about | {"load_seconds": time.perf_counter() - begin}), flush=True)
    for line in sys.stdin:
        if line.strip() != "run":
            raise SystemExit(f"worker.py: {line.strip()}: is no command; there is run")
        begin = time.perf_counter()
        run()
        print(json.dumps({"seconds": time.perf_counter() - begin}), flush=True)
    on_device = engine.device_bytes() if a.device == "cuda" else None
    print(json.dumps({"peak_bytes": peak_bytes(), "device_bytes": on_device}), flush=True)


if __name__ == "__main__":
    main()
