"""Plots as SVG text for a page that loads nothing. Colours are the page's variables, so that they follow light and dark."""

import html
import math

FONT = 'font-size="12" fill="currentColor"'


def _text(x, y, text, anchor="start", extra=""):
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" {FONT} {extra}>{html.escape(str(text))}</text>'


def _svg(width, height, body, label):
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img" aria-label="{html.escape(label)}">'
        + "".join(body)
        + "</svg>"
    )


def bars(rows, unit, label, width=860):
    """rows: (name, value, shown text, is ours). Horizontal bars from zero."""
    if not rows:
        return ""
    left, right, line = 250, 130, 24
    scale = (width - left - right) / (max(value for _, value, _, _ in rows) or 1)  # all zero: no bars
    body = []
    for i, (name, value, shown, ours) in enumerate(rows):
        y = i * line
        body.append(_text(left - 8, y + 16, name, "end"))
        body.append(f'<rect x="{left}" y="{y + 4}" width="{value * scale:.1f}" height="16" fill="var(--{"ours" if ours else "other"})"/>')
        body.append(_text(left + value * scale + 6, y + 16, f"{shown} {unit}".strip()))
    return _svg(width, len(rows) * line + 4, body, label)


def ratios(rows, label, width=860):
    """rows: (name, ratio). Each a stick from 1 on a logarithmic axis, cut off at its ends; the browser shows a stick's name when
    it is pointed at."""
    if not rows:
        return ""
    left, height, top, low, high = 44, 220, 10, 0.25, 4.0
    span = math.log(high) - math.log(low)
    y_of = lambda r: top + (height - top - 20) * (math.log(high) - math.log(min(max(r, low), high))) / span
    step = (width - left - 10) / len(rows)
    body = []
    for tick in (0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4):
        y, colour = y_of(tick), "axis" if tick == 1 else "grid"
        body.append(f'<line x1="{left}" x2="{width - 10}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--{colour})"/>')
        body.append(_text(left - 6, y + 4, tick, "end"))
    for i, (name, ratio) in enumerate(rows):
        y, one = y_of(ratio), y_of(1)
        colour = "ours" if ratio >= 1 else "behind"
        body.append(
            f'<rect x="{left + i * step:.1f}" y="{min(y, one):.1f}" width="{max(step - 1, 1):.1f}" '
            f'height="{max(abs(y - one), 1):.1f}" fill="var(--{colour})"><title>{html.escape(name)}: {ratio:.2f}</title></rect>'
        )
    return _svg(width, height, body, label)


def roofline(points, peak_gflops, bandwidth_gbs, label, width=860, height=380):
    """points: (name, FLOPs a byte, GFLOP/s, group). Both axes logarithmic, with the machine's two limits."""
    if not points:
        return ""
    left, bottom, top, right = 60, 40, 12, 12
    xs, ys = [p[1] for p in points], [p[2] for p in points] + [peak_gflops]
    x0, x1 = math.log10(min(xs) / 1.3), math.log10(max(xs) * 1.3)
    y0, y1 = math.log10(min(ys) / 1.3), math.log10(max(ys) * 1.5)
    x_of = lambda v: left + (width - left - right) * (math.log10(v) - x0) / (x1 - x0)
    y_of = lambda v: height - bottom - (height - top - bottom) * (math.log10(v) - y0) / (y1 - y0)
    body = []
    for e in range(math.ceil(x0), math.floor(x1) + 1):
        x = x_of(10.0**e)
        body.append(f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{height - bottom}" stroke="var(--grid)"/>')
        body.append(_text(x, height - bottom + 16, f"{10.0**e:g}", "middle"))
    for e in range(math.ceil(y0), math.floor(y1) + 1):
        y = y_of(10.0**e)
        body.append(f'<line x1="{left}" x2="{width - right}" y1="{y:.1f}" y2="{y:.1f}" stroke="var(--grid)"/>')
        body.append(_text(left - 6, y + 4, f"{10.0**e:g}", "end"))
    # The roof: the bandwidth's slope up to the ridge, then the peak.
    ridge = min(max(peak_gflops / bandwidth_gbs, 10**x0), 10**x1)
    start = max(10**x0, 10**y0 / bandwidth_gbs)
    roof = [(start, start * bandwidth_gbs), (ridge, min(peak_gflops, ridge * bandwidth_gbs)), (10**x1, peak_gflops)]
    path = " ".join(f"{x_of(a):.1f},{y_of(b):.1f}" for a, b in roof)
    body.append(f'<polyline points="{path}" fill="none" stroke="var(--axis)" stroke-width="1.5"/>')
    for name, x, y, group in points:
        body.append(
            f'<circle cx="{x_of(x):.1f}" cy="{y_of(y):.1f}" r="4" fill="var(--{group})" fill-opacity="0.75">'
            f"<title>{html.escape(name)}: {y:.1f} GFLOP/s</title></circle>"
        )
    body.append(_text((left + width) / 2, height - 6, "FLOPs for each byte that must move", "middle"))
    body.append(_text(left + 8, top + 12, "GFLOP/s"))
    return _svg(width, height, body, label)
