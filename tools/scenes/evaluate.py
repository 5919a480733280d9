"""Measures a model with the programs that people use, not with the training code: `evaluate.py BIN_FOLDER [-m MODEL]`.

Pictures of the prompts in tests/golden/scenes/prompts.json by sdrun with its default settings, several seeds each, judged by
scenes_score; and the autoencoder by painted pictures that sdrun encodes and decodes again: a black --mask keeps all of them.
"""
import argparse
import json
import os
import subprocess
import tempfile

import numpy as np
from PIL import Image

HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, "..", "..", "tests", "golden", "scenes")
BARS = {False: (0.95, 0.85), True: (0.85, 0.70)}  # colour and shape, relation; of seen and of held-out combinations


def run(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def draw(programs, model, entries, seeds, folder):
    """Pictures NAME-1.png … in the order of `entries`, the seeds of a prompt together; and the list that the scorer reads."""
    prompts = os.path.join(folder, "prompts.txt")
    with open(prompts, "w") as f:
        f.write("".join(e["prompt"] + "\n" for e in entries))
    run(os.path.join(programs, "sdrun"), *model, "-q", "--prompts-file", prompts, "-b", str(seeds), "-o", os.path.join(folder, "p.png"))
    specs = [{**e, "file": f"p-{i * seeds + k + 1}.png"} for i, e in enumerate(entries) for k in range(seeds)]
    with open(os.path.join(folder, "specs.json"), "w") as f:
        json.dump(specs, f)


def score(programs, folder):
    lines = run(os.path.join(programs, "scenes_score"), "--specs", os.path.join(folder, "specs.json")).splitlines()
    return json.loads(lines[-1]), lines[:-1]


def psnr(programs, model, count, folder):
    """Mean over the first `count` painted pictures of 10·log10(255² / mean square error)."""
    black, values = os.path.join(folder, "black.png"), []
    Image.new("L", (128, 128)).save(black)
    for i in range(count):
        given, made = os.path.join(GOLDEN, f"{i:02d}.png"), os.path.join(folder, "again.png")
        run(os.path.join(programs, "sdrun"), *model, "-q", "", "-i", given, "--mask", black, "--steps", "1", "--strength", "1", "-o", made)
        a, b = (np.asarray(Image.open(f).convert("RGB"), np.float64) for f in (given, made))
        values.append(10 * np.log10(255 ** 2 / np.mean((a - b) ** 2)))
    return float(np.mean(values))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("programs", help="folder of sdrun and scenes_score")
    parser.add_argument("-m", "--model", help="default: the one that ships")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--every", type=int, default=1, help="only every n-th prompt: a quick look")
    parser.add_argument("--reconstructions", type=int, default=100)
    parser.add_argument("--keep", metavar="FOLDER", help="leave the pictures here")
    args = parser.parse_args()
    model = ["-m", args.model] if args.model else []
    with open(os.path.join(GOLDEN, "prompts.json")) as f:
        entries = json.load(f)
    with tempfile.TemporaryDirectory() as scratch:
        folder = args.keep or scratch
        print("| combinations | pictures | colour and shape | bar | relation | bar | background |\n|---|---|---|---|---|---|---|")
        for held_out in (False, True):
            part = os.path.join(folder, "held_out" if held_out else "seen")
            os.makedirs(part, exist_ok=True)
            draw(args.programs, model, [e for e in entries if e["held_out"] == held_out][::args.every], args.seeds, part)
            counts, wrong = score(args.programs, part)
            with open(os.path.join(part, "wrong.txt"), "w") as f:
                f.write("\n".join(wrong))
            bars = BARS[held_out]
            share = lambda a, b: f"{100 * counts[a] / max(counts[b], 1):.1f} %"
            print(f"| {'held out' if held_out else 'seen'} | {counts['pictures']} | {share('things', 'pictures')} | {100 * bars[0]:.0f} % "
                  f"| {share('relation', 'with_relation')} | {100 * bars[1]:.0f} % | {share('background', 'with_background')} |", flush=True)
        if args.reconstructions:
            value = psnr(args.programs, model, args.reconstructions, folder)
            print(f"\nReconstruction of {args.reconstructions} painted pictures: {value:.2f} dB (bar: 30 dB)")


if __name__ == "__main__":
    main()
