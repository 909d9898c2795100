#!/usr/bin/env python3
"""Clients against a server: tokens a second and time to the first token at 1, 8 and 64 clients, alone and while it is taught.

usage: serve_load.py ACCRETE MODEL [--tokens 48] [--requests 2]     MODEL is taught and undone: give a copy

Each client asks one question after the other, streamed. Plain Python.
"""
import argparse
import http.client
import json
import statistics
import subprocess
import threading
import time
import urllib.parse

from chat_stream import timed_chat

parser = argparse.ArgumentParser()
parser.add_argument("accrete")
parser.add_argument("model")
parser.add_argument("--tokens", type=int, default=48)
parser.add_argument("--requests", type=int, default=2, help="of each client")
parser.add_argument("--clients", default="1,8,64")
o = parser.parse_args()

server = subprocess.Popen([o.accrete, "serve", o.model, "--port", "0", "--json"], stdout=subprocess.PIPE, text=True)
address = urllib.parse.urlparse(json.loads(server.stdout.readline())["url"])


def call(method, path, body=None):
    connection = http.client.HTTPConnection(address.hostname, address.port, timeout=600)
    connection.request(method, path, body)
    reply = connection.getresponse()
    text = reply.read()
    assert reply.status < 300, text
    return json.loads(text)


def load(clients, until=None):
    """Every client's requests; with `until` they go on until that is set."""
    firsts, counts = [], []

    def client(c):
        k = 0
        while not until.is_set() if until else k < o.requests:
            first, tokens = timed_chat(address.port, f"Write a story about fox number {c * 1000 + k}.", o.tokens)
            firsts.append(first)
            counts.append(tokens)
            k += 1

    threads = [threading.Thread(target=client, args=(c,)) for c in range(clients)]
    began = time.monotonic()
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    seconds = time.monotonic() - began
    firsts.sort()
    return sum(counts) / seconds, statistics.median(firsts), firsts[min(len(firsts) - 1, int(len(firsts) * 0.99))], len(firsts)


def show(name, result):
    print(f"{name}: {result[0]:.1f} tokens/s, first token {result[1]:.2f} s in the middle, {result[2]:.2f} s at 99 % of {result[3]}", flush=True)


try:
    load(1)
    for clients in (int(c) for c in o.clients.split(",")):
        show(f"{clients} clients", load(clients))
    for clients in (1, 8):
        ends = threading.Event()
        result = []
        asking = threading.Thread(target=lambda: result.append(load(clients, ends)))
        asking.start()
        began = time.monotonic()
        facts = "\n".join(json.dumps({"questions": [f"What is the code of shelf {k}?", f"Which code has shelf {k}?"], "answer": f"{k * 37 % 1000} blue"}) for k in range(8))
        job = call("POST", "/v1/memory/facts?wait=600", facts)
        took = time.monotonic() - began
        ends.set()
        asking.join()
        show(f"{clients} clients while 8 facts are taught ({took:.0f} s)", result[0])
        call("POST", f"/v1/memory/updates/{job['update']}/undo", "")
        show(f"{clients} clients again", load(clients))
finally:
    server.terminate()
    server.wait(60)
