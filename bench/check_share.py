"""What watching probes costs while documents and conversations are learned: its share of the time of the steps.

usage: check_share.py ACCRETE MODEL [--documents N ...] [--data DIR] [--out FILE]

MODEL is copied. Three probes with floors are added: known sentences, known questions, running text. Then sets of
documents and of conversations are taught, each from the same state; what is taught is taken back.
"""
import argparse
import json
import pathlib
import shutil
import tempfile

import machine
import verbs

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("accrete")
parser.add_argument("model")
parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("data"))
parser.add_argument("--documents", type=int, nargs="+", default=[1, 5, 20], help="how many a set has")
parser.add_argument("--out")
args = parser.parse_args()


def run(*command):
    return verbs.run(args.accrete, *command)[1]


with tempfile.TemporaryDirectory(dir=pathlib.Path(args.model).parent) as work:
    model, scratch = pathlib.Path(work) / "model", pathlib.Path(work)
    shutil.copytree(args.model, model, copy_function=shutil.copyfile)
    text = (args.data / "text" / "wikitext2_test_sample.txt").read_text(encoding="utf-8")[:8000]
    (scratch / "text.txt").write_text(text, encoding="utf-8")
    run("probe", "add", model, "sentences", args.data / "known" / "clozes_test.jsonl", "--raw", "--floor", 0.97)
    run("probe", "discover", model, args.data / "known" / "questions_test.jsonl", "--few-shot", args.data / "known" / "fewshot.jsonl", "--name", "questions",
        "--floor", 0.97)
    run("probe", "add", model, "text", scratch / "text.txt", "--floor", 0.97)
    documents = (args.data / "documents" / "test.jsonl").read_text(encoding="utf-8").splitlines()
    sets = [(f"{n} document{'s' if n > 1 else ''}", documents[:n], ["--raw"]) for n in args.documents]
    chat = [line for line in (args.data / "examples" / "chat.jsonl").read_text(encoding="utf-8").splitlines() if len(json.loads(line)["messages"]) > 2]
    sets.append((f"{len(chat)} conversations", chat, []))
    runs = []
    for name, lines, flags in sets:
        (scratch / "set.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
        r = run("teach", model, scratch / "set.jsonl", *flags)
        run("undo", model)
        runs.append({"set": name, "check_share": round(r["check_share"], 4), "seconds": round(r["seconds"], 2), "learned": r["learned"],
                     "kept": {k: v["kept"] for k, v in r["kept"].items()}})
        print(json.dumps(runs[-1]), flush=True)
result = {"benchmark": "check share", "machine": machine.describe(), "probes": 3, "runs": runs}
if args.out:
    pathlib.Path(args.out).write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
