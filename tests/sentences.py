#!/usr/bin/env python3
"""Counts the words of the sentences of README.md, CONTRIBUTING.md and docs/*.md.

usage: sentences.py [--list]

Fails where a document's mean is above MEAN words, or a sentence is above MOST. Tables, code, headings and what stands in
parentheses at a sentence's end as a reference are not counted: they are looked up, not read through. Plain Python.
"""
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MEAN, MOST = 18, 40


def paragraphs(text):
    """Running text: without code, tables, headings and comments; items of a list are paragraphs."""
    text = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    out, now = [], []
    for line in text.splitlines() + [""]:
        new = re.match(r"\s*([-*]|\d+\.)\s", line)
        if not line.strip() or new or line.startswith(("|", "#", "    ")):
            if now:
                out.append(" ".join(now))
            now = [re.sub(r"^\s*([-*]|\d+\.)\s", "", line)] if new else []
        else:
            now.append(line.strip())
    return out


def sentences(paragraph):
    text = re.sub(r"`[^`]*`", "Code", paragraph)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"[*_]{1,3}", "", text)
    # An end is a mark, a closing quote or parenthesis, and a new beginning; of "e.g." and "1.5" it is none.
    return [s for s in re.split(r"(?<=[.!?:])[)\"”]?\s+(?=[A-Z\"“(`\d])", text) if re.search(r"\w", s)]


def main():
    bad = 0
    for path in [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]:
        found = [(len(s.split()), s) for p in paragraphs(path.read_text(encoding="utf-8")) for s in sentences(p)]
        mean = sum(n for n, _ in found) / max(1, len(found))
        long = [(n, s) for n, s in found if n > MOST]
        bad += mean > MEAN or bool(long)
        print(f"{path.relative_to(ROOT)}: {len(found)} sentences, {mean:.1f} words each, {len(long)} above {MOST}")
        if "--list" in sys.argv:
            for n, s in long:
                print(f"  {n}: {s}")
    if bad:
        print(f"sentences: {bad} documents need shorter ones; try: tests/sentences.py --list", file=sys.stderr)
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())
