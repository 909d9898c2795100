#!/usr/bin/env python3
"""Checks the tracked sets under data/: python3 tests/data_test.py [DATA]. Plain Python, nothing to install; the packed
background is looked into by the zstd program (exit 77: passed, but it is absent)."""

import hashlib
import json
import re
import shutil
import subprocess
import sys
import unicodedata
from collections import Counter, defaultdict
from pathlib import Path

DATA = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent / "data"
MAX_BYTES = 19_000_000
SEPARATOR = "<|endoftext|>"
HAS_ZSTD = shutil.which("zstd") is not None
checks = 0


def check(condition, *what):
    global checks
    checks += 1
    if not condition:
        print("FAILED:", *what, file=sys.stderr)
        sys.exit(1)


def side(text):
    return "dev" if int(hashlib.sha256(text.encode("utf-8")).hexdigest()[:8], 16) % 2 == 0 else "test"


def read(name):
    rows = []
    for number, line in enumerate((DATA / name).read_text(encoding="utf-8").split("\n"), 1):
        if not line:
            continue
        check(line == unicodedata.normalize("NFC", line), f"{name}:{number}: not NFC")
        row = json.loads(line, object_pairs_hook=lambda pairs: unique(pairs, name, number))
        check(isinstance(row, dict), f"{name}:{number}: not an object")
        rows.append(row)
    return rows


def unique(pairs, name, number):
    check(len({k for k, _ in pairs}) == len(pairs), f"{name}:{number}: a key twice")
    return dict(pairs)


def plain(text, where):
    check(isinstance(text, str) and text and text == text.strip(), where, "empty, or with space around:", repr(text))
    check("\n" not in text and "  " not in text and "[" not in text, where, "a line break, two spaces or a bracket:", repr(text))


def fold(text):
    """what two phrasings must differ in: words"""
    return " ".join(re.findall(r"\w+", text.lower()))


def test_templates():
    templates = json.loads((DATA / "facts" / "templates.json").read_text(encoding="utf-8"))
    check(18 <= len(templates) <= 25, "relations", len(templates))
    everywhere = defaultdict(set)
    for relation, t in templates.items():
        check(set(t) == {"taught", "asked", "taught_questions", "asked_questions"}, relation, "keys", sorted(t))
        check(3 <= len(t["taught"]) <= 4 and 1 <= len(t["asked"]) <= 2, relation, "clozes")
        check(len(t["taught_questions"]) == 3 and 1 <= len(t["asked_questions"]) <= 2, relation, "questions")
        every = sum(t.values(), [])
        check(len({fold(p) for p in every}) == len(every), relation, "a phrasing twice")
        for p in every:
            check(p.count("[X]") == 1 and "[Y]" not in p and p == p.strip() and "  " not in p, relation, p)
            everywhere[fold(p)].add(relation)
        for kind in ("taught", "asked"):  # both begin with the subject at times, and at times do not
            check(any(p.startswith("[X]") for p in t[kind]), relation, kind, "no phrasing starts with the subject")
            check(any(not p.startswith("[X]") for p in t[kind]), relation, kind, "every phrasing starts with the subject")
            check(not any(p.endswith((".", "?")) for p in t[kind]), relation, kind, "does not stop before the completion")
        for p in t["taught_questions"] + t["asked_questions"]:
            check(p.endswith("?"), relation, p)
        # no asked phrasing is a taught one with more before or behind it
        for a in t["asked"] + t["asked_questions"]:
            for p in t["taught"] + t["taught_questions"]:
                check(fold(a) not in fold(p) and fold(p) not in fold(a), relation, a, "and", p)
    return templates


def test_facts(templates):
    subjects, ids, wrong_side = {}, set(), 0
    prompts, count = {}, {}
    for part in ("dev", "test"):
        clozes, questions = read(f"facts/{part}.jsonl"), read(f"facts/{part}_questions.jsonl")
        count[part] = len(clozes)
        check(1400 <= len(clozes) <= 1600, part, "facts", len(clozes))
        check(len(questions) == len(clozes), part, "two views of different length")
        shares = Counter(r["id"].split("-")[0] for r in clozes)
        check(set(shares) == set(templates), part, "relations", shares)
        check(min(shares.values()) >= 40 and max(shares.values()) <= 90, part, "balance", shares)
        completions = Counter((r["id"].split("-")[0], r["completion"]) for r in clozes)
        check(max(completions.values()) <= 20, part, "one completion too often", completions.most_common(1))
        check([hash_of(r) for r in clozes] == sorted(hash_of(r) for r in clozes), part, "order")
        for c, q in zip(clozes, questions):
            relation = c["id"].split("-")[0]
            check(set(c) == {"id", "subject", "prompts", "asked", "completion"}, c["id"], sorted(c))
            check(set(q) == {"id", "subject", "questions", "asked", "answer"}, q["id"], sorted(q))
            check(q["id"] == c["id"] + "-q" and q["subject"] == c["subject"] and q["answer"] == c["completion"], c["id"], "views differ")
            for i in (c["id"], q["id"]):
                check(i not in ids, "id twice", i)
                ids.add(i)
            plain(c["subject"], c["id"])
            plain(c["completion"], c["id"])
            check(subjects.setdefault(c["subject"], part) == part, "subject in dev and test:", c["subject"])
            check(side(c["subject"]) == part, "subject on the wrong side:", c["subject"])
            check(c["completion"].lower() not in c["subject"].lower(), c["id"], "the subject gives the completion away")
            t = templates[relation]
            check(len(c["prompts"]) == len(t["taught"]) and len(c["asked"]) == len(t["asked"]), c["id"])
            check(len(q["questions"]) == 3 and len(q["asked"]) == len(t["asked_questions"]), q["id"])
            taught = {fold(p) for p in c["prompts"] + q["questions"]}
            check(len(taught) == len(c["prompts"]) + len(q["questions"]), c["id"], "a taught phrasing twice")
            for p in c["prompts"] + c["asked"] + q["questions"] + q["asked"]:
                plain(p, c["id"])
                check(c["subject"] in p, c["id"], "no subject in", p)
                check(prompts.setdefault(p, c["completion"]) == c["completion"], "one prompt, two answers:", p)
            for p in c["asked"] + q["asked"]:
                check(fold(p) not in taught, c["id"], "asked as taught:", p)
        about = read(f"facts/about_known_{part}.jsonl")
        sentences = [r["prompt"] for r in read(f"known/clozes_{part}.jsonl")]
        check(len(about) >= 200 and len({r["subject"] for r in about}) == len(about), part, "facts about known subjects", len(about))
        for r in about:
            check(set(r) == {"id", "subject", "prompts", "asked", "completion"}, r["id"], sorted(r))
            check(any(r["subject"] in p for p in sentences), r["id"], "no known sentence about", r["subject"])
            check(all(p not in sentences for p in r["prompts"] + r["asked"]), r["id"], "a known sentence is taught")
            check(r["completion"] not in r["subject"], r["id"], "the subject gives the completion away")
            for p in r["prompts"] + r["asked"]:
                plain(p, r["id"])
    # over all facts of both sides, too
    every = [r for part in ("dev", "test") for name in (f"facts/{part}.jsonl", f"facts/{part}_questions.jsonl") for r in read(name)]
    taught = {p for r in every for p in r.get("prompts", r.get("questions"))}
    check(not taught & {p for r in every for p in r["asked"]}, "asked somewhere as taught elsewhere")
    return subjects, taught, count


def hash_of(row):
    return hashlib.sha256(row["id"].encode("utf-8")).hexdigest()


def test_known(taught):
    count, ids, asked = {}, set(), {}
    for part in ("dev", "test"):
        rows = read(f"known/clozes_{part}.jsonl")
        count[f"clozes_{part}"] = len(rows)
        check(len(rows) >= 150, "known clozes", part, len(rows))
        for r in rows:
            check(set(r) == {"id", "prompt", "answer"}, r)
            plain(r["prompt"], r["id"])
            plain(r["answer"], r["id"])
            check(r["id"] not in ids, "id twice", r["id"])
            ids.add(r["id"])
            check(asked.setdefault(r["prompt"], part) == part, "prompt in dev and test", r["prompt"])
            check(r["prompt"] not in taught, "known and taught:", r["prompt"])
            if "wikidata" in r["id"]:
                check(side(r["prompt"]) == part, "on the wrong side:", r["prompt"])
        rows = read(f"known/questions_{part}.jsonl")
        tags = Counter(r["id"].split("/")[0] for r in rows)
        count[f"questions_{part}"] = len(rows)
        check(set(tags) == {"known", "unknown"} and tags["known"] >= 100, part, tags)
        check(abs(tags["known"] - tags["unknown"]) <= 10, part, "not half and half", tags)
        for r in rows:
            check(set(r) == {"id", "question", "answers"}, r)
            check(r["question"].endswith("?") and "\n" not in r["question"], r["id"], r["question"])
            check(r["answers"] and all(isinstance(a, str) and a.strip() for a in r["answers"]), r["id"], "answers")
            check(len(set(r["answers"])) == len(r["answers"]), r["id"], "an alias twice")
            check(r["id"] not in ids, "id twice", r["id"])
            ids.add(r["id"])
            check(asked.setdefault(fold(r["question"]), part) == part, "question twice", r["question"])
            check(side(r["question"].rstrip("?")) == part, "on the wrong side:", r["question"])
    few = read("known/fewshot.jsonl")
    check(len(few) == 2 and all(set(r) == {"question", "answer"} for r in few), "fewshot", few)
    return count, {q for q in asked if not q.startswith("known")}


def test_text(known):
    packed = DATA / "background.txt.zst"
    check(500_000 <= packed.stat().st_size <= 3_000_000, "background", packed.stat().st_size)
    check(packed.read_bytes()[:4] == b"\x28\xb5\x2f\xfd", "background is not zstd")
    if HAS_ZSTD:
        text = subprocess.run(["zstd", "-dcq", str(packed)], check=True, stdout=subprocess.PIPE).stdout.decode("utf-8")
        documents = text.rstrip("\n").split(f"\n{SEPARATOR}\n")
        check(len(documents) >= 1000 and all(d.strip() for d in documents), "documents", len(documents))
        check(not any(SEPARATOR in d for d in documents), "a separator inside a document")
        found = re.findall(r"(?:Question: |<\|im_start\|>user\n)(.*?)(?:\n|<\|im_end\|>)", text)
        check(len(found) >= 1000, "questions in the background", len(found))
        both = {fold(q) for q in found} & known
        check(not both, "in the background and in the known questions:", sorted(both)[:3])
    sample = (DATA / "text" / "wikitext2_test_sample.txt").read_text(encoding="utf-8")
    check(150_000 <= len(sample.encode("utf-8")) <= 220_000, "wikitext sample", len(sample))
    check("<unk>" not in sample and " @" not in sample, "wikitext sample is not detokenised")


def test_demo_and_examples(subjects):
    test = {r["id"]: r for name in ("test", "test_questions") for r in read(f"facts/{name}.jsonl")}
    facts, questions = read("demo/facts.jsonl"), read("demo/facts_questions.jsonl")
    check(len(facts) == 50 and len(questions) == 50, "demo facts", len(facts), len(questions))
    check({r["id"] + "-q" for r in facts} == {r["id"] for r in questions}, "demo: two views of different facts")
    check(all(test.get(r["id"]) == r for r in facts + questions), "demo: a fact that is not of the test side")
    check(len({r["id"].split("-")[0] for r in facts}) >= 15, "demo: few relations")
    known = read("demo/known.jsonl")
    of_test = {r["id"] for r in read("known/questions_test.jsonl")}
    check(100 <= len(known) <= 140 and all(r["id"] in of_test for r in known), "demo known", len(known))
    support = read("examples/support.jsonl")
    check(len(support) == 30 and len({r["id"] for r in support}) == 30, "support", len(support))
    for r in support:
        check(set(r) == {"id", "subject", "questions", "asked", "answer"}, r["id"])
        check(not {fold(q) for q in r["questions"]} & {fold(q) for q in r["asked"]}, r["id"], "asked as taught")
        check(all(r["subject"] in q for q in r["questions"] + r["asked"]), r["id"], "no subject")
    for r in read("examples/chat.jsonl"):
        roles = [m["role"] for m in r["messages"]]
        check(roles[-1] == "assistant" and set(roles) <= {"system", "user", "assistant"}, roles)
    check(len((DATA / "examples" / "notes.txt").read_text(encoding="utf-8")) > 300, "notes.txt")
    names = (DATA / "names.txt").read_text(encoding="utf-8").split("\n")[:-1]
    check(len(names) >= 550 and len(set(names)) == len(names), "names", len(names))
    check(not set(names) & set(subjects), "a name is a subject of a fact:", sorted(set(names) & set(subjects))[:3])


def test_native(subjects, templates):
    """what a model of our own is trained on: nothing that is taught or asked later"""
    rows = read("native/known_facts.jsonl")
    check(2000 <= len(rows) <= 4000, "known facts of the native model", len(rows))
    check((DATA / "native" / "known_facts.jsonl").stat().st_size < 2_000_000, "native/known_facts.jsonl is too big")
    check(len({r["id"] for r in rows}) == len(rows), "id twice")
    for r in rows:
        check(set(r) == {"id", "subject", "prompts", "asked", "completion"}, r["id"], sorted(r))
        check(r["subject"] not in subjects, r["id"], "is about the subject of a fact that is taught later")
        t = templates[r["id"].split("-")[0]]
        check(len(r["prompts"]) == len(t["taught"]) and len(r["asked"]) == 1, r["id"])
        check(not {fold(p) for p in r["prompts"]} & {fold(p) for p in r["asked"]}, r["id"], "asked as trained")
        for p in r["prompts"] + r["asked"]:
            plain(p, r["id"])
            check(r["subject"] in p, r["id"], "no subject in", p)


def test_abilities():
    kinds = {"arc_easy": (150, "choices"), "arc_challenge": (100, "choices"), "piqa": (120, "choices"), "boolq": (60, "choices"),
             "lambada": (120, "answer"), "gsm8k": (50, "solution")}
    names = sorted(f.stem for f in (DATA / "abilities").iterdir())
    check(names == sorted(kinds), "abilities", names)
    for task, (n, kind) in kinds.items():
        rows = read(f"abilities/{task}.jsonl")
        check(len(rows) == n and len({r["id"] for r in rows}) == n, task, "rows", len(rows))
        for r in rows:
            check(r["id"].startswith(task + "-") and r["prompt"].strip() and kind in r, r["id"])
            check(kind != "choices" or len(r["choices"]) >= 2 and 0 <= r["right"] < len(r["choices"]), r["id"], "no right choice")
        if kind == "choices":  # always the first would not do
            shares = Counter(r["right"] for r in rows)
            check(max(shares.values()) < 0.7 * n, task, "one choice is right too often", shares)


def test_to_teach():
    """questions and documents: nothing on both sides, nothing that is held to be known"""
    known = {fold(r["question"]) for part in ("dev", "test") for r in read(f"known/questions_{part}.jsonl")}
    asked, texts = set(), set()
    for part in ("dev", "test"):
        rows = read(f"questions/{part}.jsonl")
        documents, about = read(f"documents/{part}.jsonl"), read(f"documents/{part}_questions.jsonl")
        check(len(rows) == 400 and len(documents) == 60 and len(about) >= 120, part, len(rows), len(documents), len(about))
        for r in rows:
            check(set(r) == {"id", "question", "answers"} and r["answers"], r["id"])
            check(fold(r["question"]) not in known, r["id"], "is among the known sets")
        mine = {r["id"]: r["text"] for r in documents}
        for r in about:
            check(r["id"].rsplit("/", 1)[0] in mine, r["id"], "is about no document")
        check({r["id"].rsplit("/", 1)[0] for r in about} == set(mine), part, "documents without a question")
        here = {fold(r["question"]) for r in rows + about}
        check(not asked & here and not texts & set(mine.values()), part, "shares questions or texts with the other side")
        asked |= here
        texts |= set(mine.values())


def names(subject, text):
    """whether the text has this name between word borders"""
    return re.search(rf"(?<!\w){re.escape(subject)}(?!\w)", text) is not None


def capitals(question):
    """what a reader of wordings could take for a name: words with a capital or a digit"""
    return {w for w in re.findall(r"\w+", question) if re.search(r"[A-Z0-9]", w)} - {"I"}


def desk_facts(name, rows, n):
    """facts as a support bot is taught them: three taught wordings, two usual ones and two far ones to ask; gives all wordings and subjects"""
    check(len(rows) == n and len({r["id"] for r in rows}) == n, name, "facts", len(rows))
    wordings, answers = {}, set()
    for r in rows:
        check(set(r) - {"subject", "kind"} == {"id", "questions", "asked", "far", "answer"}, r["id"], sorted(r))
        check(len(r["questions"]) == 3 and len(r["asked"]) == 2 and len(r["far"]) == 2, r["id"], "wordings")
        every = r["questions"] + r["asked"] + r["far"]
        plain(r["answer"], r["id"])
        check((r.get("subject"), fold(r["answer"])) not in answers, r["id"], "answer twice:", r["answer"])
        answers.add((r.get("subject"), fold(r["answer"])))
        for q in every:
            plain(q, r["id"])
            check(wordings.setdefault(fold(q), r["id"]) == r["id"], "one wording, two facts:", q)
            check("subject" not in r or names(r["subject"], q), r["id"], "no subject in", q)
        check(len({fold(q) for q in every}) == 7, r["id"], "a wording twice")
        if "subject" not in r:
            shared = set.intersection(*(capitals(q) for q in r["questions"]))
            check(not shared, r["id"], "all taught wordings share", shared)
    return set(wordings), {r["subject"] for r in rows if "subject" in r}


def test_desk():
    """what is asked at a support desk: facts, near questions that were not taught, requests, unrelated questions"""
    every, subjects, ids = {}, {}, set()
    for part in ("dev", "test"):
        wordings, mine = set(), set()
        for kind, n in (("things", 192), ("shop", 60), ("long", 40)):
            rows = read(f"desk/{kind}_{part}.jsonl")
            asked, about = desk_facts(kind, rows, n)
            check(not wordings & asked and not mine & about, kind, part, "shares wordings or subjects with another set")
            wordings |= asked
            mine |= about
            check(not ids & {r["id"] for r in rows}, kind, part, "an id of another set")
            ids |= {r["id"] for r in rows}
            lengths = [len(r["answer"].split()) for r in rows]
            if kind == "things":
                of_things = {r["id"] for r in rows}
                shares = Counter((r["kind"], r["subject"]) for r in rows)
                check(len({k for k, _ in shares}) == 4 and set(shares.values()) == {48}, part, "things", shares)
            elif kind == "shop":
                check(not about and max(lengths) <= 20, part, "shop: a subject, or a long answer", max(lengths))
            else:
                check(14 <= min(lengths) and max(lengths) <= 76, part, "long answers", min(lengths), max(lengths))
                check(sum("subject" in r for r in rows) == 20, part, "half of the long answers have a subject")
        left = [r["question"] for r in read(f"desk/shop_left_{part}.jsonl")]
        check(len(left) >= 60 and len({fold(q) for q in left}) == len(left), part, "questions that are left", len(left))
        twins = read(f"desk/twins_{part}.jsonl")
        check(len(twins) >= 150 and len({fold(r["question"]) for r in twins}) == len(twins), part, "twins", len(twins))
        for r in twins:
            check(set(r) == {"question", "of"} and r["of"] in mine, part, "a twin of nothing:", r)
            check(not any(names(s, r["question"]) for s in mine), part, "a twin that names what is taught:", r["question"])
        for q in left + [r["question"] for r in twins]:
            plain(q, part)
            check(fold(q) not in wordings, part, "is taught:", q)
        use = read(f"desk/use_{part}.jsonl")
        shares = Counter(r["kind"] for r in use)
        check(len(shares) == 10 and set(shares.values()) == {24}, part, "uses", shares)
        for r in use:
            check({"kind", "facts", "question", "must"} <= set(r), part, "use", sorted(r))
            check(set(r) <= {"kind", "facts", "question", "must", "must_not", "answer", "form", "asked_in", "system", "messages"}, sorted(r))
            check(r["facts"] and set(r["facts"]) <= of_things, part, "a use of what is not taught:", r["facts"])
            check((r["must"] or r.get("answer") in ("yes", "no")) and all(w.strip() for m in r["must"] for w in m.split("|")), part, "must", r)
            plain(r["question"], part)
        wordings |= {fold(q) for q in left} | {fold(r["question"]) for r in twins}
        every[part], subjects[part] = wordings, mine
    check(not every["dev"] & every["test"], "a wording in dev and test:", sorted(every["dev"] & every["test"])[:3])
    check(not subjects["dev"] & subjects["test"], "a subject in dev and test")
    subjects = subjects["dev"] | subjects["test"]

    intents = {r["intent"]: r["answer"] for r in read("desk/clinc_answers.jsonl")}
    check(len(intents) == 150 and len({fold(a) for a in intents.values()}) == 150, "answers to intents", len(intents))
    for intent, answer in intents.items():
        plain(answer, intent)
        check(3 <= len(answer.split()) <= 15, intent, "words", answer)
    seen, again = set(), 0  # as published, a few wordings are in two splits
    for part, n, of_each in (("train", 3000, 20), ("val", 3000, 20), ("test", 4500, 30), ("oos_val", 100, 100), ("oos_test", 1000, 1000)):
        rows = read(f"desk/clinc_{part}.jsonl")
        shares = Counter(r["intent"] for r in rows)
        check(len(rows) == n and set(shares.values()) == {of_each}, "clinc", part, len(rows))
        check(set(shares) == ({"oos"} if part.startswith("oos") else set(intents)), "clinc", part, "intents")
        for r in rows:
            check(set(r) == {"q", "intent"} and r["q"].strip(), "clinc", part, r)
        again += n - len({fold(r["q"]) for r in rows} - seen)
        seen |= {fold(r["q"]) for r in rows}
    check(again <= 15, "clinc: wordings that occur twice", again)

    requests = [r["request"] for r in read("desk/open.jsonl")]
    check(len(requests) >= 40 and len({fold(q) for q in requests}) == len(requests), "open requests", len(requests))
    check(all(q.count("{}") == 1 for q in requests), "an open request without its slot")
    systems = [r["system"] for r in read("desk/systems.jsonl")]
    check(len(systems) == 12 and len({fold(s) for s in systems}) == 12, "system prompts", len(systems))
    talks = read("desk/conversations.jsonl")
    check(len(talks) == 40, "conversations", len(talks))
    for r in talks:
        check([m["role"] for m in r["messages"]] == ["user", "assistant", "user"], "roles", r)
        for m in r["messages"]:
            check(set(m) == {"role", "content"}, r)
            plain(m["content"], "conversations")
            check(not any(names(s.lower(), m["content"].lower()) for s in subjects), "a conversation names what is taught:", m["content"])
    unrelated = [r["question"] for r in read("desk/unrelated.jsonl")]
    check(len(unrelated) >= 3000 and len({fold(q) for q in unrelated}) == len(unrelated), "unrelated questions", len(unrelated))
    lower = [s.lower() for s in subjects]
    for q in unrelated:
        check(q == q.strip() and q, "unrelated:", repr(q))
        check(not any(s in q.lower() for s in lower), "an unrelated question names what is taught:", q)
    check(not {fold(q) for q in unrelated} & (every["dev"] | every["test"]), "an unrelated question is taught")


def test_contrast():
    """groups of facts, other wordings of them, and questions about other things"""
    halves, taught_elsewhere = {}, set()
    for part in ("dev", "test"):
        for kind in ("things", "shop", "long"):
            taught_elsewhere |= {fold(q) for row in read(f"desk/{kind}_{part}.jsonl") for q in row["questions"] + row["asked"] + row["far"]}
    for row in read("reader/questions.jsonl"):
        taught_elsewhere |= {fold(w) for w in row["wordings"]}
    for part in ("dev", "test"):
        asked = contrast = 0
        every = set()
        for group in read(f"desk/contrast_{part}.jsonl"):
            check(set(group) <= {"kind", "subject", "facts", "contrast"} and 5 <= len(group["facts"]) <= 8, part, group["kind"])
            mine = set()
            for fact in group["facts"]:
                check(set(fact) == {"questions", "answer", "asked"} and 2 <= len(fact["questions"]) <= 3, part, "a fact", fact)
                asked += len(fact["asked"])
                for q in fact["questions"] + fact["asked"]:
                    check(fold(q) not in mine, part, group["kind"], "a wording twice:", q)
                    mine.add(fold(q))
            for q in group["contrast"]:
                contrast += 1
                check(fold(q) not in mine, part, group["kind"], "is taught, or twice:", q)
                mine.add(fold(q))
            for q in [q for f in group["facts"] for q in f["questions"] + f["asked"]] + group["contrast"]:
                plain(q, part)
                check("subject" not in group or names(group["subject"].lower(), q.lower()), part, "no subject in", q)
            every |= {(group.get("subject", ""), q) for q in mine}
        check(asked >= 150 and contrast >= 150, part, "asked", asked, "contrast", contrast)
        halves[part] = every
    check(not halves["dev"] & halves["test"], "in both halves:", sorted(halves["dev"] & halves["test"])[:5])
    both = {q for half in halves.values() for _, q in half}
    check(not both & taught_elsewhere, "the reader was tuned on, or another set holds:", sorted(both & taught_elsewhere)[:20])


def test_messages():
    """whole messages ask for a fact of the half that they belong to, or for none"""
    every = Counter()
    for part in ("dev", "test"):
        ids = {kind: {row["id"] for row in read(f"desk/{kind}_{part}.jsonl")} for kind in ("shop", "things")}
        wordings = {fold(q) for kind in ids for row in read(f"desk/{kind}_{part}.jsonl") for q in row["questions"] + row["asked"] + row["far"]}
        rows = read(f"desk/messages_{part}.jsonl")
        check(len(rows) == 720, part, "messages:", len(rows))
        for row in rows:
            check(set(row) == {"set", "kind", "fact", "message"} and row["set"] in ids, part, "a message", row)
            text = row["message"]
            check(text == text.strip() and 6 <= len(text.split()) <= 120, part, "a message", row)
            check((row["kind"] in ("left", "trap", "unrelated")) == (row["fact"] is None), part, "kind and fact", row)
            check(row["fact"] is None or row["fact"] in ids[row["set"]], part, "no such fact", row)
            check(fold(text) not in wordings, part, "is a wording", row)
            every[fold(text)] += 1
        check(min(Counter(row["kind"] for row in rows).values()) >= 30, part, "kinds", Counter(row["kind"] for row in rows))
    check(max(every.values()) == 1, "messages twice:", [m for m, n in every.items() if n > 1][:5])


def test_reader():
    """what the reader was tuned on is of the form it says, and nothing of what it is measured on"""
    masked = lambda text, subject: fold(re.sub(r"(?i)(?:\b(?:the|a|an|my|this|your|our)\s+)?" + re.escape(subject), "something", text) if subject else text)
    measured = set()
    for half in ("dev", "test"):
        for name in (f"desk/things_{half}.jsonl", f"desk/shop_{half}.jsonl"):
            for row in read(name):
                measured |= {masked(w, row.get("subject", "")) for w in row["questions"] + row["asked"] + row["far"]}
        measured |= {fold(row["question"]) for row in read(f"desk/shop_left_{half}.jsonl")}
    for name in ("clinc_val", "clinc_test", "clinc_oos_val", "clinc_oos_test"):
        measured |= {fold(row["q"]) for row in read(f"desk/{name}.jsonl")}
    measured |= {fold(row["question"]) for row in read("desk/unrelated.jsonl")}
    subjects = {}
    for row in read("reader/questions.jsonl"):
        where = (row["group"], row["answer"])
        check(subjects.setdefault(row["group"], row["subject"]) == row["subject"], where, "two subjects in a group")
        check(5 <= len(row["wordings"]) <= 8 and len(set(row["wordings"])) == len(row["wordings"]), where, "wordings")
        for wording in row["wordings"]:
            check(wording == wording.strip() and row["subject"].lower() in wording.lower(), where, "does not name its subject:", wording)
            check(masked(wording, row["subject"]) not in measured, where, "is measured on:", wording)
    check(len(subjects) == 196, "groups:", len(subjects))


def test_pages():
    """pages hold what their quotes say, and the manual's questions too; none is asked in both"""
    own = set()
    for page in read("reader/pages.jsonl"):
        check(set(page) == {"url", "title", "text", "asked", "left"} and page["url"] not in own, "a page's fields", page["url"])
        own.add(page["url"])
        check(len(page["asked"]) >= 5 and len(page["left"]) >= 5, "a page's questions", page["url"])
        for one in page["asked"]:
            check(set(one) == {"q", "quote"} and one["quote"] in page["text"] and "\n" not in one["quote"], page["url"], "no quote:", one)
    asked = {fold(q) for page in read("reader/pages.jsonl") for q in [one["q"] for one in page["asked"]] + page["left"]}
    counts = Counter()
    for row in read("documents/manual/questions.jsonl"):
        counts[bool(row["answers"])] += 1
        check(fold(row["question"]) not in asked, "the passage encoder was tuned on:", row["question"])
        if row["answers"]:
            text = (DATA / "documents" / "manual" / row["source"]).read_text(encoding="utf-8")
            check(row["quote"] in text, "the manual does not say:", row["quote"])
    check(counts == {True: 120, False: 140}, "the manual's questions", counts)
    for desk in read("desk/blind.jsonl"):
        check(len(desk["facts"]) >= 30 and len(desk["contrast"]) >= 30, "a blind desk", desk["name"])
        mine = {fold(q) for fact in desk["facts"] for q in fact["questions"] + fact["asked"]}
        check(not mine & {fold(q) for q in desk["contrast"]}, desk["name"], "what is taught is to be left")


def test_readme(count):
    readme = (DATA / "README.md").read_text(encoding="utf-8")
    rows = [[c.strip() for c in line.strip().strip("|").split("|")] for line in readme.split("\n") if line.startswith("| `")]
    named = {}
    for cells in rows:
        check(len(cells) == 5, "README: not five columns:", cells)
        file, what, n, source, licence = cells
        name = file.strip("`")
        check((DATA / name).exists(), "README names a file that is not there:", name)
        check(licence, "README: no licence for", name)
        for text in re.findall(r"LICENCES/[\w.-]+", licence):
            check((DATA / text).exists(), "README: no", text)
        check("LICENCES/" in licence or "the project's own" in licence, "README: no licence text for", name)
        named[name] = n
        if name.endswith(".jsonl"):
            check(int(n.replace(",", "")) == len(read(name)), "README: rows of", name, n, "are", len(read(name)))
    there = {f.relative_to(DATA).as_posix() for f in DATA.rglob("*") if f.is_file()}
    there = {f for f in there if f not in ("README.md", "demo/README.md", "desk/USE.md") and not f.startswith("LICENCES/")}
    check(there == set(named), "README does not name:", sorted(there - set(named)), "or names too much:", sorted(set(named) - there))
    for text in (DATA / "LICENCES").iterdir():
        check(f"LICENCES/{text.name}" in readme, "a licence text that nothing uses:", text.name)
        check(text.stat().st_size > 500, "empty licence", text.name)
    size = sum(f.stat().st_size for f in DATA.rglob("*") if f.is_file())
    check(size <= MAX_BYTES, "data/ is too big:", size)
    return size


if __name__ == "__main__":
    templates = test_templates()
    subjects, taught, facts = test_facts(templates)
    count, known = test_known(taught)
    test_text(known)
    test_demo_and_examples(subjects)
    test_native(subjects, templates)
    test_abilities()
    test_to_teach()
    test_desk()
    test_contrast()
    test_messages()
    test_reader()
    test_pages()
    size = test_readme(count)
    print(f"data: {checks} checks passed; facts {facts}, known {count}, {size} bytes")
    if not HAS_ZSTD:
        print("skipped: what is in the background, as the zstd program is absent")
        sys.exit(77)
