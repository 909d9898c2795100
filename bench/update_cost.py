"""What one update costs after many, against the same update of an untouched model.

usage: update_cost.py ACCRETE BASE MODEL [--facts FILE] [--items N] [--runs N] [--out FILE]

BASE is a model without updates, MODEL the same with many (for example the work folder of `accrete bench sequence`).
Both are copied. In turns, each learns the same facts, others in every run, and is opened and asked; medians over the
runs, without the first. What is taught is taken back, which is timed too.
"""
import argparse
import json
import os
import pathlib
import shutil
import statistics
import tempfile

import machine
import verbs

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("accrete")
parser.add_argument("base")
parser.add_argument("model")
parser.add_argument("--facts", default="data/facts/dev.jsonl")
parser.add_argument("--items", type=int, default=2)
parser.add_argument("--runs", type=int, default=7)
parser.add_argument("--out")
args = parser.parse_args()


def run(*command):
    return verbs.run(args.accrete, *command)


lines = pathlib.Path(args.facts).read_text(encoding="utf-8").splitlines()
with tempfile.TemporaryDirectory(dir=pathlib.Path(args.model).parent) as work:
    folders = {}
    for name, source in (("untouched", args.base), ("after many", args.model)):
        folders[name] = pathlib.Path(work) / name.replace(" ", "-")
        shutil.copytree(source, folders[name], copy_function=shutil.copyfile)
    os.sync()  # or the first commits would wait for the copies to reach the disk
    _, log = run("log", folders["after many"])
    updates = sum(u["active"] for u in log["updates"])
    times = {name: {"teach": [], "ask": [], "undo": [], "memory": []} for name in folders}
    for r in range(args.runs + 1):
        facts = pathlib.Path(work) / "facts.jsonl"
        facts.write_text("\n".join(lines[r * args.items:(r + 1) * args.items]) + "\n", encoding="utf-8")
        for name, folder in folders.items():
            teach, result = run("teach", folder, facts, "--raw")
            ask, _ = run("ask", folder, "The capital of France is", "--raw", "--max-tokens", 1)
            undo, _ = run("undo", folder)
            if r == 0:
                continue  # the first reads the files from disk
            times[name]["teach"].append(teach)
            times[name]["ask"].append(ask)
            times[name]["undo"].append(undo)
            times[name]["memory"].append(result["peak_bytes"])
    median = {name: {k: statistics.median(v) for k, v in t.items()} for name, t in times.items()}
result = {"benchmark": "update cost", "machine": machine.describe(), "updates": updates, "items": args.items, "runs": args.runs,
          "seconds": {name: {k: round(m[k], 3) for k in ("teach", "ask", "undo")} for name, m in median.items()},
          "peak_bytes": {name: m["memory"] for name, m in median.items()},
          "ratio": {k: round(median["after many"][k] / median["untouched"][k], 3) for k in ("teach", "ask", "undo", "memory")}}
text = json.dumps(result, indent=2)
print(text)
if args.out:
    pathlib.Path(args.out).write_text(text + "\n", encoding="utf-8")
