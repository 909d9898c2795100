"""Chains of tasks for `accrete bench domains`, made of the data that you have:

    bench/make_domain_sets.py DATA OUT [--chains mnist,omniglot,cifar10,credit,medicine] [--half test] [--order 0]

DATA has vision/, finance/ and medicine/ (docs/domains.md says which files). Of each chain OUT/CHAIN gets model/ (config.json, model.safetensors: a
network that says nothing, and the scaling of the first task's inputs), task_NN.safetensors in the order they are taught, and test_NN.

--half dev asks rows that are held out of what is taught, to tune on; --half test asks those of the published test files. --order N:
the order of the classes, by this seed; 0 is that of their names. Of medicine it is the order of the three sets.
"""
import argparse
import csv
import gzip
import io
import json
import pathlib
import subprocess
import tarfile

import numpy as np
from PIL import Image
from safetensors.numpy import save_file


def idx(path):
    raw = gzip.open(path).read()
    shape = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(raw[3])]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * raw[3]).reshape(shape)


def mnist(data):
    parts = [(idx(data / f"vision/mnist-{p}-images-idx3-ubyte.gz"), idx(data / f"vision/mnist-{p}-labels-idx1-ubyte.gz")) for p in ("train", "t10k")]
    return [(x.reshape(len(x), -1), y.astype(np.int32)) for x, y in parts], [str(i) for i in range(10)], 5


def cifar10(data):
    """As 32x32x3 pixels."""
    parts, names = [], None
    for part in ("train", "test"):
        packed = (data / f"vision/cifar10_{part}.tar.zst").read_bytes()
        raw = subprocess.run(["zstd", "-dc"], input=packed, capture_output=True, check=True).stdout
        images, labels = [], []
        with tarfile.open(fileobj=io.BytesIO(raw)) as tar:
            for member in sorted((m for m in tar if m.isfile()), key=lambda m: m.name):
                labels.append(pathlib.PurePath(member.name).parent.name)
                images.append(np.asarray(Image.open(tar.extractfile(member)).convert("RGB")).reshape(-1))
        names = sorted(set(labels))
        parts.append((np.stack(images), np.array([names.index(x) for x in labels], np.int32)))
    return parts, names, 5


def omniglot(data):
    """28x28 grey; each character's first 15 drawings are taught, 5 asked; a drawing that is in both sets is taken once."""
    drawings = {}
    with tarfile.open(data / "vision/omniglot_small.tar") as tar:
        for member in sorted((m for m in tar if m.name.endswith(".png")), key=lambda m: m.name):
            path = pathlib.PurePath(member.name)
            character = "/".join(path.parts[-3:-1])
            if path.name in drawings.get(character, {}):
                continue
            image = Image.open(tar.extractfile(member)).convert("L").resize((28, 28), Image.Resampling.BOX)
            drawings.setdefault(character, {})[path.name] = 255 - np.asarray(image).reshape(-1)
    names = sorted(drawings)[:240]
    halves = ([], []), ([], [])
    for label, name in enumerate(names):
        for i, key in enumerate(sorted(drawings[name])):
            half = halves[0] if i < 15 else halves[1]
            half[0].append(drawings[name][key])
            half[1].append(label)
    return [(np.stack(x), np.array(y, np.int32)) for x, y in halves], names, 24


def credit(data):
    """Credit default, in five blocks of rising age: one table, whose customers change."""
    parts = []
    for part in ("train", "test"):
        with open(data / f"finance/credit_default_{part}.csv", encoding="utf-8") as f:
            rows = list(csv.DictReader(f))
        target = next(k for k in rows[0] if k.startswith("default"))
        columns = [k for k in rows[0] if k not in ("ID", target)]
        x = np.array([[float(r[k]) for k in columns] for r in rows], np.float32)
        money = [i for i, k in enumerate(columns) if "AMT" in k or k == "LIMIT_BAL"]
        x[:, money] = np.sign(x[:, money]) * np.log1p(np.abs(x[:, money]))
        parts.append((x, np.array([int(float(r[target])) for r in rows], np.int32), x[:, columns.index("AGE")]))
    edges = np.quantile(parts[0][2], [0.2, 0.4, 0.6, 0.8])
    return [(x, y, np.searchsorted(edges, age, side="right")) for x, y, age in parts], ["0", "1"], 5


def sequences(path):
    """Square roots of how often each of 256 words of four bases is there, about 0 for a sequence of 256 bases. Words with N are left out."""
    with open(path, encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    codes = np.full(256, -1)
    codes[np.frombuffer(b"ACGT", np.uint8)] = range(4)
    out = np.empty((len(rows), 256), np.float32)
    for i, row in enumerate(rows):
        base = codes[np.frombuffer(row["seq"].upper().encode(), np.uint8)]
        words = np.stack([base[k : len(base) - 3 + k] for k in range(4)])
        out[i] = np.bincount((words * [[64], [16], [4], [1]]).sum(0)[(words >= 0).all(0)], minlength=256)
    return 2 * (np.sqrt(out) - 1), np.array([int(row["label"]) for row in rows], np.int32)


def medicine(data):
    """X-rays, promoters, enhancers. 784 pixels and 256 words in one row; what a row does not have is 0. Scaled by constants, not by a set."""
    parts = []
    for part in ("train", "test"):
        with np.load(data / "medicine/pneumoniamnist.npz") as f:
            x, y = f[f"{part}_images"].reshape(-1, 784), f[f"{part}_labels"].reshape(-1).astype(np.int32)
        sets = [(np.pad((x.astype(np.float32) - 128) / 64, ((0, 0), (0, 256))), y)]
        for k, name in enumerate(("promoters", "enhancers")):
            x, y = sequences(data / f"medicine/{name}_{part}.csv")
            sets.append((np.pad(x, ((0, 0), (784, 0))), y + 2 * k + 2))
        parts.append(tuple(np.concatenate(p) for p in zip(*sets)))
    return parts, ["normal", "pneumonia", "no promoter", "promoter", "no enhancer", "enhancer"], 3


def write(path, inputs, targets, names, task):
    metadata = {"task": task, "labels": json.dumps(names)}
    save_file({"inputs": np.ascontiguousarray(inputs), "targets": np.ascontiguousarray(targets)}, path, metadata=metadata)


def write_model(folder, kind, first, scaled):
    folder.mkdir(parents=True)
    config = {"model_type": kind, "inputs": int(first.shape[1])}
    x = first.astype(np.float32)
    if kind == "table_mlp":
        config["outputs"] = ["risk"]
        mean, scale = x.mean(0), np.maximum(x.std(0), 1e-3)
    elif scaled:
        mean, scale = np.zeros(x.shape[1]), np.ones(x.shape[1])
    else:  # one scale for all pixels: those at the border hardly ever change
        mean, scale = x.mean(0), np.full(x.shape[1], x.std(), np.float32)
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
    save_file({"standardize.mean": mean.astype(np.float32), "standardize.scale": scale.astype(np.float32)}, folder / "model.safetensors")


def make(name, data, out, half, order):
    parts, names, steps = CHAINS[name](data)
    if half == "dev":
        train = parts[0]
        held = np.arange(len(train[1])) % 5 == 4
        if name == "omniglot":
            held = np.arange(len(train[1])) % 15 >= 12
        parts = [tuple(a[~held] for a in train), tuple(a[held] for a in train)]
    classes = np.arange(len(names))
    if order:
        np.random.default_rng(order).shuffle(classes)
    groups = np.array_split(classes, steps)
    if name == "medicine" and order:  # two classes of one set stay together
        groups = [np.arange(2 * i, 2 * i + 2) for i in np.random.default_rng(order).permutation(steps)]
    folder = out / name
    for i in range(steps):
        for kind, part in (("task", parts[0]), ("test", parts[1])):
            rows = part[2] == i if name == "credit" else np.isin(part[1], groups[i])
            x, y = part[0][rows], part[1][rows]
            # The same picture twice, under two labels, teaches nothing.
            first = {}
            keep = np.array([first.setdefault(r.tobytes(), int(c)) == int(c) for r, c in zip(x, y)], bool)
            if kind == "task" and i == 0:
                write_model(folder / "model", "table_mlp" if name == "credit" else "feature_classifier", x, name == "medicine")
            write(folder / f"{kind}_{i + 1:02}.safetensors", x[keep], y[keep], names, f"{name} {i + 1}")
    print(f"{name}: {steps} tasks, {len(parts[0][1])} rows taught, {len(parts[1][1])} asked")


CHAINS = {"mnist": mnist, "omniglot": omniglot, "cifar10": cifar10, "credit": credit, "medicine": medicine}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--chains", default="mnist,omniglot,cifar10,credit,medicine")
    parser.add_argument("--half", choices=("dev", "test"), default="test")
    parser.add_argument("--order", type=int, default=0)
    args = parser.parse_args()
    for name in args.chains.split(","):
        make(name, args.data, args.out, args.half, args.order)


if __name__ == "__main__":
    main()
