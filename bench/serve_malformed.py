#!/usr/bin/env python3
"""Malformed requests against a server: mutations of valid ones, in the request line, the headers and the JSON body. Each has the right status and
none takes the server down.

usage: serve_malformed.py ACCRETE MODEL [--requests 10000] [--seed 1]

A body that is no JSON object is a 400. Nothing is a 5xx but 501 (a transfer coding that is not supported) and 505 (another HTTP). What is cut short
may be answered or not. Afterwards the server answers as before, with as many descriptors. Plain Python.
"""
import argparse
import collections
import concurrent.futures
import http.client
import json
import os
import random
import socket
import subprocess
import sys
import time
import urllib.parse

parser = argparse.ArgumentParser()
parser.add_argument("accrete")
parser.add_argument("model")
parser.add_argument("--requests", type=int, default=10000)
parser.add_argument("--seed", type=int, default=1)
parser.add_argument("--clients", type=int, default=8)
o = parser.parse_args()

# Nothing here teaches anything, whatever becomes of it: these sets have no answers.
CHAT = {"model": None, "max_tokens": 1, "temperature": 0, "messages": [{"role": "system", "content": "é\u2603"}, {"role": "user", "content": "Hi"}],
        "stop": ["x"], "stream": False, "accrete": {"facts": False, "caution": 0.5}}
VALID = [("POST", "/v1/chat/completions", CHAT), ("POST", "/v1/completions", {"prompt": [[1, 2, 3]], "max_tokens": 1, "logprobs": 1, "echo": True}),
         ("POST", "/v1/completions", {"prompt": "a", "max_tokens": 1, "top_p": 0.5, "seed": 7, "n": 1}),
         *[("POST", "/tokenize", {"prompt": "hello", "add_special_tokens": False})] * 3, *[("POST", "/detokenize", {"tokens": [1, 2, 3]})] * 3,
         ("POST", "/v1/embeddings", {"input": ["a"], "encoding_format": "float"}), ("POST", "/v1/memory/facts?wait=0", {"items": [{"question": "a"}]}),
         ("POST", "/v1/memory/plan", {"items": [{"questions": ["a", "b"]}]}), ("POST", "/v1/memory/forget", {"source": "nowhere.md"}),
         ("POST", "/v1/memory/updates/0123456789abcdef/undo", {"overlay": "nobody"}), ("POST", "/v1/overlays", {"name": "../x"}),
         ("POST", "/v1/memory/merge?on_conflict=ours", {"x": 1}), ("GET", "/v1/models", None), ("GET", "/health", None), ("GET", "/v1/memory/jobs/job-1", None),
         ("GET", "/v1/memory/updates?overlay=nobody", None)]
BITS = [b"\x00", b"\xff\xfe", b"\xed\xa0\x80", b"%zz", b"%00", b"../", b"1e999", b"-1", b"9" * 40, b"NaN", b"null", b"[" * 200, b"{" * 64, b'"', b"\\u0000", b"\\ud800", b"\r\n", b"\n",
        b"\r\n\r\n", b": ", b"Host: evil.example\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: gzip\r\n", b"Content-Length: 5\r\n", b"Content-Length: -1\r\n",
        b"Content-Length: 99999999999999999999\r\n", b"Expect: 100-continue\r\n", b"Connection: upgrade\r\nUpgrade: h2c\r\n", b"X: " + b"x" * 20000 + b"\r\n", b" HTTP/2.0", "é".encode(), b"true", b"1.5"]


def mutated(rng, data):
    data = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at, length = rng.randrange(len(data) + 1), rng.choice((1, 1, 2, 5, 20))
        kind = rng.randrange(6)
        if kind == 0 and data:
            data[at % len(data)] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del data[at:at + length]
        elif kind == 2:
            data[at:at] = data[at:at + length]
        elif kind == 3:
            del data[at:]
        elif kind == 4:
            data[at:at + rng.choice((0, length))] = rng.choice(BITS)
        else:
            data[at:at] = bytes(rng.randrange(256) for _ in range(length))
    return bytes(data)


def made(rng, port):
    """A request that is wrong somewhere: (which part, its bytes, its body or None)."""
    method, target, body = rng.choice(VALID)
    text = b"" if body is None else json.dumps({k: v for k, v in body.items() if v is not None}).encode()
    line = f"{method} {target} HTTP/1.1".encode()
    head = f"Host: 127.0.0.1:{port}\r\nContent-Type: application/json\r\nConnection: close\r\n".encode()
    part = rng.choice(("line", "head", "body", "body") if text else ("line", "head"))
    if part == "line":
        line = mutated(rng, line)
    if part == "body":
        text = mutated(rng, text)
    head += f"Content-Length: {len(text)}\r\n".encode() if text or method == "POST" else b""
    if part == "head":
        head = mutated(rng, head)
    return part, line + b"\r\n" + head + b"\r\n" + text, text if part == "body" else None


def is_object(text):
    def once(pairs):
        if len({k for k, _ in pairs}) != len(pairs):
            raise ValueError("a key twice")
        return dict(pairs)

    def refuse(_):
        raise ValueError("no number")
    try:
        return isinstance(json.loads(text.decode(), object_pairs_hook=once, parse_constant=refuse), dict)
    except (ValueError, RecursionError):
        return False


def send(port, data, patience):
    """The status of the answer; 0: none within these seconds, after which the client leaves, -1: nor did the server leave then."""
    with socket.create_connection(("127.0.0.1", port), timeout=patience) as s:
        got, left = b"", False
        try:
            s.sendall(data)
        except OSError:
            pass  # refused while it was sent
        while len(got) < 1 << 20:
            try:
                more = s.recv(65536)
            except socket.timeout:
                if left:
                    return -1
                left = True
                s.settimeout(30)
                s.shutdown(socket.SHUT_WR)
                continue
            except OSError:
                break
            if not more:
                break
            got += more
    while got.startswith(b"HTTP/1.1 100"):
        got = got.split(b"\r\n\r\n", 1)[1]
    return int(got[9:12]) if got.startswith(b"HTTP/1.") and got[9:12].isdigit() else 0


def descriptors(pid):
    return len(os.listdir(f"/proc/{pid}/fd"))


def one(port, number):
    rng = random.Random(f"{o.seed}-{number}")
    part, data, body = made(rng, port)
    # Only the frame of a mutated body is surely whole.
    status = send(port, data, 60 if part == "body" else 0.5)
    wrong = status == -1 or (status >= 500 and status not in (501, 505))
    # Of a request whose frame is whole the status is known where the body is none.
    if body is not None and not is_object(body) and b"/v1/memory/facts" not in data and b"/v1/memory/plan" not in data and b"/merge" not in data:
        empty = not body.strip() and b"/undo" in data
        wrong = wrong or not (status == 400 or (empty and status in (400, 404)))
    return part, status, data if wrong else None


server = subprocess.Popen([o.accrete, "serve", o.model, "--port", "0", "--json", "--quiet"], stdout=subprocess.PIPE, text=True)
try:
    port = urllib.parse.urlparse(json.loads(server.stdout.readline())["url"]).port

    def answer():
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        connection.request("POST", "/v1/chat/completions", json.dumps({**{k: v for k, v in CHAT.items() if v is not None}, "max_tokens": 8}))
        reply = connection.getresponse()
        assert reply.status == 200, reply.read()
        return json.loads(reply.read())["choices"]

    before, open_before, began = answer(), descriptors(server.pid), time.monotonic()
    counts, wrong = collections.Counter(), []
    with concurrent.futures.ThreadPoolExecutor(o.clients) as pool:
        for part, status, bad in pool.map(lambda n: one(port, n), range(o.requests)):
            counts[status] += 1
            if bad is not None:
                wrong.append((part, status, bad))
    assert server.poll() is None, f"the server ended with {server.returncode}"
    assert answer() == before, "it answers otherwise than before"
    for _ in range(100):
        if descriptors(server.pid) <= open_before:
            break
        time.sleep(0.1)
    left = descriptors(server.pid) - open_before
    print(f"{o.requests} requests in {time.monotonic() - began:.0f} s: " + ", ".join(f"{n} × {s or 'no answer'}" for s, n in sorted(counts.items())) + f"; {len(wrong)} wrong; {left} descriptors more")
    for part, status, data in wrong[:10]:
        print(f"  {status} for a mutated {part}: {data[:400]!r}")
    server.terminate()
    ended = server.wait(60)
    assert ended == 0, f"it ended with {ended}"
finally:
    server.kill()
    server.wait()
sys.exit(1 if wrong or left > 0 else 0)
