#!/usr/bin/env python3
"""Renders result files as one page that a browser opens offline: report.py FILE... --out report.html

Takes any number of files of bench_kernels, bench/picture and bench/fusion, in the order in which they are to stand.
"""

import argparse
import html
import pathlib
import statistics

from common import plots, results

STYLE = """
:root { color-scheme: light dark; --ours: #2563a8; --other: #a7a196; --behind: #c2410c; --grid: #8883; --axis: #888;
        --gemm: #2563a8; --conv2d: #0f8a6d; --attention: #b8860b; --rest: #8a8378; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: 13px; margin: 0.7rem 0; }
th, td { text-align: right; padding: 2px 10px; border-bottom: 1px solid #8884; }
th:first-child, td:first-child, td.name { text-align: left; }
td.name { font-family: ui-monospace, monospace; font-size: 12px; }
tr.behind td { color: var(--behind); }
div.wide { overflow-x: auto; } svg { max-width: 100%; height: auto; }
h2 { margin-top: 2.2rem; } p.note { color: #8a8378; font-size: 13px; }
i.key { display: inline-block; width: 10px; height: 10px; margin: 0 4px 0 12px; }
"""


def table(head, rows, classes=None):
    cell = lambda c: f'<td class="name">{html.escape(c[1:])}</td>' if c.startswith("`") else f"<td>{html.escape(c)}</td>"
    body = "".join(
        f'<tr class="{(classes or {}).get(i, "")}">' + "".join(cell(str(c)) for c in row) + "</tr>" for i, row in enumerate(rows)
    )
    return f'<div class="wide"><table><tr>{"".join(f"<th>{html.escape(h)}</th>" for h in head)}</tr>{body}</table></div>'


def gigabytes(n):
    return f"{n / 1e9:.2f}"


# Of a benchmark's context, what says nothing about the numbers.
UNTOLD = ("caches", "library_build_type", "executable", "host_name", "cpu_scaling_enabled", "mhz_per_cpu")


def context(data):
    items = {k: v for k, v in data.get("context", {}).items() if k not in UNTOLD}
    text = "; ".join(f"{k}: {' '.join(map(str, v)) if isinstance(v, list) else v}" for k, v in items.items())
    return f'<p class="note">{html.escape(text)}</p>'


def pairs(data):
    found = {}
    for r in data["records"]:
        found.setdefault(r.get("pair") or f"alone-{id(r)}", []).append(r)
    return list(found.values())


def picture(data):
    rows, charts = [], {}
    for pair in pairs(data):
        for r in pair:
            ours = r["engine"] == "darkroom"
            ratio = "" if ours or len(pair) < 2 else f"{pair[0]['median'] / r['median']:.3f}"
            what = f"{r['part']} {r['precision']}" + (f" {r['size']}²" if r.get("size") else "")
            what += " on the GPU" if r.get("device") == "cuda" else ""
            spread = f"{min(r['seconds']):.3f} – {max(r['seconds']):.3f}"
            held = " ".join(f"{k}={v}" for k, v in r.get("environment", {}).items())
            note = "; ".join(x for x in (r.get("label"), r.get("note"), held) if x)
            rows.append(
                [f"{r['model']}: {what}", r["engine"], r.get("version", "")[:18], f"{r['median']:.4f}", spread, len(r["seconds"]),
                 gigabytes(r.get("device_bytes") or r["peak_bytes"]), ratio, r.get("commit", "")[:9], note]
            )
            latest = charts.setdefault(f"{r['model']}: {what}" + (f" ({held})" if held else ""), {})
            latest[r["engine"] + (f" {r['label']}" if r.get("label") else "")] = r["median"]
    head = ["part", "engine", "version", "median s", "min – max", "runs", "peak GB", "Darkroom / it", "commit", "note"]
    out = [table(head, rows)]
    for what, engines in charts.items():
        bars = [(name, s, f"{s:.3f}", name.startswith("darkroom")) for name, s in sorted(engines.items(), key=lambda e: e[1])]
        out.append(f"<h3>{html.escape(what)}</h3>" + plots.bars(bars, "s", what))
    return "".join(out)


def first_number(text):
    return float(str(text).split()[0])


def kernels(data):
    rows = results.against_libraries(data)
    out = []
    if rows:
        held = sum(r["held"] for r in rows)
        out.append(
            f"<h3>Against the best library</h3><p>Products and convolutions with a bias alone. {held} of {len(rows)} at or above "
            "the best of the libraries (0.97 counts where that one runs above 90 % of the peak).</p>"
        )
        out.append(plots.ratios([(f"{r['op']} {r['layer']}", r["ratio"]) for r in rows], "library time over ours"))
        out.append('<p class="note">Library\'s time over ours, a stick a layer; above 1 ours is faster.</p>')
        cells = [
            ["`" + f"{r['op']} {r['layer']}", r["ours"], f"{r['ours_us'] / 1e3:.3f}", f"{r['ours_fma']:.0f}", r["best"],
             f"{r['best_us'] / 1e3:.3f}", f"{r['best_fma']:.0f}", f"{r['ratio']:.2f}"]
            for r in rows
        ]
        behind = {i: "behind" for i, r in enumerate(rows) if not r["held"]}
        head = ["layer", "ours", "ms", "% FMA", "best library", "ms", "% FMA", "ratio"]
        out.append(f"<details><summary>All {len(rows)} layers</summary>{table(head, cells, behind)}</details>")
    own = {k: t for k, t in results.kernel_times(data).items() if k[1] not in results.LIBRARIES}
    groups = {"gemm": "gemm", "conv2d": "conv2d", "attention": "attention"}
    points = [
        (" ".join(k), t["gflops"] / t["gbs"], t["gflops"], groups.get(k[0], "rest"))
        for k, t in own.items()
        if t["gflops"] > 0 and t["gbs"] > 0
    ]
    peak, bandwidth = first_number(data["context"]["FMA peak"]), first_number(data["context"]["bandwidth"])
    key = "".join(f'<i class="key" style="background:var(--{g})"></i>{g}' for g in ("gemm", "conv2d", "attention", "rest"))
    out.append(f"<h3>Under the machine's roof</h3><p>{key}</p>" + plots.roofline(points, peak, bandwidth, "roofline"))
    cells = [
        ["`" + f"{op} {layer}", variant, f"{t['us'] / 1e3:.3f}", f"{t['gflops']:.1f}", f"{t['fma']:.0f}", f"{t['gbs']:.1f}", f"{t['bw']:.0f}"]
        for (op, variant, layer), t in sorted(own.items())
    ]
    head = ["layer", "kernel", "ms", "GFLOP/s", "% FMA", "GB/s", "% bandwidth"]
    out.append(f"<details><summary>Every kernel on every layer ({len(cells)})</summary>{table(head, cells)}</details>")
    wrong = results.errors(data)
    if wrong:
        out.append("<h3>Wrong results, not timed</h3>" + table(["kernel and layer", "what"], [["`" + n, m] for n, m in wrong.items()]))
    return "".join(out)


def fusion(data):
    rows, bars = [], []
    for whole, without in [p for p in pairs(data) if len(p) == 2]:
        ratio = lambda f: f(without) / f(whole)
        plan = lambda key: lambda r: r["plan"][key]
        time = ratio(lambda r: statistics.median(r["seconds"]))
        rows.append(
            [without["pass"], f"{whole['model']} {whole['part']} {whole['precision']} {whole['size']}²", whole["plan"]["passes"][without["pass"]],
             f"{whole['median']:.4f}", f"{without['median']:.4f}", f"{time:.3f}", f"{ratio(lambda r: r['peak_bytes']):.3f}",
             f"{ratio(plan('bytes')):.3f}", f"{ratio(plan('arena_bytes')):.3f}", f"{ratio(plan('steps')):.3f}"]
        )
        bars.append((f"{without['pass']} ({whole['part']})", max(time - 1, 0) * 100, f"{(time - 1) * 100:+.1f}", True))
    head = ["without", "of", "fusions", "all: s", "without: s", "time", "peak memory", "bytes", "arena", "steps"]
    return table(head, rows) + "<h3>Time that leaving a pass out costs</h3>" + plots.bars(bars, "%", "cost of leaving a pass out")


TITLES = {"picture": "Parts of a picture, against other engines", "fusion": "One fusion pass left out at a time"}


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("files", nargs="+", type=pathlib.Path)
    p.add_argument("--out", type=pathlib.Path, required=True)
    p.add_argument("--title", default="Darkroom, measured")
    a = p.parse_args()
    sections = []
    for path in a.files:
        data = results.load(path)
        if results.is_kernels(data):
            title, body = f"The kernel table on the layers of real models ({data['context'].get('types', '')})", kernels(data)
        else:
            title, body = TITLES[data["kind"]], {"picture": picture, "fusion": fusion}[data["kind"]](data)
        sections.append(f"<h2>{html.escape(title)}</h2>{context(data)}{body}")
    a.out.write_text(
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>{html.escape(a.title)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style><h1>{html.escape(a.title)}</h1>'
        + "".join(sections)
        + "</html>\n"
    )


if __name__ == "__main__":
    main()
