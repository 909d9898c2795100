"""What many overlays of one server take: memory and disk each, the time of a question, and whether 64 clients of 64 overlays get as many
tokens a second as 64 of one.

usage: serve_overlays.py ACCRETE MODEL [--overlays 1000] [--rounds 5]

MODEL is copied. One overlay is taught ten facts, the others are copies of its folder under other names, which is what as many teaches would
leave. Prints a JSON object; its ratio is of two things in one run, in turns.
"""

import argparse
import concurrent.futures
import json
import pathlib
import shutil
import statistics
import subprocess
import tempfile
import time
import urllib.request

QUESTION, ANSWER = "When does the office open?", "At seven in the morning, from Monday to Friday, and at nine on Saturdays."
OTHERS = ["What is the code of the door?", "Who feeds the fish?", "Where is the key of the shed?", "Which room has the printer?", "Whom do I call when it rains in?",
          "What is the name of the cat?", "Where do I park?", "When is the bin emptied?", "What colour is our van?"]
CLIENTS = 64


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("accrete")
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("--overlays", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    n = max(given.overlays, CLIENTS)
    with tempfile.TemporaryDirectory() as work:
        model = pathlib.Path(work) / "model"
        shutil.copytree(given.model, model)
        run = lambda *words: subprocess.run([given.accrete, *map(str, words)], check=True, stdout=subprocess.DEVNULL)
        run("overlay", "create", model, "o0", "-q")
        lines = [{"question": QUESTION, "answer": ANSWER}] + [{"question": q, "answer": f"Number {i}."} for i, q in enumerate(OTHERS)]
        facts = pathlib.Path(work) / "facts.jsonl"
        facts.write_text("".join(json.dumps(line) + "\n" for line in lines))
        run("teach", model, facts, "--overlay", "o0", "-q")
        first = model / "accrete" / "overlays" / "o0"
        for i in range(1, n):
            shutil.copytree(first, first.parent / f"o{i}")
        print(json.dumps(measure(given.accrete, model, n, given.rounds, sum(f.stat().st_size for f in first.rglob("*") if f.is_file())), indent=1))


def measure(accrete, model, n, rounds, disk):
    server = subprocess.Popen([accrete, "serve", model, "--port", "0", "--json", "--resident", str(n)], stdout=subprocess.PIPE, text=True)
    try:
        url = json.loads(server.stdout.readline())["url"] + "/chat/completions"

        def ask(i, tokens=32):
            body = {"model": f"model:o{i}", "max_tokens": tokens, "messages": [{"role": "user", "content": QUESTION}]}
            with urllib.request.urlopen(urllib.request.Request(url, json.dumps(body).encode())) as reply:
                said = json.load(reply)
            text = said["choices"][0]["message"]["content"]
            assert text and (ANSWER.startswith(text) if tokens < 32 else text == ANSWER), said
            return said["usage"]["completion_tokens"]

        def resident():
            with open(f"/proc/{server.pid}/status", encoding="ascii") as lines:
                return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("RssAnon"))

        def seconds(which):
            begin = time.time()
            for i in which:
                ask(i, tokens=1)
            return (time.time() - begin) / len(which)

        def rate(overlays):
            begin = time.time()
            with concurrent.futures.ThreadPoolExecutor(CLIENTS) as pool:
                tokens = sum(pool.map(ask, overlays))
            return tokens / (time.time() - begin)

        seconds([0] * 20)
        before = resident()  # and one question at a time until `after`: many rows take memory of their own
        opening = seconds(range(1, n))
        after = resident()
        again = seconds(range(1, n, 10))
        one, many = [], []
        for _ in range(rounds):
            one.append(rate([0] * CLIENTS))
            many.append(rate(range(CLIENTS)))
        return {"overlays": n, "facts_each": 1 + len(OTHERS), "disk_bytes_each": disk, "resident_bytes_each": round((after - before) / (n - 1)),
                "resident_bytes": after - before, "first_question_seconds": round(opening, 4), "later_question_seconds": round(again, 4),
                "clients": CLIENTS, "tokens_a_second_of_one_overlay": round(statistics.median(one), 1),
                "tokens_a_second_of_as_many": round(statistics.median(many), 1),
                "ratio": round(statistics.median(m / o for m, o in zip(many, one)), 3)}
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    main()
