"""Tables and plots of docs/domains.md from the cells that bench/robot_skills.py wrote."""
import collections
import json
import pathlib
from xml.sax.saxutils import escape

RESULTS = pathlib.Path(__file__).parent / "results" / "domains"
SETTINGS = {"id": "id", "words": "unseen wording, as 16 numbers", "nearest": "unseen wording, nearest taught", "none": "no id"}
METHODS = {"accrete": "**accrete**", "naive": "finetuning", "ewc": "EWC", "replay": "replay of 10 %", "joint": "joint training", "own": "one network a skill"}
CHAINS = {"robots": "5 + {} skills", "cw10": "4 + {} skills of CW10"}


def cells(folder=RESULTS):
    out = collections.defaultdict(list)
    for path in sorted(pathlib.Path(folder).glob("*.json")):
        cell = json.loads(path.read_text(encoding="utf-8"))
        if "setting" in cell:
            out[cell["domain"], cell["setting"], cell["method"]].append(cell)
    return out


def table(folder=RESULTS):
    lines = ["| chain | the task is told by | method | learned | retained | base retained | last, taught skills | last, all | NBT | s a skill | bytes kept | undo | seeds |",
             "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    all_cells = cells(folder)
    for chain, title in CHAINS.items():
        for setting, told in SETTINGS.items():
            for method, name in METHODS.items():
                group = all_cells.get((chain, setting, method))
                if not group:
                    continue

                def mean(key, shape="{:.1f} %", scale=100):
                    if any(key not in c for c in group):
                        return ""
                    return shape.format(scale * sum(c[key] for c in group) / len(group))

                own = method == "own"  # of a network of its own nothing is forgotten
                undone = [c["undo_exact"] for c in group if "undo_exact" in c]
                undo = "" if not undone else "exact" if all(undone) else "NOT EXACT"
                lines.append("| " + " | ".join([title.format(group[0]["tasks"]), told, name, "" if method == "joint" else mean("learned"), "" if own or method == "joint" else mean("retained"),
                                                "" if own or method == "joint" else mean("base_retained"), mean("last_taught") if not own else "", mean("last") if not own else "",
                                                mean("nbt", "{:.3f}", 1), mean("seconds", "{:.1f}", 1), mean("stored_bytes", "{:.1f} MB", 1e-6), undo, str(len(group))]) + " |")
    return "\n".join(lines)


def federated(folder=RESULTS):
    lines = ["| seed | clients, poisoned | refused | sum = one place | one client taken back | server alone | merged | one place | without the screen | KB a client sends | KB its rows are | s a client, s a merge |",
             "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    exact = lambda same: "to the bit" if same else "NO"
    for path in sorted(pathlib.Path(folder).glob("federated-sums-*.json")):
        c = json.loads(path.read_text(encoding="utf-8"))
        score = lambda key: f"{100 * c[key]:.1f} %"
        lines.append(f"| {c['seed']} | {c['clients']}, {c['poisoned']} | {c['refused']} | {exact(c['states_equal'])} | {exact(c['one_taken_back_exact'])} | {score('alone')} | {score('merged')} | {score('central')} | "
                     f"{score('without_screen')} | {c['bytes_a_client'] / 1000:.0f} | {c['rows_bytes'] / 1000:.0f} | {c['seconds_a_client']:.1f}, {c['seconds_a_merge']:.1f} |")
    return "\n".join(lines)


def shade(value):
    """White to blue."""
    return "#" + "".join(f"{round(255 + (c - 255) * value):02x}" for c in (27, 108, 168))


def heat_map(cell, x, y, size=22):
    tasks = cell["base"] + cell["skills"]
    out = [f'<text x="{x}" y="{y - 124}" font-weight="bold">{escape("R, accrete, " + SETTINGS[cell["setting"]])}</text>']
    for j, task in enumerate(tasks):
        out.append(f'<text transform="translate({x + (j + 0.7) * size},{y - 6}) rotate(-60)">{escape(task)}</text>')
    for i, row in enumerate(cell["R"]):
        label = "base" if i == 0 else "+ " + cell["skills"][i - 1]
        out.append(f'<text x="{x - 6}" y="{y + (i + 0.7) * size}" text-anchor="end">{escape(label)}</text>')
        for j, task in enumerate(tasks):
            if task in row:
                value = row[task]
                out.append(f'<rect x="{x + j * size}" y="{y + i * size}" width="{size - 1}" height="{size - 1}" fill="{shade(value)}" stroke="#ddd"/>'
                           f'<text x="{x + (j + 0.5) * size}" y="{y + (i + 0.7) * size}" text-anchor="middle" font-size="9" fill="{"white" if value > 0.5 else "#333"}">{value:.1f}</text>')
    return out


def bars(groups, tasks, x, y, width, height):
    """groups: [(name, colour, {task: success})]."""
    out = [f'<rect x="{x}" y="{y}" width="{width}" height="{height}" fill="none" stroke="#999"/>']
    for t in (0, 0.5, 1):
        at = y + height * (1 - t)
        out.append(f'<line x1="{x}" y1="{at}" x2="{x + width}" y2="{at}" stroke="#ddd"/><text x="{x - 5}" y="{at + 4}" text-anchor="end">{t:g}</text>')
    step = width / len(tasks)
    for j, task in enumerate(tasks):
        for k, (_, colour, values) in enumerate(groups):
            if task in values:
                w = step * 0.8 / len(groups)
                out.append(f'<rect x="{x + j * step + step * 0.1 + k * w:.1f}" y="{y + height * (1 - values[task]):.1f}" width="{w:.1f}" height="{height * values[task]:.1f}" fill="{colour}"/>')
        out.append(f'<text transform="translate({x + (j + 0.5) * step:.1f},{y + height + 12}) rotate(35)">{escape(task)}</text>')
    for k, (name, colour, _) in enumerate(groups):
        out.append(f'<rect x="{x + k * 170}" y="{y - 22}" width="10" height="10" fill="{colour}"/><text x="{x + k * 170 + 14}" y="{y - 13}">{escape(name)}</text>')
    return out


def averaged(group, key):
    tasks = group[0]["base"] + group[0]["skills"]
    return {t: sum(c[key][t] for c in group) / len(group) for t in tasks if all(t in c[key] for c in group)}


def svg(folder=RESULTS):
    all_cells = cells(folder)
    chosen = [all_cells[k][0] for k in (("robots", s, "accrete") for s in SETTINGS) if k in all_cells]
    if not chosen:
        return ""
    tasks = chosen[0]["base"] + chosen[0]["skills"]
    panel, height = 150 + 22 * len(tasks) + 30, 150 + 22 * len(chosen[0]["R"])
    width = 2 * panel
    rows = (len(chosen) + 1) // 2
    out = []
    for k, cell in enumerate(chosen):
        out += heat_map(cell, 150 + k % 2 * panel, 140 + k // 2 * height)
    groups = []
    for (setting, method, key), colour, name in zip((("id", "accrete", "end"), ("nearest", "accrete", "end"), ("none", "accrete", "end"), ("nearest", "naive", "end"), ("id", "own", "diagonal")),
                                                    ("#1b6ca8", "#588b3a", "#c08a1e", "#c8553d", "#777777"), ("accrete, id", "accrete, unseen wording", "accrete, no id", "finetuning", "a network a skill")):
        if ("robots", setting, method) in all_cells:
            groups.append((name, colour, averaged(all_cells["robots", setting, method], key)))
    top = 60 + rows * height
    out += bars(groups, tasks, 60, top, width - 120, 160)
    total = top + 280
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{total}" viewBox="0 0 {width} {total}" font-family="sans-serif" font-size="11">',
                      f'<rect width="{width}" height="{total}" fill="white"/>', *out, "</svg>"]) + "\n"


if __name__ == "__main__":
    print(table())
