"""Teaching and answering on a GPU against the CPU of the same machine: the same facts, what is recalled, and how long.

usage: device_teach.py ACCRETE MODEL [--facts N] [--runs N] [--threads N] [--out FILE]

In turns, copies of MODEL learn the same facts of data/facts/test.jsonl (others in every run) on the CPU and on the GPU;
what each learned is asked in untaught wordings on both devices. Medians over the runs, without the first.
"""
import argparse
import json
import os
import pathlib
import random
import shutil
import statistics
import tempfile

import machine
import verbs

ROOT = pathlib.Path(__file__).resolve().parent.parent
DEVICES = ("cpu", "cuda")
parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("accrete")
parser.add_argument("model")
parser.add_argument("--facts", type=int, default=200)
parser.add_argument("--runs", type=int, default=3)
parser.add_argument("--threads", type=int, default=0, help="of the CPU; 0: every core")
parser.add_argument("--out")
args = parser.parse_args()


def run(*command):
    return verbs.run(args.accrete, *command)


lines = (ROOT / "data" / "facts" / "test.jsonl").read_text(encoding="utf-8").splitlines()
times = {d: {"teach": [], "ask": []} for d in DEVICES}
recall = {taught: {asked: [] for asked in DEVICES} for taught in DEVICES}
with tempfile.TemporaryDirectory() as work:
    work = pathlib.Path(work)
    folders = {d: work / d for d in DEVICES}
    for folder in folders.values():
        shutil.copytree(args.model, folder, copy_function=shutil.copyfile)
    for r in range(args.runs + 1):
        facts = work / "facts.jsonl"
        facts.write_text("\n".join(random.Random(r).sample(lines, min(args.facts, len(lines)))) + "\n", encoding="utf-8")
        for device, folder in folders.items():
            teach, result = run("teach", folder, facts, "--raw", "--device", device, "--threads", args.threads)
            for asked in DEVICES:
                ask, answers = run("eval", folder, facts, "--raw", "--asked", "--max-tokens", 8, "--device", asked, "--threads", args.threads)
                if r > 0:
                    recall[device][asked].append(answers["begins"])
                    if asked == device:
                        times[device]["ask"].append(ask)
            if r > 0:  # the first reads the files from disk
                times[device]["teach"].append(teach)
            run("undo", folder)
median = {d: {k: round(statistics.median(v), 2) for k, v in t.items()} for d, t in times.items()}
result = {"benchmark": "device teach", "machine": machine.describe(), "gpu": machine.gpu(), "threads": args.threads or os.cpu_count(),
          "facts": args.facts, "runs": args.runs, "seconds": median,
          "recall": {t: {a: round(statistics.mean(v), 4) for a, v in by.items()} for t, by in recall.items()},
          "ratio": {k: round(median["cpu"][k] / median["cuda"][k], 2) for k in ("teach", "ask")}}
text = json.dumps(result, indent=1)
print(text)
if args.out:
    pathlib.Path(args.out).write_text(text + "\n", encoding="utf-8")
