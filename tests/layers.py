#!/usr/bin/env python3
"""Checks the #includes of src/ and include/ against the table of layers in docs/architecture.md.

usage: layers.py [SOURCE_DIR]

Fails on: a file of no layer; an include of a layer further down in the table, or of one that the table of detours keeps
from it; libtorch where the table says no;
an include in quotes that is no file of the tree; a circle of files; an exception of the list that is not needed.
Plain Python, nothing to install.
"""
import fnmatch
import re
import sys
from pathlib import Path

ROOT = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent)
TABLE = ROOT / "docs" / "architecture.md"
SUFFIXES = {".cc", ".cu", ".h", ".inc"}
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"\n]+)[>"]', re.M)
LIBTORCH = re.compile(r"(ATen|c10|torch)/")
# Written by the build from python/*.py and src/serve/page.html.
GENERATED = {"modeling_accrete.inc", "modeling_accrete_facts.inc", "page.inc"}
problems = []


def rows(mark):
    """The cells of the table below `<!-- mark: ... -->`, without its head."""
    block = re.search(rf"<!-- {mark}: [^>]*-->\n(.*?)<!-- end -->", TABLE.read_text(encoding="utf-8"), re.S)
    if block is None:
        sys.exit(f"layers: {TABLE} has no table <!-- {mark}: ... -->")
    lines = [line for line in block.group(1).splitlines() if line.startswith("|")]
    return [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines[2:]]


def layer_of(file):
    """The row of the longest folder (or name without its ending) that holds `file`, a path below ROOT; None."""
    inside = [i for i, folder in enumerate(folders) if file.startswith((folder + "/", folder + "."))]
    return max(inside, key=lambda i: len(folders[i]), default=None)


def circle(graph):
    """The files of one circle of includes, the first one again at the end; None."""
    done = set()
    for start in graph:
        path, trail = [], [(start, iter(graph[start]))]
        if start in done:
            continue
        path.append(start)
        while trail:
            node, rest = trail[-1]
            following = next(rest, None)
            if following is None:
                done.add(node)
                trail.pop()
                path.pop()
            elif following in path:
                return path[path.index(following):] + [following]
            elif following not in done:
                path.append(following)
                trail.append((following, iter(graph[following])))
    return None


layers = rows("layers")
folders = [row[0] for row in layers]
without_libtorch = [row[2] == "no" for row in layers]
for row in layers:
    if row[2] not in ("yes", "no"):
        problems.append(f"{TABLE}: {row[0]}: libtorch is yes or no, not {row[2]!r}")
    if not (ROOT / row[0]).is_dir() and not (ROOT / (row[0] + ".h")).is_file():
        problems.append(f"{TABLE}: there is no folder {row[0]}")
detours = [(row[0] + "/", tuple(folder.strip(" `") + "/" for folder in row[1].split(",")), tuple(name.strip(" `") for name in row[2].split(",")))
           for row in rows("layer detours")]
exceptions = {(row[0], row[1]) for row in rows("layer exceptions")}

files = sorted(p for top in ("src", "include") for p in (ROOT / top).rglob("*") if p.suffix in SUFFIXES)
names = {str(p.relative_to(ROOT)) for p in files}
graph, needed, includes = {name: [] for name in sorted(names)}, set(), 0
for path in files:
    name = str(path.relative_to(ROOT))
    own = layer_of(name)
    if own is None:
        problems.append(f"{name} is in no layer of {TABLE.name}")
        continue
    text = path.read_text(encoding="utf-8")
    for match in INCLUDE.finditer(text):
        quote, what = match.groups()
        where = f"{name}:{text.count(chr(10), 0, match.start()) + 1}"
        found = next((top + what for top in ("src/", "include/") if top + what in names), None)
        if found is None:
            if quote == '"' and what not in GENERATED:
                problems.append(f'{where}: "{what}" is no file of src/ or include/ (give its path from there)')
            if without_libtorch[own] and LIBTORCH.match(what):
                problems.append(f"{where}: {folders[own]} does without libtorch, and this includes <{what}>")
            continue
        includes += 1
        graph[name].append(found)
        other = layer_of(found)
        for folder, others, spared in detours:
            if (name.startswith(folder) and found.startswith(others)
                    and not any(fnmatch.fnmatch(name[len(folder):], pattern) for pattern in spared)):
                problems.append(f"{where}: {folder} leaves {found} to the layers between (the detours of {TABLE.name})")
        if other is None or other <= own:
            continue
        if (name, what) in exceptions:
            needed.add((name, what))
        else:
            problems.append(f"{where}: {folders[own]} must not use {folders[other]}, which is below it: {what}")
for name, what in sorted(exceptions - needed):
    problems.append(f"{TABLE.name}: the exception {name} -> {what} is not needed any more; remove it")
found = circle(graph)
if found:
    problems.append("a circle of files: " + " -> ".join(found))

for problem in problems:
    print("FAILED:", problem, file=sys.stderr)
print(f"layers: {len(files)} files, {includes} includes of the tree, {len(needed)} exceptions, {len(problems)} problems")
sys.exit(bool(problems) or not includes)
