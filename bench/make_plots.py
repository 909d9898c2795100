"""Draws docs/*.svg from bench/results/*.json, with nothing but the standard library.

usage: make_plots.py [--check]     --check: exit 1 if a plot is not what the results give
"""
import json
import math
import os
import sys
from xml.sax.saxutils import escape

import generated
import robot_report

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
COLOURS = ["#1b6ca8", "#c8553d", "#588b3a", "#7a4fa3", "#c08a1e", "#3d8f8f", "#8c564b", "#555555", "#d0648a", "#2f4858", "#9aa12b", "#6b8fd6"]


def load(name):
    with open(os.path.join(ROOT, "bench", "results", name), encoding="utf-8") as f:
        return json.load(f)


def ticks(low, high, most=5):
    span = high - low or 1
    step = 10 ** math.floor(math.log10(span / most))
    for factor in (1, 2, 5, 10):
        if span / (step * factor) <= most:
            step *= factor
            break
    first = math.ceil(low / step - 1e-9)
    return [round((first + i) * step, 12) for i in range(int(math.floor(high / step + 1e-9)) - first + 1)]


class Panel:
    """A square plot of points with the diagonal, at (x, y) in the picture."""

    def __init__(self, x, y, size, title, points, unit):
        self.x, self.y, self.size, self.title, self.points, self.unit = x, y, size, title, points, unit
        values = [v for p in points for v in (p["measured"], p["predicted"])]
        low, high = min(values + [0]), max(values + [0])
        margin = 0.06 * (high - low or 1)
        self.low, self.high = low - margin, high + margin

    def at(self, px, py):
        scale = self.size / (self.high - self.low)
        return self.x + (px - self.low) * scale, self.y + self.size - (py - self.low) * scale

    def svg(self, colour):
        out = [f'<rect x="{self.x}" y="{self.y}" width="{self.size}" height="{self.size}" fill="none" stroke="#999"/>',
               f'<text x="{self.x}" y="{self.y - 8}" font-weight="bold">{escape(self.title)}</text>']
        a, b = self.at(self.low, self.low), self.at(self.high, self.high)
        out.append(f'<line x1="{a[0]:.1f}" y1="{a[1]:.1f}" x2="{b[0]:.1f}" y2="{b[1]:.1f}" stroke="#bbb" stroke-dasharray="4 3"/>')
        for t in ticks(self.low, self.high):
            x, y = self.at(t, t)
            out.append(f'<text x="{x:.1f}" y="{self.y + self.size + 14}" text-anchor="middle" fill="#555">{t:g}</text>')
            out.append(f'<text x="{self.x - 5}" y="{y + 4:.1f}" text-anchor="end" fill="#555">{t:g}</text>')
        for p in self.points:
            x, y = self.at(p["measured"], p["predicted"])
            _, low = self.at(p["measured"], max(p["low"], self.low))
            _, high = self.at(p["measured"], min(p["high"], self.high))
            c = colour[p["kind"]]
            out.append(f'<line x1="{x:.1f}" y1="{low:.1f}" x2="{x:.1f}" y2="{high:.1f}" stroke="{c}" stroke-opacity="0.35"/>')
            out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{c}" fill-opacity="0.8"/>')
        out.append(f'<text x="{self.x + self.size / 2}" y="{self.y + self.size + 30}" text-anchor="middle">measured ({self.unit})</text>')
        return out


def forecast():
    if not os.path.exists(os.path.join(ROOT, "bench", "results", "forecast.json")):
        return ""  # not measured yet
    result = load("forecast.json")
    runs = result["runs"]
    kinds = sorted({r["kind"] for r in runs})
    colour = {k: COLOURS[i % len(COLOURS)] for i, k in enumerate(kinds)}
    names = sorted(runs[0]["probes"])
    size, gap = 220, 70
    width, height = gap + len(names) * (size + gap), size + 90 + 16 * ((len(kinds) + 2) // 3)
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
           'font-family="sans-serif" font-size="11">', f'<rect width="{width}" height="{height}" fill="white"/>',
           f'<text x="14" y="{36 + size / 2}" text-anchor="middle" transform="rotate(-90 14 {36 + size / 2})">predicted, with its range</text>']
    for i, name in enumerate(names):
        points = [{**r["probes"][name], "kind": r["kind"]} for r in runs]
        rank = result["summary"][name]["spearman"]
        unit = "bits per byte" if name == "text" else "share of answers"
        panel = Panel(gap + i * (size + gap), 36, size, f"{name}: Spearman {rank:.2f}", points, unit)
        out += panel.svg(colour)
    for i, kind in enumerate(kinds):
        x, y = gap + (i % 3) * (width - gap) / 3, size + 88 + 16 * (i // 3)
        out.append(f'<circle cx="{x:.0f}" cy="{y - 4}" r="4" fill="{colour[kind]}"/><text x="{x + 9:.0f}" y="{y}">{escape(kind)}</text>')
    return "\n".join(out + ["</svg>"]) + "\n"


# The runs of `bench facts` in docs/benchmarks.md, "Anchors and plasticity".
VARIANTS = {"plasticity_full": "in one go, full plasticity", "plasticity_diagonal": "in one go, diagonal", "plasticity_flat": "in one go, flat step",
            "anchor_log": "in one go, anchors in the log", "steps": "in steps", "steps_anchors": "in steps, with anchors", "steps_adapted": "in steps, anchors, adapted"}


def variants():
    """What was kept against what was learned: every seed a small point, their mean a large one."""
    runs = {k: load(f"variant_{k}.json")["runs"] for k in VARIANTS if os.path.exists(os.path.join(ROOT, "bench", "results", f"variant_{k}.json"))}
    size, gap, legend = 260, 70, 16 * len(runs)
    width, height = 2 * (size + gap) + gap, size + 90 + legend
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
           'font-family="sans-serif" font-size="11">', f'<rect width="{width}" height="{height}" fill="white"/>']
    for i, (key, title) in enumerate((("kept_questions", "known questions kept"), ("kept_clozes", "known sentences kept"))):
        left, top = gap + i * (size + gap), 36
        share = lambda values: (min(values), max(values))
        (x0, x1), (y0, y1) = (share([r[k] for own in runs.values() for r in own]) for k in ("asked_after", key))
        dx, dy = 0.08 * (x1 - x0 or 1), 0.08 * (y1 - y0 or 1)
        x0, x1, y0, y1 = x0 - dx, x1 + dx, y0 - dy, y1 + dy
        at = lambda x, y: (left + (x - x0) / (x1 - x0) * size, top + size - (y - y0) / (y1 - y0) * size)
        out += [f'<rect x="{left}" y="{top}" width="{size}" height="{size}" fill="none" stroke="#999"/>',
                f'<text x="{left}" y="{top - 8}" font-weight="bold">{title}</text>',
                f'<text x="{left + size / 2}" y="{top + size + 30}" text-anchor="middle">new facts in untaught phrasings</text>']
        for t in ticks(x0, x1):
            out.append(f'<text x="{at(t, y0)[0]:.1f}" y="{top + size + 14}" text-anchor="middle" fill="#555">{100 * t:g} %</text>')
        for t in ticks(y0, y1):
            out.append(f'<text x="{left - 5}" y="{at(x0, t)[1] + 4:.1f}" text-anchor="end" fill="#555">{100 * t:g} %</text>')
        for k, own in enumerate(runs.values()):
            points = [(r["asked_after"], r[key]) for r in own]
            mean = [sum(p[j] for p in points) / len(points) for j in (0, 1)]
            for j, point in enumerate([*points, mean]):
                x, y = at(*point)
                out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{6 if j == len(points) else 2.5}" fill="{COLOURS[k]}" fill-opacity="{0.9 if j == len(points) else 0.5}"/>')
    for k, name in enumerate(runs):
        y = size + 88 + 16 * k
        out.append(f'<circle cx="{gap}" cy="{y - 4}" r="5" fill="{COLOURS[k]}"/><text x="{gap + 12}" y="{y}">{escape(VARIANTS[name])}</text>')
    return "\n".join(out + ["</svg>"]) + "\n"


sys.exit(generated.write_or_check(ROOT, {"docs/forecast.svg": forecast(), "docs/variants.svg": variants(), "docs/robots.svg": robot_report.svg()}, "make_plots.py"))
