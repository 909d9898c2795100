"""Table, verdict and Pareto plot of the forgetting benchmark, from the cells in bench/results/forgetting/ (one JSON file each).

Used by make_tables.py; by hand: forgetting_report.py FOLDER [--html FILE] [--svg FILE] prints the table of any result folder.
"""
import argparse
import glob
import html
import json
import os

SCHEDULES = {"one_go": "in one go", "stream": "as a stream"}
NAMES = {"interference": "**accrete**", "full-adamw": "full finetuning, AdamW", "full-sgd": "full finetuning, SGD", "lora": "LoRA",
         "lora-replay": "LoRA + replay", "ewc": "EWC", "tfidf-published": "sparse memory, tf-idf, as published"}
COLOURS = {"interference": "#d62728", "full-adamw": "#1f77b4", "full-sgd": "#17becf", "lora": "#2ca02c", "lora-replay": "#98c379", "ewc": "#9467bd",
           "tfidf-published": "#ff7f0e"}
KEPT = ("questions_f1", "clozes_f1", "neighbours_f1")


def load(folder):
    cells = []
    for path in sorted(glob.glob(os.path.join(folder, "*.json"))):
        with open(path, encoding="utf-8") as f:
            cell = json.load(f)
        if "method" in cell:
            cells.append(cell)
    return cells


def relative(cell, key):
    before = cell["before"][key]
    return cell["after"][key] / before if before > 0 else 1.0


def kept(cell):
    """Mean of what is left of the token F1 of known questions, known sentences, and known neighbours of the taught facts."""
    return sum(relative(cell, key) for key in KEPT) / len(KEPT)


def learned(cell):
    return cell["after"]["new_f1"]


def name_of(method):
    return NAMES.get(method, method.replace("deposit-", "deposit on 2,000 slots by ") if method != "deposit-all" else "deposit on all slots")


def plain(method):
    return name_of(method).strip("*").replace("`", "")


def setting_of(cell):
    parts = [f"{k} {v:g}" if isinstance(v, float) else f"{k} {v}" for k, v in cell["hyper"].items()]
    if cell["method"].split("-")[0] not in ("interference", "deposit"):
        parts.append(f"{cell['passes']} passes")
    return ", ".join(parts) or "default"


def groups(cells, schedule, split):
    """Finished cells of one schedule and split, by method and setting, in the order in which they are reported."""
    order = list(NAMES)
    out = {}
    for c in cells:
        if c["schedule"] == schedule and c["split"] == split:
            out.setdefault((c["method"], setting_of(c)), []).append(c)
    return dict(sorted(out.items(), key=lambda kv: (order.index(kv[0][0]) if kv[0][0] in order else len(order), kv[0])))


def mean(values):
    values = list(values)
    return sum(values) / len(values)


def spread(values, form):
    values = list(values)
    text = form(mean(values))
    return text if len(values) == 1 else f"{text} ({form(min(values))} .. {form(max(values))})"


def percent(v):
    return f"{100 * v:.1f} %"


def table(cells, schedule, new="new facts", taught=None):
    """`taught` names what was taught as it was taught, where that gets a column; then what was answered before has one too."""
    more = [f"{new}, F1 before", taught] if taught else []
    head = ["method", "setting, chosen on dev", "seeds", *more, f"{new}, F1", "exact", "known questions kept, F1", "known sentences kept, F1", "neighbours kept, F1",
            "bits per byte", "numbers changed"]
    rows = ["| " + " | ".join(head) + " |", "| " + " | ".join("---" for _ in head) + " |"]
    for (method, setting), all_cells in groups(cells, schedule, "test").items():
        group = [c for c in all_cells if "after" in c]
        if not group:
            rows.append("| " + " | ".join([name_of(method), setting, str(len(all_cells)), "diverged"] + [""] * (len(head) - 4)) + " |")
            continue
        extra = [spread((c["before"]["new_f1"] for c in group), percent), spread((c["after"]["taught_f1"] for c in group), percent)] if taught else []
        rows.append("| " + " | ".join([
            name_of(method), setting, str(len(group)), *extra,
            spread((learned(c) for c in group), percent), spread((c["after"]["new_exact"] for c in group), percent),
            *(spread((relative(c, key) for c in group), percent) for key in KEPT),
            spread((c["after"]["bits_per_byte"] - c["before"]["bits_per_byte"] for c in group), "{:+.4f}".format),
            f"{mean(c['cost']['parameters'] for c in group):,.0f}"]) + " |")
    return "\n".join(rows)


ABILITIES = {"arc_easy": "ARC-Easy", "arc_challenge": "ARC-Challenge", "piqa": "PIQA", "boolq": "BoolQ", "lambada": "LAMBADA", "gsm8k": "GSM8K, nats a token"}


def abilities(cells):
    """What public tasks say, before and after: shares of right lines, and nats per token of GSM8K's solutions (lower is better)."""
    groups_of = [(name_of(m), g) for (m, _), g in groups(cells, "one_go", "test").items() if all("after" in c for c in g)]
    if not groups_of:
        return "Not measured yet."
    keys = [(f"{task}_{'nats' if task == 'gsm8k' else 'accuracy'}", task == "gsm8k") for task in ABILITIES]
    form = lambda v, nats: f"{v:.3f}" if nats else percent(v)
    line = lambda name, cells, when: f"| {name} | " + " | ".join(form(mean(c[when][key] for c in cells), nats) for key, nats in keys) + " |"
    rows = ["| | " + " | ".join(ABILITIES.values()) + " |", "| --- |" + " --- |" * len(ABILITIES), line("before", groups_of[0][1], "before")]
    return "\n".join(rows + [line(name, group, "after") for name, group in groups_of])


def points(cells, schedule, split):
    """[(method, setting, learned, kept, cells)], means over the seeds."""
    out = []
    for (method, setting), group in groups(cells, schedule, split).items():
        group = [c for c in group if "after" in c]
        if group:
            out.append((method, setting, mean(map(learned, group)), mean(map(kept, group)), group))
    return out


def verdict(cells):
    """In words, computed: who is on or above the default's point."""
    lines = []
    for schedule, words in SCHEDULES.items():
        own = [p for p in points(cells, schedule, "test") if p[0] == "interference"]
        others = [p for p in points(cells, schedule, "test") if not p[0].startswith(("interference", "deposit-"))]
        if not own or not others:
            lines.append(f"Facts taught {words}: not measured yet.")
            continue
        _, _, x, y, group = own[0]
        lost = 1 - mean((relative(c, "questions_f1") + relative(c, "clozes_f1")) / 2 for c in group)
        text = (f"Facts taught {words}: accrete learns {percent(x)} and keeps {percent(y)} (known questions and sentences together: "
                f"{percent(lost)} lost; {len(group)} of 3 seeds).")
        above = [p for p in others if p[2] >= x - 0.01 and p[3] >= y]  # a point of recall is within noise
        more = [p for p in others if p[2] > x]
        if above:
            text += " **On or above it: " + "; ".join(f"{name_of(p[0])} ({percent(p[2])}, {percent(p[3])})" for p in above) + ".**"
        else:
            text += " No other method in the run learns as much (within a point) and keeps as much."
        if more:
            text += " More is learned by " + "; ".join(f"{name_of(p[0])} ({percent(p[2])}, keeping {percent(p[3])})" for p in more) + "."
        lines.append(text)
    return "\n\n".join(lines)


def svg(cells):
    """Kept against learned, one panel a schedule: filled is test (mean over seeds, bars from lowest to highest), hollow the search on dev."""
    width, height, left, top, gap = 460, 360, 60, 40, 90
    total = left + 2 * width + gap + 20
    methods = [m for m in NAMES if any(c["method"] == m for c in cells)]
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {total} {top + height + 90}" font-family="sans-serif" font-size="12">',
           f'<rect width="{total}" height="{top + height + 90}" fill="white"/>']
    for i, (schedule, words) in enumerate(SCHEDULES.items()):
        x0 = left + i * (width + gap)
        shown = [(split, p) for split in ("dev", "test") for p in points(cells, schedule, split) if p[0] in NAMES]
        low = min([0.9] + [min(map(kept, p[4])) for _, p in shown])
        low = max(0.0, int(low * 10 - 0.01) / 10)
        high = max([1.02] + [max(map(kept, p[4])) + 0.02 for _, p in shown])

        def px(v):
            return x0 + v * width

        def py(v):
            return top + height - (v - low) / (high - low) * height
        out.append(f'<text x="{x0 + width / 2:.0f}" y="{top - 14}" text-anchor="middle" font-size="14">facts taught {words}</text>')
        out.append(f'<rect x="{x0}" y="{top}" width="{width}" height="{height}" fill="none" stroke="#888"/>')
        for k in range(0, 11, 2):
            out.append(f'<text x="{px(k / 10):.1f}" y="{top + height + 16}" text-anchor="middle">{k * 10} %</text>')
        k = int(low * 10 + 0.5)
        while k / 10 <= high:
            out.append(f'<line x1="{x0}" x2="{x0 + width}" y1="{py(k / 10):.1f}" y2="{py(k / 10):.1f}" stroke="#ddd"/>')
            out.append(f'<text x="{x0 - 6}" y="{py(k / 10) + 4:.1f}" text-anchor="end">{k * 10} %</text>')
            k += 1
        out.append(f'<text x="{x0 + width / 2:.0f}" y="{top + height + 34}" text-anchor="middle">learned: token F1 of new facts, phrasings never taught</text>')
        if i == 0:
            out.append(f'<text transform="translate({x0 - 44},{top + height / 2:.0f}) rotate(-90)" text-anchor="middle">kept: F1 of what was known, relative</text>')
        for split, (method, setting, x, y, group) in shown:
            colour = COLOURS[method]
            tip = html.escape(f"{plain(method)}, {setting}, {split}, {len(group)} seed(s): learned {percent(x)}, kept {percent(y)}")
            if split == "test":
                xs, ys = list(map(learned, group)), list(map(kept, group))
                out.append(f'<path d="M{px(min(xs)):.1f} {py(y):.1f}H{px(max(xs)):.1f}M{px(x):.1f} {py(min(ys)):.1f}V{py(max(ys)):.1f}" stroke="{colour}" fill="none"/>')
            fill = colour if split == "test" else "none"
            out.append(f'<circle cx="{px(x):.1f}" cy="{py(y):.1f}" r="{6 if split == "test" else 4}" fill="{fill}" stroke="{colour}"><title>{tip}</title></circle>')
    x = left
    for m in methods:
        label = plain(m)
        out.append(f'<circle cx="{x}" cy="{top + height + 62}" r="5" fill="{COLOURS[m]}"/><text x="{x + 10}" y="{top + height + 66}">{label}</text>')
        x += 26 + 6.3 * len(label)
    out.append(f'<text x="{left}" y="{top + height + 84}" fill="#555">filled: test, mean over seeds, bars lowest to highest; hollow: search on dev, one seed</text>')
    return "\n".join(out + ["</svg>", ""])


def page(cells):
    rows = []
    for c in sorted(cells, key=lambda c: (c["schedule"], c["split"] != "test", c["method"], setting_of(c), c["seed"])):
        if "after" in c:
            values = [percent(learned(c)), percent(c["after"]["new_exact"]), *(percent(relative(c, k)) for k in KEPT),
                      f"{c['after']['bits_per_byte'] - c['before']['bits_per_byte']:+.4f}"]
        else:
            values = ["diverged"] + [""] * 5
        values = [c["schedule"], c["split"], plain(c["method"]), setting_of(c), str(c["seed"])] + values
        rows.append("<tr>" + "".join(f"<td>{html.escape(v)}</td>" for v in values) + "</tr>")
    head = ["schedule", "split", "method", "setting", "seed", "new F1", "new exact", "questions F1 kept", "sentences F1 kept", "neighbours F1 kept", "bits per byte"]
    return ("<!doctype html>\n<meta charset=\"utf-8\">\n<title>accrete: learned and forgotten</title>\n"
            "<style>body{font-family:sans-serif;margin:2em;max-width:70em}td,th{padding:.2em .6em;border-bottom:1px solid #ddd;text-align:left}svg{width:100%}</style>\n"
            "<h1>Learned and forgotten</h1>\n<p>Point at a dot for its figures. How it was measured: docs/benchmarks.md.</p>\n"
            + svg(cells) + "<table>\n<tr>" + "".join(f"<th>{h}</th>" for h in head) + "</tr>\n" + "\n".join(rows) + "\n</table>\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--svg")
    parser.add_argument("--html")
    a = parser.parse_args()
    cells = load(a.folder)
    for schedule, words in SCHEDULES.items():
        print(f"{words}\n{table(cells, schedule)}\n")
    print(verdict(cells))
    for path, make in ((a.svg, svg), (a.html, page)):
        if path:
            with open(path, "w", encoding="utf-8") as f:
                f.write(make(cells))


if __name__ == "__main__":
    main()
