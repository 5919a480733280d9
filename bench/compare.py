#!/usr/bin/env python3
"""Compares two result files: compare.py BEFORE AFTER [--threshold 0.05] [--filter REGEX]

A line for each measurement that both have, the slowest change first; ratio is AFTER / BEFORE, so below 1 is faster.
Exit code 1 where one is slower by more than the threshold. Works on files of bench_kernels, bench/picture and bench/fusion.
compare.py --libraries FILE prints instead how our kernels stand against the best library on each plain layer.
"""

import argparse
import math
import re
import sys

from common import results


def compare(before, after, threshold, pattern):
    a, b = results.medians(results.load(before)), results.medians(results.load(after))
    both = sorted((n for n in a if n in b and re.search(pattern, n)), key=lambda n: -b[n] / a[n])
    slower = [n for n in both if b[n] / a[n] > 1 + threshold]
    print(f"{'before':>11} {'after':>11}  ratio")
    for n in both:
        mark = "  slower" if b[n] / a[n] > 1 + threshold else "  faster" if b[n] / a[n] < 1 - threshold else ""
        print(f"{a[n] * 1e3:8.3f} ms {b[n] * 1e3:8.3f} ms  {b[n] / a[n]:5.3f}  {n}{mark}")
    for n in sorted(set(a) ^ set(b)):
        if re.search(pattern, n):
            print(f"only in {'the first' if n in a else 'the second'}: {n}")
    if both:
        mean = math.exp(sum(math.log(b[n] / a[n]) for n in both) / len(both))
        print(f"{len(both)} measurements, geometric mean {mean:.3f}, {len(slower)} slower by more than {threshold:.0%}")
    return 1 if slower else 0


def libraries(path):
    """A Markdown table, the slowest first."""
    data = results.load(path)
    rows = results.against_libraries(data)
    print("| op | layer | ours | ms | % FMA | best library | ms | % FMA | library / ours |")
    print("|---|---|---|---|---|---|---|---|---|")
    for r in rows:
        print(
            f"| {r['op']} | {r['layer']} | {r['ours']} | {r['ours_us'] / 1e3:.3f} | {r['ours_fma']:.0f} | {r['best']} "
            f"| {r['best_us'] / 1e3:.3f} | {r['best_fma']:.0f} | {r['ratio']:.2f}{'' if r['held'] else ' **below**'} |"
        )
    for name, message in results.errors(data).items():
        print(f"\nwrong: {name}: {message}")
    print(f"\n{sum(r['held'] for r in rows)} of {len(rows)} layers at or above the best library")


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("before", nargs="?")
    p.add_argument("after", nargs="?")
    p.add_argument("--libraries", metavar="FILE")
    p.add_argument("--threshold", type=float, default=0.05)
    p.add_argument("--filter", default="", metavar="REGEX")
    a = p.parse_args()
    if a.libraries:
        return libraries(a.libraries)
    if not a.after:
        p.error("wants two files, or --libraries FILE")
    return compare(a.before, a.after, a.threshold, a.filter)


if __name__ == "__main__":
    sys.exit(main())
