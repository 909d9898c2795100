"""Robot skills taught one after another: Meta-World's tasks, accrete beside the baselines.

    python3 -m venv robots
    robots/bin/pip install metaworld==3.1.1 torch==2.13.0 transformers==5.23.0 safetensors==0.8.0
    robots/bin/python bench/robot_skills.py ENCODER OUT --program build/accrete --work FOLDER

ENCODER is the folder of all-MiniLM-L6-v2 (scripts/setup.sh fetches it). A base policy is trained on a few tasks together, then skill after
skill is taught with 25 episodes of a scripted expert. Settings, each with a base policy of its own:

    id       16 random numbers for each task
    words    an instruction as 16 numbers (robot_words.py), six wordings taught, asked in four that were not
    nearest  as words; an instruction that was not taught is taken for the nearest that was, by the whole vector of the encoder
    none     the state alone must tell

R[i][j] is the success on task j after i skills (0: the base), the base's tasks first. A task that was just taught, and all of the last row,
are asked at --places places, the rest at the first --few of these. Each cell is a file OUT/CHAIN-SETTING-METHOD-SEED.json; what is there is
not run again. --tune asks places that no figure is made of.
"""
import argparse
import json
import os
import pathlib
import time

import numpy as np
import robot_learners
import robot_tasks
import torch
from robot_words import WIDTH, Words

MEMORY = {"address": "inputs+features", "gate": 0.25, "columns": 4096, "winners": 1024, "ridge": 3}
UNGATED = {"none", "words"}  # nothing tells; wordings open other columns each


class Instructions:
    """What stands behind the state in a row."""

    def __init__(self, setting, names, words, seed):
        self.setting, self.names = setting, names
        codes = np.random.default_rng([seed, 16]).standard_normal((len(names), WIDTH))
        self.codes = (codes / np.linalg.norm(codes, axis=1, keepdims=True)).astype(np.float32)
        self.words = {n: [words.of(part) for part in robot_tasks.WORDINGS[n]] for n in names}
        self.whole = {n: [words.encode(part) for part in robot_tasks.WORDINGS[n]] for n in names}

    def taught(self, name, episodes):
        if self.setting == "id":
            return np.repeat(self.codes[[self.names.index(name)]], len(episodes), 0)
        if self.setting == "none":
            return np.zeros((len(episodes), WIDTH), np.float32)
        if self.setting == "nearest":
            episodes = np.zeros_like(episodes)  # all wordings of a task stand for its name
        return self.words[name][0][episodes % len(self.words[name][0])]

    def asked(self, name, place, known):
        """known: the tasks that were taught so far."""
        if self.setting in ("id", "none"):
            return self.taught(name, np.zeros(1, int))[0]
        wording = place % len(self.words[name][1])
        if self.setting == "words":
            return self.words[name][1][wording]
        return self.words[max(known, key=lambda n: (self.whole[n][0] @ self.whole[name][1][wording]).max())][0][0]


class Chain:
    def __init__(self, args, setting, seed):
        self.args, self.base_tasks, self.skills = args, robot_tasks.BASES[args.chain], robot_tasks.CHAINS[args.chain][: args.skills]
        self.names = self.base_tasks + self.skills
        self.instructions = Instructions(setting, self.names, args.words, seed)
        self.rows = {}
        for name in self.names:
            states, actions, episodes = robot_tasks.demonstrate(name, args.work / "demonstrations", seed)
            self.rows[name] = np.concatenate([states, self.instructions.taught(name, episodes)], 1), actions
        self.x, self.y = (np.concatenate([self.rows[n][i] for n in self.base_tasks]) for i in (0, 1))
        path = args.work / f"base-{args.chain}-{setting}-{seed}.pt"
        if not path.exists():
            torch.save(robot_learners.make_base(self.x, self.y, robot_tasks.STATE, seed, args.base_steps), path)
        self.base = torch.load(path, weights_only=False)
        self.places = list(robot_tasks.TUNED if args.tune else robot_tasks.ASKED)[: args.places]

    def ask(self, learner, wanted, known):
        def act(names, places, states):
            own = [self.instructions.asked(n, p, known) for n, p in zip(names, places)]
            return learner.act(np.concatenate([states, np.array(own, np.float32)], 1))

        return self.args.world.rollouts(wanted, act)


def rate(solved, places):
    return float(np.mean([solved[p] for p in places]))


def run(chain, learner, matrix):
    few, places = chain.places[: chain.args.few], chain.places
    first = chain.ask(learner, {n: places for n in chain.base_tasks}, chain.base_tasks)
    r, seconds, digests = [{n: rate(s, few) for n, s in first.items()}], [], [learner.digest()] if hasattr(learner, "digest") else []
    diagonal = {n: rate(s, places) for n, s in first.items()}
    for i, skill in enumerate(chain.skills):
        seconds.append(learner.teach(skill, *chain.rows[skill]))
        known = chain.names[: len(chain.base_tasks) + i + 1]
        if digests:
            digests.append(learner.digest())
        last = skill == chain.skills[-1]
        full = known if last and matrix is not None else [skill]
        wanted = {n: places if n in full else few for n in known if n in full or matrix}
        solved = chain.ask(learner, wanted, known)
        r.append({n: rate(s, few) for n, s in solved.items()})
        diagonal[skill] = rate(solved[skill], places)
        print(f"  {skill}: {diagonal[skill]:.2f}, {seconds[-1]:.1f} s, all {np.mean(list(r[-1].values())):.2f}", flush=True)
        if last:
            end = {n: rate(s, places) for n, s in solved.items()}
    return r, diagonal, end, seconds, digests


def measures(chain, r, diagonal, end):
    skills, base = chain.skills, chain.base_tasks
    before = [s for s in skills[:-1] if diagonal[s] > 0]
    out = {"learned": float(np.mean([diagonal[s] for s in skills])), "last": float(np.mean([end.get(n, 0) for n in chain.names])), "last_taught": float(np.mean([end.get(s, 0) for s in skills]))}
    if len(end) == len(chain.names):
        out |= {"retained": float(np.mean([end[s] / diagonal[s] for s in before])) if before else 0.0,
                "base_retained": sum(end[n] for n in base) / max(1e-9, sum(diagonal[n] for n in base)),
                "forgetting": float(np.mean([diagonal[s] - end[s] for s in skills[:-1]]))}
    if r and all(len(row) == len(base) + i for i, row in enumerate(r)):  # the same places in every row
        own = {s: r[i + 1][s] for i, s in enumerate(skills)}
        out["nbt"] = float(np.mean([np.mean([own[s] - row[s] for row in r[i + 2 :]]) for i, s in enumerate(skills[:-1])]))
    return out


def cell(chain, method, setting, seed):
    args = chain.args
    start = time.time()
    steps = args.steps
    if method == "joint":  # everything together from the beginning, as many steps as the others take in all
        x, y = (np.concatenate([chain.rows[n][i] for n in chain.names]) for i in (0, 1))
        policy = robot_learners.make_base(x, y, robot_tasks.STATE, seed, args.base_steps + len(chain.skills) * steps)
        seconds = [(time.time() - start) / len(chain.skills)]
        learner = robot_learners.Trained("own", policy, x, y, seed, 0)
        end = {n: rate(s, chain.places) for n, s in chain.ask(learner, {n: chain.places for n in chain.names}, chain.names).items()}
        r, diagonal, digests = [], end, []
    else:
        memory = args.memory | {"seed": seed} | ({"gate": 1} if setting in UNGATED else {})
        if method == "accrete":
            learner = robot_learners.Accrete(args.program, chain.base, args.work / f"accrete-{args.chain}-{setting}-{seed}", chain.x, chain.y, memory)
        else:
            learner = robot_learners.Trained(method, chain.base, chain.x, chain.y, seed, steps)
        r, diagonal, end, seconds, digests = run(chain, learner, {"accrete": True, "own": None}.get(method, False))
    out = {"domain": args.chain, "setting": setting, "method": method, "seed": seed, "base": chain.base_tasks, "tasks": len(chain.skills), "skills": chain.skills,
           "places": len(chain.places), "few": min(args.few, len(chain.places)), "R": r, "diagonal": diagonal, "end": end} | measures(chain, r, diagonal, end)
    out |= {"seconds": float(np.mean(seconds)), "first_seconds": seconds[0], "last_seconds": seconds[-1], "stored_bytes": int(learner.bytes())}
    if digests:
        out |= {k: memory[k] for k in ("address", "gate", "columns", "winners", "ridge")} | {"digest": digests[-1]}
        if not args.skip_undo:
            out["undo_exact"] = learner.undo_exact(digests)
    learner.close()
    return out | {"run_seconds": round(time.time() - start, 1)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder")
    parser.add_argument("out", type=pathlib.Path)
    parser.add_argument("--program", required=True, type=os.path.abspath)
    parser.add_argument("--work", required=True, type=pathlib.Path)
    parser.add_argument("--chain", default="robots", choices=robot_tasks.CHAINS)
    parser.add_argument("--settings", default="id,words,nearest,none")
    parser.add_argument("--methods", default="accrete,naive,ewc,replay,joint,own")
    parser.add_argument("--seeds", default="0", help="a list")
    parser.add_argument("--skills", type=int, default=99)
    parser.add_argument("--places", type=int, default=20)
    parser.add_argument("--few", type=int, default=3)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--base-steps", type=int, default=5000)
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--memory", type=json.loads, default={}, help="as JSON, over " + json.dumps(MEMORY))
    parser.add_argument("--skip-undo", action="store_true", help="do not take the skills back at the end")
    parser.add_argument("--tune", action="store_true")
    args = parser.parse_args()
    args.memory = MEMORY | args.memory
    torch.set_num_threads(1)
    args.work.mkdir(parents=True, exist_ok=True)
    args.out.mkdir(parents=True, exist_ok=True)
    args.words = Words(args.encoder)
    args.world = robot_tasks.World(robot_tasks.BASES[args.chain] + robot_tasks.CHAINS[args.chain][: args.skills], args.jobs)
    for seed in map(int, args.seeds.split(",")):
        for setting in args.settings.split(","):
            for method in args.methods.split(","):
                path = args.out / f"{args.chain}-{setting}-{method}-{seed}.json"
                if path.exists():
                    continue
                print(f"{args.chain} {setting} {method} {seed}", flush=True)
                result = cell(Chain(args, setting, seed), method, setting, seed)
                path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
                print({k: v for k, v in result.items() if isinstance(v, (int, float, bool))}, flush=True)
    args.world.close()


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
