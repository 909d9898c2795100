#!/usr/bin/env python3
"""Encoding speed against Hugging Face `tokenizers`, one thread each, in one run, by processor time.

    .venv/bin/python bench/tokenizer_bench.py --helper build/tests/text/tokenize \
        [--tokenizer FOLDER/tokenizer.json] [--text FILE]

Prints one JSON object a tokenizer: bytes a second of both and their ratio (ours over theirs), and
whether the ids agree. Without --tokenizer: GPT-2, and the Llama 3 regex on its vocabulary. Without
--text: the Python sources of the standard library.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import sysconfig
import tempfile
import time

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tests/text"))

import parity_cases as cases  # noqa: E402
from parity_text import gpt2_json  # noqa: E402


def standard_library(limit):
    text = ""
    for path in sorted(pathlib.Path(sysconfig.get_path("stdlib")).glob("*.py")):
        text += path.read_text("utf-8", errors="ignore")
        if len(text) > limit:
            break
    return text[:limit]


def measure(helper, name, path, text, rounds):
    from tokenizers import Tokenizer

    reference = Tokenizer.from_file(path)
    # The library keeps offsets too, which it cannot be told not to; lines are its best case.
    lines = text.splitlines(keepends=True)
    theirs, theirs_lines = [], []
    for _ in range(rounds):
        start = time.process_time()
        ids = reference.encode(text, add_special_tokens=False).ids
        theirs.append(time.process_time() - start)
        start = time.process_time()
        reference.encode_batch_fast(lines, add_special_tokens=False)
        theirs_lines.append(time.process_time() - start)
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8", newline="") as file:
        file.write(text)
        file.flush()
        requests = [
            {"tokenizer": path},
            {"bench": file.name, "rounds": rounds},
            {"encode": text},
        ]
        out = subprocess.run(
            [helper], input="\n".join(map(json.dumps, requests)).encode(), capture_output=True,
            check=True,
        ).stdout.splitlines()  # fmt: skip
    ours = json.loads(out[1])["seconds"]
    size = len(text.encode())
    best = min(*theirs, *theirs_lines)
    print(
        json.dumps(
            {
                "tokenizer": name,
                "bytes": size,
                "tokens": len(ids),
                "equal": json.loads(out[2])["ids"] == ids,
                "accrete_mb_s": round(size / ours / 1e6, 2),
                "tokenizers_mb_s": round(size / best / 1e6, 2),
                "ratio": round(best / ours, 2),
            }
        )
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--helper", required=True, help="the executable of tests/text")
    parser.add_argument("--tokenizer", help="a tokenizer.json")
    parser.add_argument("--text", help="a UTF-8 file")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    text = standard_library(4 << 20)
    if arguments.text:
        text = pathlib.Path(arguments.text).read_bytes().decode("utf-8")
    if arguments.tokenizer:
        measure(arguments.helper, arguments.tokenizer, arguments.tokenizer, text, arguments.rounds)
        return
    spec = gpt2_json()
    plain = cases.byte_level(use_regex=False)
    pre_tokenizers = {
        "GPT-2": spec["pre_tokenizer"],
        "cl100k regex": cases.sequence(cases.split(cases.CL100K_PATTERN), plain),
        "cl100k regex in PCRE2": cases.sequence(cases.split(f"(?:{cases.CL100K_PATTERN})"), plain),
        "o200k regex in PCRE2": cases.sequence(cases.split(cases.O200K_PATTERN), plain),
    }
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "tokenizer.json")
        for name, pre_tokenizer in pre_tokenizers.items():
            with open(path, "w", encoding="utf-8") as file:
                json.dump(spec | {"pre_tokenizer": pre_tokenizer}, file)
            measure(arguments.helper, name, path, text, arguments.rounds)


if __name__ == "__main__":
    main()
