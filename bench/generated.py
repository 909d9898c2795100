"""What the scripts that write tables and plots from bench/results/ share: filling in a table, and writing or checking files."""
import os
import re
import sys


def fill(text, key, table, script):
    """`text` with `table` between its marks for `key`; None if it has no such place."""
    pattern = re.compile(f"(<!-- table {key}: bench/{script} -->\n).*?(<!-- end -->)", re.S)
    return pattern.sub(lambda m: m.group(1) + table + "\n" + m.group(2), text) if pattern.search(text) else None


def write_or_check(root, wanted, script):
    """Writes {name: text} below `root`; with --check says which are not so already instead. The exit status."""
    status = 0
    for name, new in wanted.items():
        path, old = os.path.join(root, name), None
        if os.path.exists(path):
            with open(path, encoding="utf-8") as f:
                old = f.read()
        if new != old and "--check" in sys.argv:
            print(f"{name} differs from bench/results; run bench/{script}", file=sys.stderr)
            status = 1
        elif new != old:
            with open(path, "w", encoding="utf-8") as f:
                f.write(new)
    return status
