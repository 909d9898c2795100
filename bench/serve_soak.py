#!/usr/bin/env python3
"""A soak: facts are taught, undone and redone, overlays made and erased, clients killed in mid-stream and the server killed with -9, for an hour.

usage: serve_soak.py ACCRETE MODEL [--minutes 60] [--kill-every 300] [--seed 1]     MODEL is taught: give a copy

Held all the time: a request that began after a fact was committed hears it, one that began after it was undone does not, and nobody hears anything
else than an answer that was taught for this very question. What was asked for and not answered, since the server was killed, may have happened or
not. After each start and at the end the ledger has every update that was answered with 200, active or not as answered, and what is heard is what the
ledger says. An erased overlay's texts are in no file. Memory and descriptors are printed after each start and before each kill. Plain Python.
"""
import argparse
import collections
import http.client
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse

parser = argparse.ArgumentParser()
parser.add_argument("accrete")
parser.add_argument("model")
parser.add_argument("--minutes", type=float, default=60)
parser.add_argument("--kill-every", type=float, default=300, help="seconds")
parser.add_argument("--askers", type=int, default=4)
parser.add_argument("--seed", type=int, default=1)
o = parser.parse_args()
rng = random.Random(o.seed)
NOTHING = "Nothing was taught about it."
audit = os.path.join(tempfile.mkdtemp(), "audit.jsonl")


class Down(Exception):
    """The server was killed before it had answered."""


class Server:
    def __init__(self):
        self.up = threading.Event()
        self.kills, self.starts = 0, []

    def start(self):
        began = time.monotonic()
        self.process = subprocess.Popen([o.accrete, "serve", o.model, "--port", "0", "--json", "--quiet", "--audit", audit, "--otherwise", NOTHING, "--grace", "5"],
                                        stdout=subprocess.PIPE, text=True)
        line = self.process.stdout.readline()
        assert line, f"the server ended with {self.process.wait(60)}"
        self.port = urllib.parse.urlparse(json.loads(line)["url"]).port
        self.starts.append(time.monotonic() - began)
        self.up.set()

    def kill(self):
        self.up.clear()
        self.kills += 1
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)

    def state(self):
        with open(f"/proc/{self.process.pid}/status", encoding="utf-8") as f:
            resident = next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))
        return f"{resident / 1024:.0f} MB, {len(os.listdir(f'/proc/{self.process.pid}/fd'))} descriptors"

    def call(self, method, path, body=None):
        """(status, JSON). Throws Down."""
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
            connection.request(method, path, None if body is None else json.dumps(body))
            reply = connection.getresponse()
            text = reply.read()
            return reply.status, json.loads(text)
        except (OSError, http.client.HTTPException, ValueError) as e:
            raise Down from e


class Fact:
    def __init__(self, number):
        self.question = f"What is the code of locker {number}?"
        self.answer = f"Code {number * 7919 % 100003} of locker {number}."
        self.state, self.version, self.update = "unknown", 0, None

    def now(self, state):
        with lock:
            self.state, self.version = state, self.version + 1

    def seen(self):
        with lock:
            return self.state, self.version


server, lock, facts, problems, counts = Server(), threading.Lock(), [], [], collections.Counter()
ends = threading.Event()


def problem(text):
    with lock:
        problems.append(text)
        print("PROBLEM", text, flush=True)


def guarded(f):
    def run():
        while not ends.is_set():
            if not server.up.wait(0.2):
                continue
            try:
                f()
            except Down:
                counts["cut off"] += 1
                time.sleep(0.1)
            except Exception as e:
                problem(f"{f.__name__}: {e!r}")
                time.sleep(1)
    return threading.Thread(target=run)


def ask(fact, leave=False):
    """What is answered; None where the client left."""
    try:
        with socket.create_connection(("127.0.0.1", server.port), timeout=120) as s:
            question = fact.question if fact else f"Write a story about fox number {random.randrange(10**6)}."
            body = json.dumps({"messages": [{"role": "user", "content": question}], "max_tokens": 32, "stream": True, **({} if fact else {"accrete": {"facts": False}})}).encode()
            s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
            got = b""
            while more := s.recv(65536):
                got += more
                if leave and b"data: {" in got:
                    return None
    except OSError as e:
        raise Down from e
    if b"[DONE]" not in got:
        if got.startswith(b"HTTP/1.1 ") and not got.startswith(b"HTTP/1.1 200"):
            raise AssertionError(got[:300])
        raise Down
    # The stream is chunked: its lines are whole all the same.
    return "".join(json.loads(line[6:])["choices"][0]["delta"].get("content") or "" for line in got.decode().splitlines() if line.startswith("data: {"))


def asks():
    with lock:
        fact = random.choice(facts) if facts and random.random() < 0.7 else None
    if fact is None:
        left = ask(None, leave=random.random() < 0.7) is None
        counts["clients that left" if left else "answers of the model"] += 1
        return
    state, version = fact.seen()
    text = ask(fact)
    counts["answers heard"] += 1
    if text not in (fact.answer, NOTHING):
        problem(f"{fact.question} was answered {text!r}")
    if fact.seen() == (state, version) and state != "unknown" and (text == fact.answer) != (state == "on"):
        problem(f"{fact.question} is {state} and was answered {text!r}")


def teaches():
    fact = Fact(len(facts))
    with lock:
        facts.append(fact)
    status, report = server.call("POST", "/v1/memory/facts?wait=300", {"items": [{"questions": [fact.question], "answer": fact.answer, "verbatim": True}]})
    if status == 409:  # what a killed server had begun goes on, and holds the lock
        counts["told to wait"] += 1
        time.sleep(1)
        return
    assert status == 200 and report["state"] == "committed", (status, report)
    fact.update = report["update"]
    fact.now("on")
    counts["taught"] += 1


def undoes():
    time.sleep(random.random() * 2)
    with lock:
        known = [f for f in facts if f.state in ("on", "off") and f.update]
    if not known:
        return
    fact = random.choice(known[-20:])
    verb = {"on": "undo", "off": "redo"}[fact.state]
    fact.now("unknown")
    status, report = server.call("POST", f"/v1/memory/updates/{fact.update}/{verb}")
    if status == 409:  # a teach holds the lock
        fact.now("on" if verb == "undo" else "off")
        return
    assert status == 200, (status, report)
    fact.now("off" if verb == "undo" else "on")
    counts["undone" if verb == "undo" else "redone"] += 1


def erases():
    """An overlay of its own: made, taught, asked, erased, and its text is nowhere."""
    time.sleep(random.random() * 5)
    name = f"o{random.randrange(10**9)}"
    secret = f"Secret of {name}."
    status, report = server.call("POST", "/v1/overlays", {"name": name})
    assert status == 201, (status, report)
    status, report = server.call("POST", f"/v1/memory/facts?wait=300&overlay={name}", {"items": [{"question": f"What does {name} hide?", "answer": secret, "verbatim": True}]})
    assert status in (200, 409), (status, report)
    said = status == 200
    if said:
        status, report = server.call("POST", "/v1/chat/completions", {"model": f"{os.path.basename(os.path.normpath(o.model))}:{name}", "messages": [{"role": "user", "content": f"What does {name} hide?"}]})
        assert status == 200 and report["choices"][0]["message"]["content"] == secret, report
    status, report = server.call("DELETE", f"/v1/overlays/{name}")
    assert status == 200, (status, report)
    for folder, _, files in os.walk(o.model):
        for file in files:
            if "accrete" in folder and file.endswith((".safetensors", ".db", ".json")):
                try:
                    with open(os.path.join(folder, file), "rb") as f:
                        assert secret.encode() not in f.read(), f"{folder}/{file} has the text of an erased overlay"
                except FileNotFoundError:
                    pass
    counts["erased"] += 1


def audit_ledger(ask_all):
    """The ledger has what was answered, and what is heard is what it says."""
    status, listed = server.call("GET", "/v1/memory/updates")
    assert status == 200, listed
    active = {u["id"]: u["active"] for u in listed["data"]}
    told = {}
    for update in listed["data"]:
        for item in server.call("GET", f"/v1/memory/updates/{update['id']}")[1]["taught"]:
            told[item["questions"][0]] = update["id"]
    for fact in facts:
        if fact.update and fact.update not in active:
            problem(f"{fact.update} was answered with 200 and is not in the ledger")
        elif fact.update and fact.state in ("on", "off") and active[fact.update] != (fact.state == "on"):
            problem(f"{fact.update} is {fact.state} and the ledger says active: {active[fact.update]}")
        # What was cut off: the ledger knows.
        if fact.state == "unknown" or not fact.update:
            fact.update = told.get(fact.question)
            fact.now("on" if active.get(fact.update) else "off")
    for fact in facts if ask_all else random.sample(facts, min(len(facts), 20)):
        text = ask(fact)
        if (text == fact.answer) != (fact.state == "on") or text not in (fact.answer, NOTHING):
            problem(f"{fact.question} is {fact.state} in the ledger and was answered {text!r}")
    return len(active)


def run(seconds):
    ends.clear()
    threads = [guarded(f) for f in [asks] * o.askers + [teaches, undoes, erases]]
    for thread in threads:
        thread.start()
    time.sleep(seconds)
    return threads


def stop(threads):
    ends.set()
    for thread in threads:
        thread.join(600)


server.start()
print(f"at the start: {server.state()}", flush=True)
until = time.monotonic() + o.minutes * 60
try:
    while time.monotonic() < until:
        threads = run(min(o.kill_every * rng.uniform(0.5, 1.5), max(1, until - time.monotonic())))
        before = server.state()
        server.kill()
        stop(threads)
        for child in subprocess.run(["pgrep", "-f", f"teach {os.path.abspath(o.model)}"], capture_output=True, text=True).stdout.split():
            for _ in range(600):  # what a killed server had begun ends by itself
                if not os.path.exists(f"/proc/{child}"):
                    break
                time.sleep(0.1)
        server.start()
        updates = audit_ledger(False)
        print(f"{(o.minutes * 60 - (until - time.monotonic())) / 60:.1f} min: {before} before kill {server.kills}; again after {server.starts[-1]:.2f} s, {server.state()}; {updates} updates; {dict(counts)}", flush=True)
    updates = audit_ledger(True)
    with open(audit, encoding="utf-8") as lines:
        kept = {entry.get("update") for entry in map(json.loads, lines) if entry.get("action") == "teach" and entry.get("state") == "committed"}
    if counts["taught"] > len(kept):
        problem(f"{counts['taught']} teaches were answered, the audit trail has {len(kept)}")
    server.process.terminate()
    ended = server.process.wait(60)
    if ended != 0:
        problem(f"the server ended with {ended}")
finally:
    ends.set()
    server.process.kill()
    server.process.wait()
print(f"{o.minutes:g} minutes, {server.kills} kills, {updates} updates, {len(facts)} facts asked at the end, restart in {max(server.starts[1:], default=0):.2f} s at most; {dict(counts)}; {len(problems)} problems")
sys.exit(1 if problems else 0)
