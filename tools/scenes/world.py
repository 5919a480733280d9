"""The world of Scenes: a specification of a picture as plain data, and the painter that draws it.

A spec is a dict:
  {"background": "night", "relation": "above" | ... | None, "objects": [{"thing", "colour", "size", "x", "y", "r"}, ...]}
Positions and radii are fractions of the picture's side. With a relation, objects[0] stands in it to objects[1].
"""
import math
import random
import zlib

import cairo
import numpy as np

SIZE = 128

COLOURS = {
    "red": (0.86, 0.13, 0.15), "orange": (0.97, 0.52, 0.07), "yellow": (0.98, 0.84, 0.12), "green": (0.15, 0.58, 0.24),
    "blue": (0.14, 0.35, 0.83), "purple": (0.52, 0.20, 0.67), "pink": (0.98, 0.55, 0.73), "brown": (0.50, 0.30, 0.15),
    "black": (0.10, 0.10, 0.12), "white": (0.97, 0.97, 0.95),
}
THINGS = ["circle", "square", "triangle", "star", "heart", "moon", "house", "tree", "fish", "boat"]
PLAIN_SHAPES = ["circle", "square", "triangle", "star", "heart"]
HOSTS = ["circle", "square", "heart"]
BACKGROUNDS = ["white", "cream", "grey", "sky", "night", "meadow", "sea", "sunset"]
# At 8 pixels a latent, what is smaller than five of them loses the pixels that make its shape.
SIZES = {"small": 0.17, "medium": 0.20, "large": 0.30}
RELATIONS = ["left of", "right of", "above", "below"]

# Colours that would be lost on a background.
HIDDEN = {
    "white": {"white"}, "cream": {"white"}, "grey": {"white"}, "sky": {"white"}, "night": {"black", "blue", "purple", "brown"},
    "meadow": {"green", "white"}, "sea": {"blue", "white"}, "sunset": {"orange", "red", "pink", "yellow", "brown"},
}


def _held(key, one_in):
    return zlib.crc32(key.encode()) % one_in == 0


def held_out_pair(colour, thing):
    """Combinations that training never shows: a colour with a thing."""
    return _held(f"{colour} {thing}", 10)


def held_out_relation(first, relation, second):
    """Combinations that training never shows: a thing in a relation to another."""
    return _held(f"{first}|{relation}|{second}", 10)


def is_held_out(spec):
    objects = spec["objects"]
    if any(held_out_pair(o["colour"], o["thing"]) for o in objects):
        return True
    return spec["relation"] in RELATIONS and held_out_relation(objects[0]["thing"], spec["relation"], objects[1]["thing"])


def _object(rng, background, thing=None, avoid=()):
    colours = [c for c in COLOURS if c not in HIDDEN[background] and c not in avoid]
    return {"thing": thing or rng.choice(THINGS), "colour": rng.choice(colours)}


def _place(rng, o, size, x, y):
    return {**o, "size": size, "r": SIZES[size] * rng.uniform(0.95, 1.05), "x": x, "y": y}


def sample(rng, held_out=None):
    """A random spec. held_out: None any, False none that is held out, True only such."""
    while True:
        spec = _sample(rng)
        if held_out is None or is_held_out(spec) == held_out:
            return spec


def _sample(rng):
    background = rng.choice(BACKGROUNDS)
    kind = rng.choices(["one", "two", "inside", "three"], [0.32, 0.50, 0.10, 0.08])[0]
    jitter = lambda s: rng.uniform(-s, s)
    if kind == "one":
        size = rng.choices(["small", "medium", "large"], [0.25, 0.4, 0.35])[0]
        free = min(0.45 - SIZES[size] * 1.1, 0.2)
        return {"background": background, "relation": None,
                "objects": [_place(rng, _object(rng, background), size, 0.5 + jitter(free), 0.5 + jitter(free))]}
    if kind == "inside":
        host = _object(rng, background, rng.choice(HOSTS))
        while True:
            inner = _object(rng, background, rng.choice(PLAIN_SHAPES), avoid=(host["colour"],))
            if {inner["colour"], host["colour"]} != {"brown", "black"}:  # too near to each other
                break
        x, y = 0.5 + jitter(0.12), 0.5 + jitter(0.12)
        lift = 0.02 if host["thing"] == "heart" else 0
        objects = [_place(rng, inner, "small", x, y - lift), _place(rng, host, "large", x, y)]
        return {"background": background, "relation": "inside", "objects": objects}
    if kind == "two":
        a = _object(rng, background)
        b = _object(rng, background, avoid=(a["colour"],) if rng.random() < 0.8 else ())
        relation = rng.choice(RELATIONS * 2 + [None])
        shown = relation or rng.choice(RELATIONS)
        sizes = rng.choice([("medium", "medium"), ("small", "medium"), ("medium", "small"), ("small", "small")])
        gap, drift = rng.uniform(0.24, 0.265), jitter(0.07)
        dx, dy = {"left of": (-1, 0), "right of": (1, 0), "above": (0, -1), "below": (0, 1)}[shown]
        cx, cy = 0.5 + jitter(0.02), 0.5 + jitter(0.02)
        objects = [_place(rng, a, sizes[0], cx + dx * gap + dy * drift, cy + dy * gap + dx * drift),
                   _place(rng, b, sizes[1], cx - dx * gap - dy * drift, cy - dy * gap - dx * drift)]
        return {"background": background, "relation": relation, "objects": objects}
    # three: the same thing and colour, in a triangle
    one = _object(rng, background)
    objects = [_place(rng, one, "small", x + jitter(0.02), y + jitter(0.02)) for x, y in [(0.25, 0.72), (0.5, 0.27), (0.75, 0.72)]]
    return {"background": background, "relation": "three", "objects": objects}


# --- painting -----------------------------------------------------------------------------------------------------------

def _mix(a, b, t):
    return tuple(x + (y - x) * t for x, y in zip(a, b))


def _shade(c, t):
    """Darker for t < 0, lighter for t > 0."""
    return _mix(c, (0, 0, 0), -t) if t < 0 else _mix(c, (1, 1, 1), t)


def _vertical(ctx, stops):
    g = cairo.LinearGradient(0, 0, 0, 1)
    for at, c in stops:
        g.add_color_stop_rgb(at, *c)
    ctx.set_source(g)
    ctx.paint()


def _background(ctx, name, rng):
    flat = {"white": (1, 1, 1), "cream": (0.98, 0.93, 0.80), "grey": (0.68, 0.69, 0.71)}
    if name in flat:
        ctx.set_source_rgb(*flat[name])
        ctx.paint()
    elif name == "sky":
        _vertical(ctx, [(0, (0.50, 0.76, 0.95)), (1, (0.78, 0.90, 0.98))])
    elif name == "night":
        _vertical(ctx, [(0, (0.04, 0.05, 0.17)), (1, (0.11, 0.13, 0.33))])
        ctx.set_source_rgb(0.62, 0.64, 0.78)
        for _ in range(rng.randint(5, 9)):
            ctx.arc(rng.uniform(0.03, 0.97), rng.uniform(0.03, 0.97), 0.009, 0, 2 * math.pi)
            ctx.fill()
    elif name == "meadow":
        _vertical(ctx, [(0, (0.62, 0.83, 0.97)), (1, (0.84, 0.93, 0.98))])
        horizon = rng.uniform(0.58, 0.68)
        ctx.move_to(0, horizon + rng.uniform(-0.03, 0.03))
        ctx.curve_to(0.33, horizon - 0.05, 0.66, horizon + 0.05, 1, horizon)
        ctx.line_to(1, 1)
        ctx.line_to(0, 1)
        ctx.close_path()
        g = cairo.LinearGradient(0, horizon, 0, 1)
        g.add_color_stop_rgb(0, 0.62, 0.83, 0.40)
        g.add_color_stop_rgb(1, 0.46, 0.72, 0.30)
        ctx.set_source(g)
        ctx.fill()
    elif name == "sea":
        _vertical(ctx, [(0, (0.72, 0.88, 0.97)), (1, (0.90, 0.95, 0.98))])
        horizon = rng.uniform(0.55, 0.65)
        ctx.rectangle(0, horizon, 1, 1)
        g = cairo.LinearGradient(0, horizon, 0, 1)
        g.add_color_stop_rgb(0, 0.33, 0.66, 0.80)
        g.add_color_stop_rgb(1, 0.16, 0.48, 0.68)
        ctx.set_source(g)
        ctx.fill()
    elif name == "sunset":
        _vertical(ctx, [(0, (0.42, 0.30, 0.58)), (0.5, (0.88, 0.48, 0.46)), (1, (0.99, 0.75, 0.42))])


def _polygon(ctx, points):
    for i, (x, y) in enumerate(points):
        (ctx.line_to if i else ctx.move_to)(x, y)
    ctx.close_path()


def _star(ctx, tips, inner, turn=-math.pi / 2):
    _polygon(ctx, [((1 if i % 2 == 0 else inner) * math.cos(turn + i * math.pi / tips),
                    (1 if i % 2 == 0 else inner) * math.sin(turn + i * math.pi / tips)) for i in range(2 * tips)])


def _outline(ctx, thing):
    """The path of a simple shape within the unit circle."""
    if thing == "circle":
        ctx.arc(0, 0, 0.95, 0, 2 * math.pi)
    elif thing == "square":
        ctx.rectangle(-0.84, -0.84, 1.68, 1.68)
    elif thing == "triangle":
        _polygon(ctx, [(0, -1.0), (0.98, 0.8), (-0.98, 0.8)])
    elif thing == "star":
        _star(ctx, 5, 0.45)
    elif thing == "heart":
        ctx.move_to(0, 0.95)
        ctx.curve_to(-1.35, 0.05, -1.0, -0.98, -0.45, -0.88)
        ctx.curve_to(-0.2, -0.84, -0.05, -0.65, 0, -0.48)
        ctx.curve_to(0.05, -0.65, 0.2, -0.84, 0.45, -0.88)
        ctx.curve_to(1.0, -0.98, 1.35, 0.05, 0, 0.95)
    elif thing == "moon":
        ctx.arc(0.1, 0, 0.98, math.radians(52), math.radians(308))
        ctx.arc_negative(0.58, 0, 0.78, math.radians(262), math.radians(98))
        ctx.close_path()


def _thing(ctx, o):
    c, thing = COLOURS[o["colour"]], o["thing"]
    fill = lambda colour: (ctx.set_source_rgb(*colour), ctx.fill())
    dark = _shade(c, -0.30) if o["colour"] != "black" else _shade(c, 0.28)
    if thing in ("circle", "square", "triangle", "star", "heart", "moon"):
        _outline(ctx, thing)
        fill(c)
    elif thing == "house":
        ctx.rectangle(-0.72, -0.15, 1.44, 1.05)
        fill(c)
        _polygon(ctx, [(0, -0.98), (0.98, -0.12), (-0.98, -0.12)])
        fill(dark)
        ctx.rectangle(-0.2, 0.3, 0.4, 0.6)
        fill(dark)
    elif thing == "tree":
        ctx.rectangle(-0.15, 0.3, 0.3, 0.68)
        fill((0.36, 0.22, 0.12))
        for x, y, r in ((-0.36, 0.05, 0.42), (0.36, 0.05, 0.42), (0, -0.42, 0.54), (0, 0.05, 0.42)):
            ctx.arc(x, y, r, 0, 2 * math.pi)
            fill(c)
    elif thing == "fish":
        _polygon(ctx, [(0.40, 0), (1.0, -0.52), (1.0, 0.52)])
        fill(dark)
        ctx.save()
        ctx.scale(1, 0.62)
        ctx.arc(-0.2, 0, 0.78, 0, 2 * math.pi)
        ctx.restore()
        fill(c)
        ctx.arc(-0.58, -0.12, 0.11, 0, 2 * math.pi)
        fill((1, 1, 1) if o["colour"] != "white" else (0.1, 0.1, 0.12))
    elif thing == "boat":
        _polygon(ctx, [(-0.95, 0.35), (0.95, 0.35), (0.6, 0.85), (-0.6, 0.85)])
        fill(c)
        ctx.rectangle(-0.06, -0.95, 0.12, 1.3)
        fill((0.36, 0.22, 0.12))
        _polygon(ctx, [(0.1, -0.92), (0.85, 0.2), (0.1, 0.2)])
        fill(_shade(c, 0.35) if o["colour"] != "white" else (0.80, 0.81, 0.84))
        _polygon(ctx, [(-0.1, -0.7), (-0.7, 0.2), (-0.1, 0.2)])
        fill(_shade(c, 0.35) if o["colour"] != "white" else (0.80, 0.81, 0.84))


def paint(spec, seed=0, size=SIZE):
    """size × size × 3 u8. The seed chooses what the spec leaves open: where stars and horizons are."""
    surface = cairo.ImageSurface(cairo.FORMAT_RGB24, size, size)
    ctx = cairo.Context(surface)
    ctx.scale(size, size)
    _background(ctx, spec["background"], random.Random(seed))
    order = spec["objects"][::-1] if spec["relation"] == "inside" else spec["objects"]
    for o in order:
        ctx.save()
        ctx.translate(o["x"], o["y"])
        ctx.scale(o["r"], o["r"])
        _thing(ctx, o)
        ctx.restore()
    surface.flush()
    pixels = np.frombuffer(surface.get_data(), np.uint8).reshape(size, surface.get_stride() // 4, 4)[:, :size]
    return np.ascontiguousarray(pixels[:, :, 2::-1])
