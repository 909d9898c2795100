#!/usr/bin/env python3
"""Two manners of people at a desk: they leave out the name of the one thing that it is about, and they ask two things in one message.

usage: desk_manners.py ACCRETE GGUF [--split test] [--out FILE]

The facts of data/desk are taught to be written as they are, so that nothing but the decision is measured, and asked over `accrete serve`.
*Without the name*: of each of the four things 36 facts are taught, and asked in the wordings that were not taught, with the name and
without it ("of the Corvane 5" goes, "the Corvane 5" becomes "it"); then what was not taught about the thing, without the name, its twins
written small, and the unrelated questions. *Two in one message*: all facts of the shop and the things at once; 40 draws each of two
facts of one of them, asked in wordings that were not taught, as two sentences, with "And ...", with a greeting and thanks, or in one
sentence with "and". "both": the two answers in this order and nothing else.
"""
import argparse
import concurrent.futures
import json
import pathlib
import random
import re
import subprocess
import tempfile
import urllib.request

DESK = pathlib.Path(__file__).resolve().parent.parent / "data" / "desk"
FACTS, PAIRS = 36, 40
FORMS = {"two sentences": "{0} {1}", "the second with And": "{0} And {3}", "greeting and thanks": "Hello, {2} Also, {3} Thanks!",
         "one sentence with and": "{4} and {3}"}


def lines(name):
    return [json.loads(line) for line in (DESK / name).read_text().splitlines()]


def without(name, text):
    """A question that does not say the name."""
    name = re.escape(name)
    text = re.sub(rf"\b(the |my )?{name}'s? ", "the ", text)
    text = re.sub(rf"\s*\b(of|in|at|to|from|for|on) (the |my |our )?{name}\b", "", text)
    text = re.sub(rf"\bthe {name} (?=[a-z])", "the ", text)
    text = re.sub(rf"\b(the |a |one |my )?{name}\b", "it", text).strip()
    return text[:1].upper() + text[1:]


class Served:
    """A model that was taught these facts, asked over HTTP."""

    def __init__(self, given, work, facts):
        model, taught = pathlib.Path(work) / "model", pathlib.Path(work) / "taught.jsonl"
        taught.write_text("".join(
            json.dumps({"questions": f["questions"], "answer": f["answer"], "verbatim": True}) + "\n" for f in facts))
        run = lambda *command: subprocess.run([given.accrete, *command, "--quiet"], check=True, capture_output=True)
        run("retrofit", given.gguf, model, "--tell", "value")
        run("teach", model, taught)
        self.process = subprocess.Popen([given.accrete, "serve", model, "--port", "0", "--json"], stdout=subprocess.PIPE, text=True)
        self.url = json.loads(self.process.stdout.readline())["url"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def one(self, question):
        body = {"messages": [{"role": "user", "content": question}], "max_tokens": 400, "accrete": {"otherwise": "-"}}
        request = urllib.request.Request(self.url + "/chat/completions", json.dumps(body).encode())
        return json.load(urllib.request.urlopen(request))["choices"][0]["message"]["content"]

    def ask(self, questions):
        with concurrent.futures.ThreadPoolExecutor(8) as pool:
            return list(pool.map(self.one, questions))


def unnamed(given):
    out = {}
    things = {}
    for fact in lines(f"things_{given.split}.jsonl"):
        things.setdefault(fact["subject"], []).append(fact)
    twins = [(row["of"], row["question"].lower()) for row in lines(f"twins_{given.split}.jsonl")]
    unrelated = [row["question"] for row in lines("unrelated.jsonl")]
    for name, facts in things.items():
        taught, left = facts[:FACTS], facts[FACTS:]
        with tempfile.TemporaryDirectory() as work, Served(given, work, taught) as served:
            for style in ("asked", "far"):
                for how, text in (("named", lambda q: q), ("unnamed", lambda q: without(name, q))):
                    pairs = [(text(q), f["answer"]) for f in taught for q in f[style]]
                    said = served.ask([q for q, _ in pairs])
                    count(out, f"{style} {how}", sum(a == b for a, (_, b) in zip(said, pairs)), len(pairs))
            for what, questions in (("left unnamed", [without(name, q) for f in left for q in f["asked"]]),
                                    ("twins in small letters", [q for of, q in twins if of == name]), ("unrelated", unrelated)):
                count(out, what + ", answered", sum(a != "-" for a in served.ask(questions)), len(questions))
    return out


def count(out, what, n, of):
    a, b = out.get(what, (0, 0))
    out[what] = (a + n, b + of)


def together(given):
    groups = {}
    facts = lines(f"shop_{given.split}.jsonl") + lines(f"things_{given.split}.jsonl")
    for fact in facts:
        groups.setdefault(fact.get("subject", ""), []).append(fact)
    rng, asked = random.Random(5), []
    ends = lambda q: q if q.rstrip().endswith("?") else q + "?"
    small = lambda q: q[:1].lower() + q[1:]
    for name, group in groups.items():
        for _ in range(PAIRS):
            a, b = rng.sample(group, 2)
            qa, qb = ends(rng.choice(a["asked"])), ends(rng.choice(b["asked"]))
            if name and rng.random() < 0.5:
                qb = qb.replace("the " + name, "it").replace(name, "it")
            form = rng.choice(list(FORMS))
            asked.append((form, FORMS[form].format(qa, qb, small(qa), small(qb), qa.rstrip("? ")), a["answer"], b["answer"]))
    with tempfile.TemporaryDirectory() as work, Served(given, work, facts) as served:
        said = served.ask([text for _, text, _, _ in asked])
    out = {form: {"both": 0, "one of them": 0, "none": 0, "other": 0} for form in FORMS}
    for text, (form, _, a, b) in zip(said, asked):
        out[form]["both" if text == f"{a}\n{b}" else "one of them" if text in (a, b) else "none" if text == "-" else "other"] += 1
    return {"messages": len(asked), **out}


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("accrete")
    parser.add_argument("gguf")
    parser.add_argument("--split", choices=["dev", "test"], default="test")
    parser.add_argument("--out")
    given = parser.parse_args()
    result = {"benchmark": "desk manners", "split": given.split, "without the name": unnamed(given), "two in one message": together(given)}
    text = json.dumps(result, indent=1)
    print(text)
    if given.out:
        pathlib.Path(given.out).write_text(text + "\n")


if __name__ == "__main__":
    main()
