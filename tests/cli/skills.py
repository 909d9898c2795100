"""Skills one after another without a simulator: a policy that torch trained, taught and asked by the command line, beside finetuning.

usage: skills.py ACCRETE SOURCE

A hand at (x, y) that is to go where the task says. Success: the action points there. accrete must keep what it learned and finetuning
must lose it, else the test says nothing.
"""
import pathlib
import sys
import tempfile

import numpy as np

program, source = sys.argv[1], pathlib.Path(sys.argv[2])
sys.path.insert(0, str(source / "bench"))
import robot_learners  # noqa: E402

torch = robot_learners.torch
torch.set_num_threads(1)
TASKS, STATE = 6, 39
rng = np.random.default_rng(0)
codes = rng.standard_normal((TASKS, 16))
codes = (codes / np.linalg.norm(codes, axis=1, keepdims=True)).astype(np.float32)
goals = np.array([[np.cos(a), np.sin(a)] for a in np.arange(TASKS) * 2 * np.pi / TASKS])


def rows(task, n, seed):
    own = np.random.default_rng([seed, task])
    state = own.uniform(-1, 1, (n, STATE)).astype(np.float32)
    way = goals[task] - state[:, :2]
    actions = np.concatenate([way, way[:, :1] * 0.5, np.full((n, 1), 0.5)], 1).clip(-1, 1)
    return np.concatenate([state, np.repeat(codes[[task]], n, 0)], 1), actions.astype(np.float32)


def success(learner, task):
    x, y = rows(task, 200, 99)
    return float((np.abs(learner.act(x) - y).max(1) < 0.35).mean())


base_rows = [np.concatenate(parts) for parts in zip(rows(0, 600, 1), rows(1, 600, 1))]
base = robot_learners.make_base(*base_rows, STATE, 0, 600)
with tempfile.TemporaryDirectory() as work:
    options = {"address": "inputs+features", "gate": 0.25, "columns": 1024, "winners": 256, "ridge": 1, "seed": 0}
    learners = {"accrete": robot_learners.Accrete(program, base, pathlib.Path(work) / "a", *base_rows, options),
                "naive": robot_learners.Trained("naive", base, *base_rows, 0, 300, (1e-3, 0)), "ewc": robot_learners.Trained("ewc", base, *base_rows, 0, 30),
                "replay": robot_learners.Trained("replay", base, *base_rows, 0, 300), "own": robot_learners.Trained("own", base, *base_rows, 0, 30)}
    x = base_rows[0][:50]
    assert np.abs(learners["accrete"].act(x) - base.act(x)).max() < 1e-4, "retrofit changed the policy"
    before = success(learners["accrete"], 0)
    assert before > 0.9, before
    digests, kept = [learners["accrete"].digest()], {}
    for name, learner in learners.items():
        learned = []
        for task in range(2, TASKS):
            learner.teach(f"task{task}", *rows(task, 400, 2))
            learned.append(success(learner, task))
            if name == "accrete":
                digests.append(learner.digest())
        kept[name] = np.mean([success(learner, t) for t in range(2, TASKS - 1)]), np.mean(learned), success(learner, 0) / before
        print(f"{name}: retained {kept[name][0]:.2f}, learned {kept[name][1]:.2f}, base {kept[name][2]:.2f}, {learner.bytes()} bytes")
    assert kept["accrete"][0] > 0.9 * kept["accrete"][1] > 0.7 and kept["accrete"][2] > 0.9, kept
    assert kept["naive"][0] < 0.4 and kept["naive"][1] > 0.7, kept
    assert kept["replay"][0] > kept["naive"][0], kept
    assert learners["accrete"].undo_exact(digests), "a skill was not taken back to the bit"
    for learner in learners.values():
        learner.close()
print("skills: passed")
