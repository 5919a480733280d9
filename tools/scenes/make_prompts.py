"""Writes the prompts that the model is measured with, and what they ask for: `make_prompts.py > tests/golden/scenes/prompts.json`.
300 are of combinations that training showed, 100 of held-out ones."""
import json
import random
import sys

import world
from captions import BACKGROUND_WORDS, caption


def entry(rng, held_out):
    spec = world.sample(rng, held_out=held_out)
    text = caption(rng, spec)
    made = {"prompt": text, "objects": [{k: o[k] for k in ("thing", "colour")} for o in spec["objects"]],
            "relation": spec["relation"], "held_out": held_out}
    if any(words in text for words in BACKGROUND_WORDS[spec["background"]]):
        made["background"] = spec["background"]
    return made


def main():
    rng = random.Random("what the model is measured with")
    entries = [entry(rng, False) for _ in range(300)] + [entry(rng, True) for _ in range(100)]
    sys.stdout.write("[\n" + ",\n".join(json.dumps(e) for e in entries) + "\n]\n")


if __name__ == "__main__":
    main()
