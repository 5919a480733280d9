"""English for a spec: varied, as people would put it."""

SYNONYMS = {"circle": ["circle", "circle", "ball", "disc"], "moon": ["moon", "moon", "crescent moon"],
            "boat": ["boat", "boat", "sailboat", "sailing boat"], "house": ["house", "house", "cottage"]}
COLOUR_SYNONYMS = {"purple": ["purple", "purple", "violet"]}
SIZE_WORDS = {"small": ["small", "little", "tiny"], "large": ["large", "big", "huge"], "medium": []}
RELATION_WORDS = {
    "left of": ["left of", "to the left of", "on the left of"], "right of": ["right of", "to the right of", "on the right of"],
    "above": ["above", "over", "on top of"], "below": ["below", "under", "beneath", "underneath"],
    "inside": ["inside", "in", "within"],
}
BACKGROUND_WORDS = {
    "white": ["on white", "on a white background", "on a plain white background"], "cream": ["on a cream background", "on cream"],
    "grey": ["on a grey background", "on grey", "on a gray background"],
    "sky": ["in the sky", "against a blue sky", "on a light blue background"],
    "night": ["at night", "in the night sky", "under the stars", "against a night sky"],
    "meadow": ["in a meadow", "on a meadow", "on the grass", "in a green field"],
    "sea": ["at sea", "on the sea", "by the sea", "on the water", "in the ocean"],
    "sunset": ["at sunset", "in the sunset", "against a sunset", "in the evening"],
}
PLURALS = {"fish": "fish"}


def _noun(rng, o, size=True, plural=False):
    words = []
    if size and SIZE_WORDS[o["size"]] and rng.random() < (0.9 if o["size"] == "large" else 0.5):
        words.append(rng.choice(SIZE_WORDS[o["size"]]))
    words.append(rng.choice(COLOUR_SYNONYMS.get(o["colour"], [o["colour"]])))
    thing = rng.choice(SYNONYMS.get(o["thing"], [o["thing"]]))
    if plural:
        thing = PLURALS.get(thing, thing + "s")
        return " ".join(words + [thing])
    article = "an" if words[0][0] in "aeiou" else "a"
    return " ".join([article] + words + [thing])


def caption(rng, spec):
    objects, relation = spec["objects"], spec["relation"]
    if relation == "three":
        text = "three " + _noun(rng, objects[0], size=False, plural=True)
    elif relation is None:
        nouns = [_noun(rng, o) for o in objects]
        rng.shuffle(nouns)
        text = rng.choice([" and ", " and ", " with ", ", "]).join(nouns) if len(nouns) > 1 else nouns[0]
    else:
        a, b, r = objects[0], objects[1], relation
        inverse = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
        if r in inverse and rng.random() < 0.4:
            a, b, r = b, a, inverse[r]
        host = relation == "inside"
        words = [_noun(rng, a, size=not host), rng.choice(RELATION_WORDS[r]), _noun(rng, b, size=not host)]
        text = " ".join(words)
    start = rng.random()
    if start < 0.08:
        text = rng.choice(["a picture of ", "a drawing of ", "an image of "]) + text
    elif start < 0.16 and text.startswith(("a ", "an ")):
        text = text.split(" ", 1)[1]
    if rng.random() < (0.8 if spec["background"] not in ("white",) else 0.35):
        place = rng.choice(BACKGROUND_WORDS[spec["background"]])
        text = f"{text} {place}" if rng.random() < 0.75 else f"{place}, {text}"
    return text + ("." if rng.random() < 0.08 else "")
