"""Plays one history through two builds of accrete and compares them; scripts/identity.sh says how it is called.

Compared after every step: exit status, standard output (of --json without times, seconds, bytes of memory and versions), and the message
of a refusal; at the end the bytes of every file of the models and exports but for the ledger's database, which holds times.
"""
import concurrent.futures
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time

import identity_models

ASK = ("--max-tokens", "12")
VALUE = ("--steps", "60", "--rate", "1")
WORDS = "How heavy is the Pellor 300?"
# What is asked after every change: taught, in words never taught, left to the model, never taught.
QUESTIONS = (WORDS, "Which colour has the Pellor 300?", "When are you open?", "Is the Pellor 300 waterproof?", "What is a haiku?")


def digest(model):
    return ("digest", model, "--json")


def asked(model, *questions, **options):
    more = [x for name, value in options.items() for x in ("--" + name, value)]
    return [("ask", model, q, *ASK, *more, "--json") for q in questions]


def history():
    """Command lines. {0}, {1}, ...: the ids of the updates that were taught so far."""
    steps = [("retrofit", "base", "m", "--reader", "reader", "--block", "1", "--caution", "-30", "--tell", "value", "--json"),
             ("retrofit", "base", "n", "--reader", "reader", "--tell", "both", "--json"), digest("m"), digest("n"),
             ("probe", "add", "m", "known", "known.jsonl", "--raw", "--json"), ("probe", "add", "m", "text", "document.txt", "--floor", "0.9", "--json"),
             ("probe", "list", "m", "--json"),
             ("plan", "m", "facts.jsonl", *VALUE, "--json"),
             ("teach", "m", "facts.jsonl", *VALUE, "--json"), digest("m"), *asked("m", *QUESTIONS),
             ("ask", "m", WORDS, *ASK, "--explain", "--json"), ("ask", "m", WORDS, *ASK, "--caution", "1000", "--json"),
             ("teach", "m", "talk.jsonl", *VALUE, "--json"), ("chat", "m", *ASK, "--json"),
             ("teach", "m", "raw.jsonl", *VALUE, "--raw", "--json"), ("ask", "m", "The capital of Vulmia is", "--raw", *ASK),
             ("eval", "m", "raw.jsonl", "--raw", "--max-tokens", "4", "--json"),
             ("plan", "m", "corrected.jsonl", *VALUE, "--json"), ("teach", "m", "corrected.jsonl", *VALUE, "--seed", "3", "--json"),
             ("ask", "m", WORDS, *ASK), ("teach", "m", "two.jsonl", "--json"), ("teach", "m", "document.txt", "--json"),
             ("check", "m", "--json"), ("log", "m", "--json"), ("show", "m", "{0}", "--json"), ("tag", "m", "{0}", "first", "--json"),
             ("diff", "m", "first", "base", "--json"), ("diff", "m", "{3}", "--json"),
             ("undo", "m", "--json"), ("ask", "m", WORDS, *ASK), ("redo", "m", "--json"), digest("m"),
             ("revert", "m", "first", "--json"), *asked("m", WORDS), digest("m"), ("revert", "m", "first", "--again", "--json"),
             digest("m"), ("audit", "m", "--json"), ("export", "m", "exported", "--json"),
             ("compact", "m", "--json"), *asked("m", *QUESTIONS[:2]), digest("m"), ("undo", "m", "--json"), digest("m"),
             # As a note beside the value, in another model.
             ("teach", "n", "facts.jsonl", *VALUE, "--json"), *asked("n", WORDS, "When are you open?", caution="-30"), digest("n"),
             # Rows of value tables, in a model of its own.
             ("pretrain", "tiny.toml", "--out", "p", "--json"), digest("p"), ("eval", "p", "native_facts.jsonl", "--json"),
             ("probe", "add", "p", "known", "native_facts.jsonl", "--floor", "0.5", "--json"),
             ("plan", "p", "new.jsonl", "--slots", "30", "--steps", "60", "--json"),
             ("teach", "p", "new.jsonl", "--slots", "30", "--steps", "60", "--json"), *asked("p", "Zoe Quint lives in"), digest("p"),
             ("teach", "p", "moved.jsonl", "--steps", "60", "--ranking", "tfidf", "--json"),
             ("teach", "p", "document.txt", "--stepwise", "--steps", "20", "--json"),
             *asked("p", "Zoe Quint lives in", "Ada Lunt lives in"), ("ask", "p", "Zoe Quint lives in", *ASK, "--explain", "--json"),
             ("check", "p", "--json"), ("audit", "p", "--json"), ("diff", "p", "base", "state", "--json"),
             ("undo", "p", "--json"), ("redo", "p", "--json"), digest("p"), ("compact", "p", "--json"), digest("p"), ("log", "p", "--json"),
             ("export", "p", "p_exported", "--json")]
    return steps


CHAT = "Tell me about the Quist 7.\nWho made it?\nHow heavy is the Pellor 300?\n"
# Keys of what is of the run and not of the result.
RUN_KEY = re.compile(r"(^|_)(seconds|time|bytes|peak|tool_version|tokens_per_second|speed|share_of_time)($|_)")
# Only the database holds times; a lock holds a process id.
UNSEEN = ("ledger.db", "ledger.db-wal", "ledger.db-shm", "lock")


def without_run(value):
    if isinstance(value, dict):
        return {k: without_run(v) for k, v in value.items() if not RUN_KEY.search(k)}
    return [without_run(v) for v in value] if isinstance(value, list) else value


class Side:
    def __init__(self, build, folder):
        self.program, self.folder, self.updates = os.path.join(os.path.abspath(build), "accrete"), folder, []

    def run(self, step):
        try:
            arguments = [a.format(*self.updates) if re.fullmatch(r"\{\d+\}", a) else a for a in step]
        except IndexError:
            return {"what": f"there are only {len(self.updates)} updates"}
        done = subprocess.run([self.program, *arguments, "--threads", "1", "--quiet"], cwd=self.folder, input=CHAT if step[0] == "chat" else "",
                              capture_output=True, text=True, timeout=300)
        said = done.stdout
        try:
            said = without_run(json.loads(said))
            if step[0] == "teach" and "update" in said:
                self.updates.append(said["update"])
        except ValueError:
            pass
        return {"status": done.returncode, "said": said, "message": done.stderr.strip()}

    def files(self):
        out = {}
        for top in ("m", "n", "p", "exported", "p_exported"):
            for parent, _, names in os.walk(os.path.join(self.folder, top)):
                for name in names:
                    path = os.path.join(parent, name)
                    if name not in UNSEEN:
                        with open(path, "rb") as f:
                            out[os.path.relpath(path, self.folder)] = hashlib.sha256(f.read()).hexdigest()
        return out


def differences(a, b, where=""):
    if isinstance(a, dict) and isinstance(b, dict):
        for key in sorted({*a, *b}):
            yield from differences(a.get(key, "(absent)"), b.get(key, "(absent)"), f"{where}.{key}" if where else str(key))
    elif isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        for i, (x, y) in enumerate(zip(a, b)):
            yield from differences(x, y, f"{where}[{i}]")
    elif a != b:
        yield f"{where}: {str(a)[:200]!r} before, {str(b)[:200]!r} after"


def play(before, after, stop_at_first=False, report=print):
    """The number of differences, each of which is reported."""
    found, refused = 0, 0
    with tempfile.TemporaryDirectory() as work, concurrent.futures.ThreadPoolExecutor(2) as both:
        made = os.path.join(work, "made")
        os.mkdir(made)
        here = os.getcwd()
        os.chdir(made)
        identity_models.make_base("base")
        identity_models.make_reader("reader")
        identity_models.make_sets()
        os.chdir(here)
        sides = []
        for name, build in (("before", before), ("after", after)):
            shutil.copytree(made, os.path.join(work, name, "x"))
            sides.append(Side(build, os.path.join(work, name, "x")))
        steps = history()
        for number, step in enumerate(steps):
            a, b = both.map(lambda side: side.run(step), sides)
            if os.environ.get("IDENTITY_SHOW"):
                print(number, " ".join(step), json.dumps(a)[:400], file=sys.stderr)
            if a.get("status") not in (0, 1):
                report(f"step {number}, accrete {' '.join(step)}: the build before: {a}")
                found += 1
            refused += a.get("status") == 1
            for difference in differences(a, b):
                report(f"step {number}, accrete {' '.join(step)}: {difference}")
                found += 1
            if found and stop_at_first:
                return found
        files = [side.files() for side in sides]
        for difference in differences(*files):
            report(f"file {difference}")
            found += 1
        if len(sides[0].updates) < 8 or refused > 3 or len(files[0]) < 40:
            report(f"the history is not worth its name: {len(sides[0].updates)} updates, {refused} refusals, {len(files[0])} files")
            found += 1
        report(f"identity: {len(steps)} steps, {len(sides[0].updates)} updates, {len(files[0])} files, {found} differences")
    return found


# What a spoiled build does otherwise: the verb, and what a wrapper does with its arguments ("$@") or output.
SPOILED = {"another seed": ("teach", '"$program" "$@" --seed 1'),
           "another word in an answer": ("ask", '"$program" "$@" | sed "s/\\(\\": *\\"\\)/\\1Q/"'),
           "a key of --json that is gone": ("check", '"$program" "$@" | sed "s/\\"floor\\"/\\"flor\\"/"'),
           "another exit status": ("undo", '"$program" "$@"; exit 3'),
           "one more byte in a file": ("export", '"$program" "$@" && for f in exported p_exported; do [ ! -d $f ] || printf " " >>$f/config.json; done')}


def self_test(build):
    missed = 0
    program = os.path.join(os.path.abspath(build), "accrete")
    for what, (verb, how) in SPOILED.items():
        with tempfile.TemporaryDirectory() as folder:
            wrapper = os.path.join(folder, "accrete")
            with open(wrapper, "w") as f:
                f.write(f'#!/usr/bin/env bash\nprogram={program}\nif [ "$1" = {verb} ]; then {how}; else exec "$program" "$@"; fi\n')
            os.chmod(wrapper, os.stat(wrapper).st_mode | stat.S_IXUSR)
            said = []
            found = play(build, folder, stop_at_first=verb != "export", report=said.append)
            print(f"{what}: " + (f"found ({said[0][:140]})" if found else "NOT FOUND"), flush=True)
            missed += not found
    print(f"identity: {len(SPOILED)} things spoiled, {missed} not found")
    return missed


def main():
    if len(sys.argv) != 3:
        sys.exit("usage: scripts/identity.sh BUILD_BEFORE BUILD_AFTER, or --self-test BUILD")
    for build in sys.argv[1:]:
        if build != "--self-test" and not os.access(os.path.join(build, "accrete"), os.X_OK):
            print(f"identity: there is no program {build}/accrete", file=sys.stderr)
            sys.exit(2)
    began = time.monotonic()
    bad = self_test(sys.argv[2]) if sys.argv[1] == "--self-test" else play(sys.argv[1], sys.argv[2])
    print(f"identity: {time.monotonic() - began:.0f} seconds")
    sys.exit(bool(bad))


main()
