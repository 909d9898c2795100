"""Start-up: the program's time to answer what needs no model, against a process that does nothing.

usage: startup.py ACCRETE MODEL [--runs N] [--out FILE]

The best of N runs of each command, one after the other in turns, so that a change of the machine's speed meets all.
"""
import argparse
import json
import subprocess
import time

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("accrete")
parser.add_argument("model")
parser.add_argument("--runs", type=int, default=30)
parser.add_argument("--out")
args = parser.parse_args()

updates = json.loads(subprocess.run([args.accrete, "log", args.model, "--json"], capture_output=True, check=True).stdout)["updates"]
commands = {
    "nothing": ["/bin/true"],
    "--help": [args.accrete, "--help"],
    "teach --help": [args.accrete, "teach", "--help"],
    "completion bash": [args.accrete, "completion", "bash"],
    "log": [args.accrete, "log", args.model],
}
if updates:
    commands["show"] = [args.accrete, "show", args.model, updates[-1]["id"]]
best = {name: float("inf") for name in commands}
for _ in range(args.runs):
    for name, command in commands.items():
        start = time.perf_counter()
        subprocess.run(command, stdout=subprocess.DEVNULL, check=True)
        best[name] = min(best[name], time.perf_counter() - start)
result = {"benchmark": "startup", "runs": args.runs,
          "commands": {name: {"milliseconds": round(1000 * t, 2), "times_nothing": round(t / best["nothing"], 2)}
                       for name, t in best.items()}}
text = json.dumps(result, indent=2)
print(text)
if args.out:
    with open(args.out, "w", encoding="utf-8") as f:
        f.write(text + "\n")
