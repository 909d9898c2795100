#!/usr/bin/env python3
"""How what is done with facts grows with their number: teaching, opening, the first token, undo, audit, digest, compact, bytes.

usage: fact_scale.py ACCRETE GGUF [--facts 100,1000,10000] [--out FILE]

Each fact has a subject of its own, three wordings and an answer that is written as it is ("verbatim"), so that keys and texts are real
and nothing is learned: a value adds its steps to the teach and its bytes to the file, both per fact (docs/facts.md). The facts are taught
in one update, and ten more in another, which is undone. Seconds are medians of five, of whole commands but for the first token, which is
a question over `accrete serve` that is not about any of them; "bare" is the same model without facts, asked in turns.
"""
import argparse
import json
import pathlib
import random
import shutil
import statistics
import subprocess
import tempfile
import time
import urllib.request

ASPECTS = [["How heavy is the {}?", "What does the {} weigh?", "Tell me the weight of the {}."],
           ["What does the {} cost?", "How much is the {}?", "Price of the {}?"],
           ["What colour is the {}?", "Which colour does the {} have?", "Colour of the {}?"]]
ROUNDS = 5


def facts(count):
    rng, names = random.Random(1), set()
    syllables = [a + b for a in "bdklmnrstv" for b in "aeiou"]
    while len(names) < count:
        names.add("".join(rng.choice(syllables) for _ in range(rng.randint(3, 4))).capitalize() + f" {rng.randint(1, 99)}")
    return [{"questions": [w.format(name) for w in ASPECTS[i % 3]], "answer": f"{rng.randint(2, 999)} units", "verbatim": True}
            for i, name in enumerate(sorted(names))]


def seconds(action):
    began = time.monotonic()
    action()
    return time.monotonic() - began


class Served:
    def __init__(self, accrete, model):
        self.process = subprocess.Popen([accrete, "serve", model, "--port", "0", "--json"], stdout=subprocess.PIPE, text=True)
        self.url = json.loads(self.process.stdout.readline())["url"]
        self.ask()

    def ask(self):
        body = {"messages": [{"role": "user", "content": "What is the capital of France?"}], "max_tokens": 1}
        urllib.request.urlopen(urllib.request.Request(self.url + "/chat/completions", json.dumps(body).encode())).read()

    def resident(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return int(line.split()[1]) * 1024

    def stop(self):
        self.process.terminate()
        self.process.wait()


def measure(given, work, base, count):
    model = work / f"m{count}"
    shutil.copytree(base, model)
    run = lambda *command: subprocess.run([given.accrete, *map(str, command), "--quiet"], check=True, capture_output=True, text=True).stdout
    lines = facts(count + 10)
    random.Random(2).shuffle(lines)
    for name, part in (("all", lines[:count]), ("ten", lines[count:])):
        (work / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in part))
    row = {"facts": count, "teach": seconds(lambda: run("teach", model, work / "all.jsonl"))}
    row["bytes a fact"] = sum(f.stat().st_size for f in (model / "accrete").rglob("*") if f.is_file() and "reader" not in f.parts)
    row["bytes a fact"] = (row["bytes a fact"] - sum(f.stat().st_size for f in (base / "accrete").rglob("*") if f.is_file() and "reader" not in f.parts)) / count
    run("teach", model, work / "ten.jsonl")
    median = lambda action: statistics.median(seconds(action) for _ in range(ROUNDS))
    row["undo"] = median(lambda: (run("undo", model), run("redo", model))) / 2
    row["audit"] = median(lambda: run("audit", model))
    row["digest"] = median(lambda: run("digest", model))
    opening = lambda folder: seconds(lambda: run("ask", folder, "How heavy is it?", "--otherwise", "-", "--json"))
    both = [(opening(base_of_ten(given, work, base)), opening(model)) for _ in range(ROUNDS)]
    row["open and choose, of ten facts"], row["open and choose"] = (statistics.median(x) for x in zip(*both))
    bare, own = Served(given.accrete, base), Served(given.accrete, model)
    try:
        turns = [(seconds(bare.ask), seconds(own.ask)) for _ in range(4 * ROUNDS)]
        row["first token, bare"], row["first token"] = (statistics.median(x) for x in zip(*turns))
        row["resident bytes above bare, a fact"] = (own.resident() - bare.resident()) / count
    finally:
        bare.stop()
        own.stop()
    row["compact"] = seconds(lambda: run("compact", model))
    return row


def base_of_ten(given, work, base):
    """The same with ten facts: what opening the reader takes is in both."""
    model = work / "ten"
    if not model.exists():
        shutil.copytree(base, model)
        (work / "few.jsonl").write_text("".join(json.dumps(line) + "\n" for line in facts(10)))
        subprocess.run([given.accrete, "teach", model, work / "few.jsonl", "--quiet"], check=True, capture_output=True)
    return model


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("accrete")
    parser.add_argument("gguf")
    parser.add_argument("--facts", default="100,1000,10000")
    parser.add_argument("--out", type=pathlib.Path)
    given = parser.parse_args()
    cpu = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    with tempfile.TemporaryDirectory() as work:
        base = pathlib.Path(work) / "base"
        subprocess.run([given.accrete, "retrofit", given.gguf, base, "--quiet"], check=True, capture_output=True)
        rows = []
        for count in map(int, given.facts.split(",")):
            rows.append(measure(given, pathlib.Path(work), base, count))
            print(json.dumps(rows[-1]), flush=True)
            if given.out:
                given.out.write_text(json.dumps({"benchmark": "fact scale", "processor": cpu, "rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
