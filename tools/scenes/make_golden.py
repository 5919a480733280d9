"""Writes what the scorer and the model are measured with: `make_golden.py tests/golden/scenes`.

specs.json and 00.png … 99.png: painted pictures and what is in them. prompts.json: 300 prompts of combinations that training
showed and 100 of held-out ones, with what they ask for.
"""
import json
import os
import random
import sys

from PIL import Image

import world
from captions import BACKGROUND_WORDS, caption


def plain(spec):
    return {"objects": [{k: o[k] for k in ("thing", "colour")} for o in spec["objects"]], "relation": spec["relation"]}


def prompt(rng, held_out):
    spec = world.sample(rng, held_out=held_out)
    text = caption(rng, spec)
    made = {"prompt": text, **plain(spec), "held_out": held_out}
    if any(words in text for words in BACKGROUND_WORDS[spec["background"]]):
        made["background"] = spec["background"]
    return made


def picture(rng, folder, name):
    spec = world.sample(rng)
    Image.fromarray(world.paint(spec, rng.random())).save(os.path.join(folder, name), optimize=True)
    return {"file": name, "background": spec["background"], **plain(spec)}


def write(path, entries):
    with open(path, "w") as f:
        f.write("[\n" + ",\n".join(json.dumps(e) for e in entries) + "\n]\n")


def main():
    folder = sys.argv[1]
    rng = random.Random("what the model is measured with")
    write(os.path.join(folder, "prompts.json"), [prompt(rng, False) for _ in range(300)] + [prompt(rng, True) for _ in range(100)])
    rng = random.Random("what the scorer is measured with")
    write(os.path.join(folder, "specs.json"), [picture(rng, folder, f"{i:02d}.png") for i in range(100)])


if __name__ == "__main__":
    main()
