#!/usr/bin/env python3
"""What needs no tensors loads no libtorch; what needs them does, so that the check can fail.

usage: startup.py ACCRETE

The dynamic loader tells which libraries a process opens (LD_DEBUG=files): no times are measured.
"""
import os
import subprocess
import sys
import tempfile

ACCRETE = sys.argv[1]
problems = []


def libraries(*arguments, status=0):
    """The shared libraries that this command opened."""
    with tempfile.TemporaryDirectory() as folder:
        out = os.path.join(folder, "loader")
        environment = dict(os.environ, LD_DEBUG="files", LD_DEBUG_OUTPUT=out)
        result = subprocess.run([ACCRETE, *arguments], capture_output=True, text=True, env=environment)
        if result.returncode != status:
            problems.append(f"{arguments}: exit {result.returncode}, not {status}: {result.stderr[-300:]}")
        text = ""
        for name in os.listdir(folder):
            with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as f:
                text += f.read()
    names = {line.split("file=")[1].split(" ")[0] for line in text.splitlines() if "file=" in line}
    if not any("sqlite" in n for n in names):
        problems.append(f"{arguments}: the loader said nothing of sqlite, so that the test sees nothing")
    return names


def check(*arguments, tensors=False, status=0):
    found = sorted(n for n in libraries(*arguments, status=status) if "torch" in n or "libc10" in n)
    if bool(found) != tensors:
        problems.append(f"{arguments}: opened {found or 'no libtorch'}")


with tempfile.TemporaryDirectory() as model:
    check("--version")
    check("--help")
    check("teach", "--help")
    check("bench", "facts", "--help")
    check("completion", "bash")
    check("log", "--help")
    check("log", os.path.join(model, "absent"), status=1)
    check("show", os.path.join(model, "absent"), "abc", status=1)
    for verb in ("undo", "redo"):
        check(verb, os.path.join(model, "absent"), status=1)
    check("revert", os.path.join(model, "absent"), "abc", status=1)
    check("tag", os.path.join(model, "absent"), "abc", "name", status=1)
    check("digest", os.path.join(model, "absent"), tensors=True, status=1)

for problem in problems:
    print("FAILED:", problem)
print("startup: passed" if not problems else f"{len(problems)} problems")
sys.exit(bool(problems))
