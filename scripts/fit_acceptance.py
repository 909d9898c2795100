"""Fits data/reader/acceptance.json, the decision whether a question is one that was taught, to the reader and its cross-encoder.

usage: fit_acceptance.py [--threads 2] [--report HALF]

Learned on the development half of data/desk and on the intents of CLINC150 that the reader was not tuned on, by logistic regression
(which fact, and whether any): the numbers of the log-odds (src/memory/acceptance.h), but for that of a contrasting word, which is
START's. Of each question the three facts that lie nearest by the cosines are read together with it, as to_judge() of
src/memory/acceptance.cc has it. It prints the numbers, and both sides of every threshold: what was not taught and is accepted, what was
taught and is turned away. Numbers and thresholds are written into the file by hand, since the thresholds are a judgement. --report
tries what is there on a half and learns nothing, the cosines alone beside it, and says what the shipped thresholds accept. Unrelated questions are not parted into halves: every
third was looked at in fitting. "blind" is data/desk/blind.jsonl, which nothing is ever fitted to.
"""

import argparse
import json
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from tune_cross_encoder import FOLDER, CrossEncoder
from tune_reader import ADAPTER, DATA, Encoder, caching, mask, measures, trials
from modeling_accrete_facts import MOST_CROSS, most_cross, plain_question  # isort: skip: tune_reader knows where it is

FILE = DATA / "reader" / "acceptance.json"
TERMS = ["centred", "whole", "answer", "nearest", "contrast", "cross", "bias"]
WEIGHT = {"far": 0.25, "office": 2, "contrast": 0.05}  # of a set beside the others, which weigh 1, by what its name has in it
UNRELATED = 3  # weight of what is unrelated beside the others of its set
JUDGED = 3
OUT = -1e4  # log-odds of what is no candidate


def log_odds(weights, evidence):
    """evidence [7, questions, facts]: five as tune_reader's, the cross-encoder's log-odds, and whether it was asked."""
    z = torch.einsum("f,fqn->qn", weights[:6], evidence[:6]) + weights[6]
    return torch.where(evidence[6] > 0, z, torch.full_like(z, OUT))


def judged(rule, sets, encode, cross):
    """The same sets, with what the cross-encoder says of the candidates that the cosines of `rule` put first."""
    weights = torch.tensor([rule[t] for t in TERMS], dtype=torch.float)
    wanted, of_pairs, out = {}, [], {}
    for name, draws in sets.items():
        for cosines, of, (subject, taught, answers, questions) in draws:
            hide = lambda text: mask(plain_question(text), subject)
            z = torch.einsum("f,fqn->qn", weights[:5], cosines) + weights[6]
            top = z.topk(min(JUDGED, z.shape[1]), dim=1).indices
            asked = encode([hide(q) for q in questions])
            facts = [[hide(w) for w in t] for t in taught]
            keys = [encode(t) for t in facts]
            hidden = [hide(a) for a in answers]
            here = {}
            for q, question in enumerate(questions):
                for n in top[q].tolist():
                    if z[q, n] + abs(weights[5]) * most_cross(subject) < 0:
                        continue
                    order = (keys[n] @ asked[q]).argsort(descending=True, stable=True)[:3].tolist()
                    key = (hide(question), tuple(facts[n][k] for k in order), hidden[n])
                    here[q, n] = wanted.setdefault(key, len(wanted))
            of_pairs.append(here)
    print(len(wanted), "pairs are read", flush=True)
    scores = cross.score([cross.pair(*key) for key in wanted])
    at = iter(of_pairs)
    for name, draws in sets.items():
        for cosines, of, (subject, taught, _, _) in draws:
            more = torch.zeros(2, *cosines.shape[1:])
            more[1, :, :] = 0
            for (q, n), i in next(at).items():
                more[0, q, n] = float(np.clip(scores[i], -MOST_CROSS, most_cross(subject)))
                more[1, q, n] = 1
            # Where none was read the best by the cosines stands, and is not accepted.
            none = more[1].sum(1) == 0
            more[1][none] = 1
            more[0][none] = -MOST_CROSS
            out.setdefault(name, []).append((torch.cat([cosines, more]), of, threshold(rule, subject, len(taught))))
    return out


def threshold(rule, subject, facts):
    """The log-odds that a question needs (src/memory/acceptance.cc)."""
    return min(max(rule["slope"] * np.log(facts / rule["few"]), rule["least"]), rule["most"]) if subject else rule["open"]


def shipped(weights, sets):
    """What the shipped thresholds accept."""
    for name, draws in sets.items():
        n = np.zeros(7, int)
        for evidence, of, needed in draws:
            z = log_odds(weights, evidence).numpy()
            best, taken = z.argmax(1), z.max(1) >= needed
            known, left, unrelated = of >= 0, of == -1, of == -2
            right = known & (best == of)
            n += [known.sum(), (right & taken).sum(), (known & ~right & taken).sum(), left.sum(), (left & taken).sum(), unrelated.sum(), (unrelated & taken).sum()]
        print(f"{name:34} right {n[1] / n[0]:.3f}, wrong {n[2] / n[0]:.3f}, not taught and accepted {n[4]} of {n[3]} ({n[4] / n[3]:.3f}), unrelated {n[6]} of {n[5]}", flush=True)


def fit(sets, start):
    raw = torch.tensor([np.log(start[0]), np.log(start[1]), np.log(start[2]), np.log(start[3]), np.log(0.5), start[6]], dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([raw], max_iter=200, line_search_fn="strong_wolfe")
    weights = lambda: torch.cat([raw[:4].exp(), torch.tensor(start[4:5], dtype=torch.double), raw[4:5].exp(), raw[5:]])

    def loss():
        optimizer.zero_grad()
        total = 0
        for name, draws in sets.items():
            of_set = 0
            for evidence, of, _ in draws:
                z = log_odds(weights(), evidence.double())
                of = torch.from_numpy(of)
                known, left, unrelated = of >= 0, of == -1, of == -2
                own = z[known].gather(1, of[known][:, None])[:, 0]
                there = own > OUT  # the right one is a candidate
                of_set += F.cross_entropy(z[known][there], of[known][there]) + F.softplus(-own[there]).mean()
                of_set += F.softplus(z[left].max(1).values).mean()
                if unrelated.any():
                    of_set += UNRELATED * F.softplus(z[unrelated].max(1).values).mean()
            total = total + of_set / len(draws) * next((w for k, w in WEIGHT.items() if k in name), 1)
        total.backward()
        return total

    optimizer.step(loss)
    return weights().detach().float()


def show(weights, sets):
    for name, draws in sets.items():
        rows = [scored(weights, *draw[:2]) for draw in draws]
        print(f"{name:34}", "  ".join(f"{k} {np.mean([r[k] for r in rows]):.3f}" for k in ("first", "area", "at a tenth")), flush=True)


def scored(weights, evidence, of):
    return measures(weights, evidence, of, log_odds)


def curve(weights, sets, thresholds):
    """The share accepted and right, and of what was not taught the share accepted, by threshold of the log-odds."""
    for name, draws in sets.items():
        rows = [scored(weights, *draw[:2]) for draw in draws]
        print(f"{name}: threshold: right and accepted / left accepted / unrelated accepted")
        for t in thresholds:
            right = np.mean([(r["right"] & (r["score"] >= t)).mean() for r in rows])
            left = np.mean([(r["left"] >= t).mean() for r in rows])
            unrelated = sum((r["unrelated"] >= t).sum() for r in rows)
            print(f"  {t:5.2f}: {right:.3f} / {left:.3f} / {unrelated} of {sum(len(r['unrelated']) for r in rows)}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--report", choices=["dev", "test", "blind"])
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    encoder = Encoder()
    encoder.load(ADAPTER)
    encode = caching(encoder)
    rule = {"cross": 1.0, **json.loads(FILE.read_text())}
    begin = time.time()
    sets = trials(given.report or "dev", encode, draws=4)
    for name in [n for n in sets if n.startswith("150 intents" if not given.report else ("150 intents", "75 intents"))]:
        sets.pop(name)  # the desk's own sections clinc5 and clinc10 report these
    sets = judged(rule, sets, encode, CrossEncoder(FOLDER))
    print(f"{time.time() - begin:.0f} s", flush=True)
    weights = torch.tensor([rule[t] for t in TERMS])
    if not given.report:
        weights = fit(sets, [rule[t] for t in TERMS])
        print({t: round(float(w), 3) for t, w in zip(TERMS, weights)})
    show(weights, sets)
    shipped(weights, sets)
    print("the cosines alone")
    show(weights * torch.tensor([1, 1, 1, 1, 1, 0, 1]), sets)
    curve(weights, sets, np.arange(-1, 3.01, 0.25))


if __name__ == "__main__":
    main()
