#!/usr/bin/env python3
"""Every verb's --help: the shared options, an example, a text for each option and positional.

usage: help.py ACCRETE
"""
import re
import subprocess
import sys

ACCRETE = sys.argv[1]
SHARED = ["--json", "--quiet", "--seed", "--device", "--threads"]
problems = []


def help_of(path):
    result = subprocess.run([ACCRETE, *path, "--help"], capture_output=True, text=True)
    if result.returncode != 0:
        problems.append(f"{path}: exit {result.returncode}")
    return result.stdout


def entries(text):
    """The entries of a help text, by section: {section: {name: description}}."""
    sections, section, entry = {}, None, None
    for line in text.splitlines():
        if re.fullmatch(r"\w[\w ]*:", line):
            section, entry = sections.setdefault(line[:-1], {}), None
        elif section is not None and (match := re.match(r"  (\S+(?: \S+)*?)(?:  +(\S.*))?$", line)):
            entry = match[1]
            section[entry] = match[2] or ""
        elif entry is not None and line.strip():
            section[entry] += " " + line.strip()
    return sections


def check(path):
    text = help_of(path)
    name = " ".join(["accrete", *path])
    for line in text.splitlines():
        if len(line) > 100:
            problems.append(f"{name}: a line of {len(line)} characters: {line}")
    sections = entries(text)
    verbs = sections.get("Subcommands", {})
    for title in ("Positionals", "Options", "Every verb"):
        for entry, description in sections.get(title, {}).items():
            if not description.strip():
                problems.append(f"{name}: {entry} is not described")
    if verbs:
        for verb, description in verbs.items():
            if not description.strip():
                problems.append(f"{name}: {verb} is not described")
            check([*path, verb])
        return
    for option in SHARED:
        if option not in text:
            problems.append(f"{name}: no {option}")
    if "Example:\n  accrete" not in text and "Example:\n  source" not in text:
        problems.append(f"{name}: no example")


check([])
for problem in problems:
    print("FAILED:", problem)
print("help: passed" if not problems else f"{len(problems)} problems")
sys.exit(bool(problems))
