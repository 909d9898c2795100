"""Clients teach their own share in processes of their own; a server adds up what they send, and screens it by a probe.

    bench/make_domain_sets.py DATA sets --chains mnist
    bench/federated_sums.py sets/mnist OUT --program build/accrete --work FOLDER

Ten clients have a tenth of the rows each, two of them with labels that were turned (poisoned). What travels is one update file: sums of
products, no row. The server has rows of its own, as many as a client, and a probe of as many again. Its floor is asked again after each
merge (probe add --replace), so that a share which makes the probe worse is refused and named. Flower is not used: the clients are
processes, the files are what a transport would carry.

Writes OUT/federated-sums-SEED.json: whether the sum is the state of one place that was taught all of it, in two orders; the scores; who was
refused; a client that died in the middle of its teach.
"""
import argparse
import concurrent.futures
import json
import os
import pathlib
import shutil
import signal
import subprocess
import time

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file


class Place:
    """A copy of the model."""

    def __init__(self, args, name, seed):
        self.args, self.name, self.folder = args, name, args.work / name
        shutil.rmtree(self.folder, ignore_errors=True)
        self.run("retrofit", args.sets / "model", self.folder, "--columns", args.columns, "--winners", args.winners, "--ridge", args.ridge, "--seed", seed)

    def run(self, *words, refused=False):
        done = subprocess.run([self.args.program, *map(str, words), "--json", "--quiet", "--threads", "1"], capture_output=True, check=False, text=True)
        if done.returncode and not refused:
            raise RuntimeError(f"{words}: {done.stderr}")
        return json.loads(done.stdout)

    def teach(self, path):
        start = time.time()
        self.run("teach", self.folder, path)
        return time.time() - start

    def updates(self):
        return sorted((self.folder / "accrete" / "updates").glob("*.safetensors"))

    def state(self):
        return self.run("digest", self.folder)["state"]

    def score(self, path):
        """Of a set, through a probe."""
        return self.run("probe", "add", self.folder, "asked", path, "--replace")["base"]


def write(path, x, y):
    save_file({"inputs": np.ascontiguousarray(x), "targets": np.ascontiguousarray(y)}, path, metadata={"labels": json.dumps([str(i) for i in range(10)])})
    return path


def load(folder, kind):
    parts = []
    for path in sorted(folder.glob(f"{kind}_*.safetensors")):
        with safe_open(path, "np") as f:
            parts.append((f.get_tensor("inputs"), f.get_tensor("targets")))
    return [np.concatenate(p) for p in zip(*parts)]


def die_in_the_middle(place, path):
    """kill -9 while it teaches; then again, to the end."""
    before = place.state()
    child = subprocess.Popen([place.args.program, "teach", str(place.folder), str(path), "--quiet"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(0.3)
    child.send_signal(signal.SIGKILL)
    child.wait()
    return child.returncode == -signal.SIGKILL and place.state() == before


def run(args, seed):
    rng = np.random.default_rng(seed)
    x, y = load(args.sets, "task")
    order = rng.permutation(len(x))
    shares = np.array_split(order, args.clients + 2)
    rows = args.work / "rows"
    rows.mkdir(parents=True, exist_ok=True)
    own, probe = (write(rows / f"{n}.safetensors", x[s], y[s]) for n, s in zip(("own", "probe"), shares[-2:]))
    asked = write(rows / "asked.safetensors", *load(args.sets, "test"))
    poisoned = set(rng.permutation(args.clients)[: args.poisoned].tolist())
    paths = [write(rows / f"client{i}.safetensors", x[s], (y[s] + 1).astype(np.int32) % 10 if i in poisoned else y[s]) for i, s in enumerate(shares[: args.clients])]
    clients = [Place(args, f"client{i}", seed) for i in range(args.clients)]
    died = die_in_the_middle(clients[0], paths[0])
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        seconds = list(pool.map(lambda c, p: c.teach(p), clients, paths))
    sent = [c.updates()[0] for c in clients]

    server = Place(args, "server", seed)
    server.teach(own)
    alone = server.score(asked)
    server.run("probe", "remove", server.folder, "asked")
    refused, merging = [], []
    for i, file in enumerate(sent):
        server.run("probe", "add", server.folder, "screen", probe, "--floor", args.floor, "--replace")
        start = time.time()
        report = server.run("merge", server.folder, file, refused=True)
        merging.append(time.time() - start)
        if "error" in report:
            refused.append(i)
    server.run("probe", "remove", server.folder, "screen")
    # The same in one place, and in one merge of another order.
    central, turned = Place(args, "central", seed), Place(args, "turned", seed)
    good = [i for i in range(args.clients) if i not in refused]
    for path in [own, *(paths[i] for i in good)]:
        central.teach(path)
    turned.teach(own)
    turned.run("merge", turned.folder, *(sent[i] for i in reversed(good)))
    states = {p.name: p.state() for p in (server, central, turned)}
    result = {"domain": "federated-sums", "seed": seed, "clients": args.clients, "rows_a_client": len(shares[0]), "columns": args.columns, "winners": args.winners, "ridge": args.ridge, "floor": args.floor,
              "poisoned": sorted(poisoned), "refused": refused, "states_equal": len(set(states.values())) == 1, "state": states["server"], "died_left_the_old_state": died,
              "alone": alone, "merged": server.score(asked), "central": central.score(asked)}
    turned.run("merge", turned.folder, *(sent[i] for i in refused)) if refused else None
    result |= {"without_screen": turned.score(asked), "bytes_a_client": int(np.mean([f.stat().st_size for f in sent])), "rows_bytes": paths[0].stat().st_size,
               "seconds_a_client": float(np.mean(seconds)), "seconds_a_merge": float(np.mean(merging))}
    # One client is taken back alone.
    server.run("revert", server.folder, sent[good[0]].stem)
    without = Place(args, "without", seed)
    for path in [own, *(paths[i] for i in good[1:])]:
        without.teach(path)
    return result | {"one_taken_back_exact": server.state() == without.state()}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", type=pathlib.Path)
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--program", required=True, type=os.path.abspath)
    parser.add_argument("--work", required=True, type=pathlib.Path)
    parser.add_argument("--clients", type=int, default=10)
    parser.add_argument("--poisoned", type=int, default=2)
    parser.add_argument("--columns", type=int, default=1024)
    parser.add_argument("--winners", type=int, default=256)
    parser.add_argument("--ridge", type=float, default=10)
    parser.add_argument("--floor", type=float, default=0.998)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    for seed in range(args.seeds):
        path = args.out / f"federated-sums-{seed}.json"
        if path.exists():
            continue
        result = run(args, seed)
        path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
        print(json.dumps(result, indent=1), flush=True)


if __name__ == "__main__":
    main()
