"""What learns in bench/robot_skills.py: accrete by its command line, and the baselines.

The baselines train the policy that accrete leaves alone. Their rates are untuned (docs/domains.md).
"""
import copy
import json
import pathlib
import shutil
import struct
import subprocess
import time

import numpy as np
import torch
from safetensors.numpy import save_file

HIDDEN, LIMIT = 256, 8.0


class Policy(torch.nn.Module):
    """Inputs standardised as the folder says; two hidden layers."""

    def __init__(self, mean, scale, outputs):
        super().__init__()
        self.mean, self.scale = torch.from_numpy(mean), torch.from_numpy(scale)
        widths = [len(mean), HIDDEN, HIDDEN]
        self.hidden = torch.nn.ModuleList(torch.nn.Linear(a, b) for a, b in zip(widths, widths[1:]))
        self.output = torch.nn.Linear(HIDDEN, outputs)

    def features(self, x):
        h = ((torch.from_numpy(x) - self.mean) / self.scale).clamp(-LIMIT, LIMIT)
        for layer in self.hidden:
            h = torch.relu(layer(h))
        return h

    def forward(self, x):
        return self.output(self.features(x))

    @torch.no_grad()
    def act(self, x):
        return self(x).numpy()


def loss_of(policy, x, y):
    return torch.nn.functional.smooth_l1_loss(policy(x), torch.from_numpy(y), beta=0.1)


def train(policy, x, y, steps, rate, rng, extra=None, own=None):
    """own: rows before this are as often in a batch as those behind it."""
    optimizer = torch.optim.AdamW(policy.parameters(), rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        rows = rng.integers(0, len(x), 256)
        if own is not None and own < len(x):
            rows[:128], rows[128:] = rng.integers(0, own, 128), rng.integers(own, len(x), 128)
        loss = loss_of(policy, x[rows], y[rows])
        if extra is not None:
            loss = loss + extra(policy)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return policy


def make_base(x, y, state, seed, steps):
    torch.manual_seed(seed)
    mean, scale = x.mean(0), np.maximum(x.std(0), 0.05)
    mean[state:], scale[state:] = 0, 0.25  # of the instruction, whose length is 1
    return train(Policy(mean.astype(np.float32), scale.astype(np.float32), y.shape[1]), x, y, steps, 1e-3, np.random.default_rng(seed))


def write_folder(policy, folder, x, config):
    """As accrete reads it (docs/domains.md)."""
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps({"model_type": "policy_mlp", "inputs": x.shape[1], "outputs": ["x", "y", "z", "grip"]} | config, indent=1) + "\n", encoding="utf-8")
    with torch.no_grad():
        h = policy.features(x).numpy()
    tensors = {"standardize.mean": policy.mean.numpy(), "standardize.scale": policy.scale.numpy(), "features.mean": h.mean(0), "features.scale": np.maximum(h.std(0), 0.3 * h.std())}
    for i, layer in enumerate([*policy.hidden, policy.output]):
        name = "output" if i == len(policy.hidden) else f"layers.{i}"
        tensors |= {f"{name}.weight": layer.weight.detach().numpy(), f"{name}.bias": layer.bias.detach().numpy()}
    save_file({k: np.ascontiguousarray(v, np.float32) for k, v in tensors.items()}, folder / "model.safetensors")


class Accrete:
    """A folder, taught and asked through the command line."""

    def __init__(self, program, base, work, x, y, options):
        self.program, self.model, self.sets = program, work / "taught", work / "sets"
        shutil.rmtree(work, ignore_errors=True)
        self.sets.mkdir(parents=True)
        gate = {} if options["gate"] == 1 else {"gate": {"first": 39, "count": 16, "share": options["gate"]}}
        write_folder(base, work / "base", x, {"address": options["address"]} | gate)
        np.savez(self.sets / "background.npz", inputs=x, targets=y)
        self.run("retrofit", work / "base", self.model, "--columns", options["columns"], "--winners", options["winners"], "--ridge", options["ridge"],
                 "--seed", options["seed"], "--background", self.sets / "background.npz")
        self.actor = None

    def run(self, *words):
        done = subprocess.run([self.program, *map(str, words), "--json", "--quiet"], capture_output=True, check=False, text=True)
        if done.returncode:
            raise RuntimeError(f"{words}: {done.stderr or done.stdout}")
        return json.loads(done.stdout)

    def teach(self, name, x, y):
        path = self.sets / f"{name}.npz"
        np.savez(path, inputs=x, targets=y, task=np.array(name))
        start = time.time()
        self.run("teach", self.model, path)
        return time.time() - start

    def digest(self):
        return self.run("digest", self.model)["state"]

    def act(self, x):
        if self.actor is None:  # it follows what is taught meanwhile
            self.actor = subprocess.Popen([self.program, "act", str(self.model), "--packed"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.actor.stdin.write(struct.pack("<II", *x.shape) + np.ascontiguousarray(x, "<f4").tobytes())
        self.actor.stdin.flush()
        rows, width = struct.unpack("<II", self.actor.stdout.read(8))
        return np.frombuffer(self.actor.stdout.read(4 * rows * width), "<f4").reshape(rows, width)

    def bytes(self):
        return sum(p.stat().st_size for p in pathlib.Path(self.model, "accrete", "updates").iterdir())

    def undo_exact(self, digests):
        """Taken back one by one; brought back."""
        exact = True
        for wanted in digests[-2::-1]:
            self.run("undo", self.model)
            exact = exact and self.digest() == wanted
        self.run("redo", self.model, len(digests) - 1)
        return exact and self.digest() == digests[-1]

    def close(self):
        if self.actor:
            self.actor.stdin.close()
            self.actor.wait()


class Trained:
    """naive: on the new skill alone. ewc: with a penalty. replay: with a tenth of the rows of what came before. own: each from the base."""

    # Rate, and the weight of EWC's penalty.
    RATES = {"naive": (3e-4, 0), "ewc": (3e-4, 1e4), "replay": (1e-3, 0), "own": (1e-3, 0)}

    def __init__(self, method, base, x, y, seed, steps, rates=None):
        self.method, self.base, self.policy = method, base, copy.deepcopy(base)
        self.rate, self.weight = rates or self.RATES[method]
        self.rng, self.steps, self.kept, self.penalties = np.random.default_rng(seed), steps, [], []
        self.taught = 0
        self.keep(x, y)

    def keep(self, x, y):
        if self.method == "replay":
            rows = self.rng.permutation(len(x))[: len(x) // 10]
            self.kept.append((x[rows], y[rows]))
        if self.method == "ewc":
            total = [torch.zeros_like(p) for p in self.policy.parameters()]
            for row in self.rng.permutation(len(x))[:500]:
                self.policy.zero_grad()
                loss_of(self.policy, x[row : row + 1], y[row : row + 1]).backward()
                for t, p in zip(total, self.policy.parameters()):
                    t += p.grad**2 / 500
            self.penalties.append((total, [p.detach().clone() for p in self.policy.parameters()]))

    def penalty(self, policy):
        return self.weight / 2 * sum((f * (p - o) ** 2).sum() for fisher, old in self.penalties for f, o, p in zip(fisher, old, policy.parameters()))

    def teach(self, name, x, y):
        start = time.time()
        own = (x, y)
        if self.method == "own":
            self.policy = copy.deepcopy(self.base)
        if self.kept:
            x, y = (np.concatenate(parts) for parts in zip(own, *self.kept))
        train(self.policy, x, y, self.steps, self.rate, self.rng, self.penalty if self.penalties else None, len(own[0]))
        self.keep(*own)
        self.taught += 1
        return time.time() - start

    def act(self, x):
        return self.policy.act(x)

    def bytes(self):
        if self.method == "own":
            return self.taught * sum(p.numel() * 4 for p in self.base.parameters())
        return sum(x.nbytes + y.nbytes for x, y in self.kept) + sum(t.numel() * 8 for p in self.penalties for t in p[0])

    def close(self):
        pass
