"""A native model whose table of slots is larger than the memory that it is given: asked and taught from the mapped file.

usage: larger_than_memory.py ACCRETE NATIVE [--half-keys N] [--limit MIB] [--facts N] [--work DIR] [--out FILE]

NATIVE is a native model (bench/native_gpu.tar.xz). Its table is spread over one of 4 N^2 slots: between any two half-keys others come that
win nowhere, so that the large model answers as the small one does, and what it reads lies far apart in a file that is read from disk. The large
one is asked and taught under a memory limit (a control group of its own, which takes root; what the system keeps of files counts), the
small one without.
"""
import argparse
import array
import json
import os
import pathlib
import shutil
import struct
import sys
import tempfile

import machine
import verbs

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("accrete")
parser.add_argument("native", type=pathlib.Path)
parser.add_argument("--half-keys", type=int, default=2048)
parser.add_argument("--limit", type=int, default=1024, help="of memory, in MiB")
parser.add_argument("--facts", type=int, default=50)
parser.add_argument("--asked", type=int, default=20)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--data", type=pathlib.Path, default=pathlib.Path("data"))
parser.add_argument("--work", type=pathlib.Path, help="where the large model goes; it is removed again")
parser.add_argument("--out", type=pathlib.Path)
args = parser.parse_args()

BYTES = {"F32": 4, "BF16": 2, "F16": 2, "I32": 4}


def open_tensors(path):
    """(header without metadata, a function that reads a tensor's bytes)"""
    f = open(path, "rb")
    (length,) = struct.unpack("<Q", f.read(8))
    header = json.loads(f.read(length))
    metadata = header.pop("__metadata__", None)

    def read(name):
        begin, end = header[name]["data_offsets"]
        f.seek(8 + length + begin)
        return f.read(end - begin)

    return header, metadata, read


def write_tensors(path, shapes, metadata, chunks):
    """shapes: name -> (dtype, shape); chunks(name) yields its bytes."""
    header, at = ({"__metadata__": metadata} if metadata else {}), 0
    for name, (dtype, shape) in shapes.items():
        size = BYTES[dtype]
        for n in shape:
            size *= n
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + size]}
        at += size
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name in shapes:
            for chunk in chunks(name):
                f.write(chunk)
        f.flush()
        os.fsync(f.fileno())
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)  # it is read from disk again


def spread(values, parts, n, width, step, filler):
    """Rows [parts, n, width bytes] -> [parts, n * step, width bytes]: row i goes to row i * step, `filler` to the others."""
    out = bytearray()
    for p in range(parts):
        for i in range(n):
            at = (p * n + i) * width
            out += values[at:at + width] + filler * (step - 1)
    return bytes(out)


def enlarge(source, to, half_keys):
    """Copies a native model with its table spread over half_keys half-keys; returns its slots, its bytes, and how many times that is."""
    shutil.copytree(source, to, copy_function=shutil.copyfile)
    config = json.loads((to / "config.json").read_text(encoding="utf-8"))
    memory = config["memory"]
    heads, n, step = memory["heads"], memory["half_keys"], half_keys // memory["half_keys"]
    if half_keys != n * step or step < 1:
        raise SystemExit(f"--half-keys must be a multiple of {n}")
    memory["half_keys"] = half_keys
    (to / "config.json").write_text(json.dumps(config, indent=2), encoding="utf-8")
    info = json.loads((to / "accrete" / "memory.json").read_text(encoding="utf-8"))
    info["half_keys"] = half_keys
    (to / "accrete" / "memory.json").write_text(json.dumps(info, indent=2), encoding="utf-8")

    header, metadata, read = open_tensors(source / "model.safetensors")
    prefix = f"model.layers.{memory['block']}.memory."
    shapes = {name: [t["dtype"], t["shape"]] for name, t in header.items()}
    shapes[prefix + "keys"][1] = [heads, 2, half_keys, memory["query_width"] // 2]
    shapes[prefix + "bias"][1] = [heads, 2, half_keys]
    width = shapes[prefix + "values"][1][1] * BYTES[shapes[prefix + "values"][0]]
    shapes[prefix + "values"][1] = [heads * half_keys**2, shapes[prefix + "values"][1][1]]

    def chunks(name):
        values = read(name)
        if name == prefix + "keys":
            row = memory["query_width"] // 2 * 4
            yield spread(values, heads * 2, n, row, step, bytes(row))
        elif name == prefix + "bias":
            yield spread(values, heads * 2, n, 4, step, struct.pack("<f", -1e30))
        elif name == prefix + "values":
            other = values[:half_keys * width]  # rows that nobody reads hold something too
            for h in range(heads):
                for i in range(half_keys):
                    if i % step:
                        yield other
                        continue
                    at = (h * n + i // step) * n * width
                    rows = (values[at + j * width:at + (j + 1) * width] + other[:(step - 1) * width] for j in range(n))
                    yield b"".join(rows)
        else:
            yield values

    write_tensors(to / "model.safetensors", shapes, metadata, chunks)

    header, metadata, read = open_tensors(source / "accrete" / "background.safetensors")
    slots = array.array("i", read("slots"))
    for at, slot in enumerate(slots):
        if slot >= 0:
            head, i, j = slot // n**2, slot // n % n, slot % n
            slots[at] = head * half_keys**2 + i * step * half_keys + j * step
    write_tensors(to / "accrete" / "background.safetensors", {name: (t["dtype"], t["shape"]) for name, t in header.items()}, metadata,
                  lambda name: [slots.tobytes() if name == "slots" else read(name)])
    slots = heads * half_keys**2
    return slots, slots * width, step**2


class Limit:
    """A control group with a memory limit; the processes started in it are killed beyond it."""

    def __init__(self, limit):
        two = os.path.exists("/sys/fs/cgroup/cgroup.controllers")
        root = pathlib.Path("/sys/fs/cgroup" if two else "/sys/fs/cgroup/memory")
        self.path = root / f"larger-than-memory-{os.getpid()}"
        self.peak_file = self.path / ("memory.peak" if two else "memory.max_usage_in_bytes")
        try:
            self.path.mkdir()
            (self.path / ("memory.max" if two else "memory.limit_in_bytes")).write_text(str(limit), encoding="utf-8")
        except OSError as error:
            raise SystemExit(f"larger_than_memory: cannot make a control group: {error}; run it as root")

    def enter(self):
        (self.path / "cgroup.procs").write_text(str(os.getpid()), encoding="utf-8")

    def peak(self):
        return int(self.peak_file.read_text(encoding="utf-8"))

    def close(self):
        self.path.rmdir()


def run(limit, *command):
    return verbs.run(args.accrete, *command, "--threads", args.threads, preexec_fn=limit.enter if limit else None)


def measure(model, facts, prompts, limit=None):
    first, _ = run(limit, "ask", model, prompts[0], "--raw", "--max-tokens", 8)
    asked = [run(limit, "ask", model, p, "--raw", "--max-tokens", 8) for p in prompts]
    seconds, taught = run(limit, "teach", model, facts, "--raw")
    after = [run(limit, "ask", model, p, "--raw", "--max-tokens", 8)[1] for p in prompts]
    return {"first_ask_seconds": round(first, 3), "ask_seconds": round(sorted(s for s, _ in asked)[len(asked) // 2], 3),
            "teach_seconds": round(seconds, 2), "learned": taught["learned"]["after"]}, [a["text"] for _, a in asked] + [a["text"] for a in after]


lines = (args.data / "facts" / "test.jsonl").read_text(encoding="utf-8").splitlines()[:args.facts]
prompts = [json.loads(line)["prompts"][0] for line in lines[:args.asked]]
with tempfile.TemporaryDirectory(dir=args.work) as work:
    work = pathlib.Path(work)
    small, large, facts = work / "small", work / "large", work / "facts.jsonl"
    facts.write_text("\n".join(lines) + "\n", encoding="utf-8")
    shutil.copytree(args.native, small, copy_function=shutil.copyfile)
    slots, table, times = enlarge(args.native, large, args.half_keys)
    print(f"a table of {table / 2**30:.1f} GiB", file=sys.stderr)
    before, answers = measure(small, facts, prompts)
    limit = Limit(args.limit << 20)
    try:
        within, same = measure(large, facts, prompts, limit)
        within["peak_bytes"] = limit.peak()
    finally:
        limit.close()
result = {"benchmark": "larger than memory", "machine": machine.describe(), "threads": args.threads, "facts": len(lines), "slots": slots, "table_bytes": table, "spread": times,
          "limit_bytes": args.limit << 20, "small": before, "large": within,
          "same_answers": sum(a == b for a, b in zip(answers, same)), "answers": len(answers)}
text = json.dumps(result, indent=2)
print(text)
if args.out:
    args.out.write_text(text + "\n", encoding="utf-8")
