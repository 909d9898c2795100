"""`accrete export` of a memory of facts against transformers: the same fact chosen, the same text said.

usage: parity_export_facts.py ACCRETE GGUF READER   (exit 77: a package or the model is absent)
"""
import json
import os
import subprocess
import sys
import tempfile

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads starve each other on a busy machine
try:
    import torch
    from transformers import AutoModelForCausalLM
except ImportError as e:
    print("skipped:", e)
    sys.exit(77)

accrete, gguf, reader = sys.argv[1:4]
for needed in (gguf, reader):
    if not os.path.exists(needed):
        print("skipped:", needed, "is absent")
        sys.exit(77)
TOKENS = 48
torch.set_num_threads(2)

LONG = ("Unplug it, wait one full minute until every light is off, then hold the plus key and the round key "
        "together while you plug it in again, and let go when the green light blinks twice.")
NOTICE = "Tarn Goods Ltd., registered in Tarvik under No. 4471-B; no warranty is given beyond § 12 (3)."
FACTS = [
    {"questions": ["How heavy is the Corvane 5?", "What does the Corvane 5 weigh?", "Tell me the weight of the Corvane 5."],
     "answer": "186 g", "subject": "Corvane 5"},
    {"questions": ["What colour is the Corvane 5?", "Which colour does the Corvane 5 have?"], "answer": "dark green",
     "subject": "Corvane 5"},
    {"questions": ["How heavy is the Corvane 6?", "What does the Corvane 6 weigh?", "Tell me the weight of the Corvane 6."],
     "answer": "240 g", "subject": "Corvane 6"},
    {"questions": ["When do you open on Sundays?", "What are your hours on a Sunday?", "Are you open on Sunday?"],
     "answer": "On Sundays we are open from ten to four."},
    {"questions": ["How do I reset the Orvessa K3?", "My Orvessa K3 hangs, what do I do?", "How can the Orvessa K3 be restarted?"],
     "answer": LONG, "subject": "Orvessa K3"},
    {"questions": ["What is your legal notice?", "Show me the legal notice."], "answer": NOTICE, "verbatim": True},
    {"questions": ["Is the Corvane 5 any good?", "Would you recommend the Corvane 5?"], "leave": True, "subject": "Corvane 5"},
    {"questions": ["What ends a line in the Pell log?", "How does a line of the Pell log end?"],
     "answer": "with <|im_end|> and a dot", "subject": "Pell log"},
    {"questions": ["Who leads the Straße café?", "Who is the head of the Straße café?"], "answer": "Mette Sand",
     "subject": "Straße café"},
    {"questions": ["Which battery is in the Corvane 6?", "What battery does the Corvane 6 take?"], "answer": "a small one",
     "subject": "Corvane 6"},
]
CORRECTION = [{"questions": ["Which battery is in the Corvane 6?", "What battery does the Corvane 6 take?"],
               "answer": "two of type QX", "subject": "Corvane 6"}]
CAMP = [{"questions": [q.format(" at Alder Camp"), q.format(" of Alder Camp")], "answer": a, "verbatim": True} for q, a in (
    ("When does the pool{} open?", "At nine."), ("Where is the kiosk{}?", "By the gate."), ("Who runs the sauna{}?", "Mette Sand."),
    ("What does a night{} cost?", "18 euros."), ("How deep is the lake{}?", "Nine metres."), ("When is the gate{} locked?", "At ten."))]
CAMP_ASKED = ["When does the pool open?", "how deep is the lake", "Where is the kiosk?", "Who runs it?", "When is the gate closed?",
              "When does the pool open on Sunday?", "what does a nihgt cost", "what does a night cost at birkfell",
              "Where is the kiosk at Birch Camp?", "Who wrote Hamlet?", "how deep is the pacific ocean"]
RAW = [
    {"questions": ["The capital of Norvia is", "The seat of government of Norvia is"], "answer": "Tarnsk.", "subject": "Norvia"},
    {"questions": ["The Corvane 5 is made in", "The Corvane 5 is built in"], "answer": "Lower Pellmark.", "subject": "Corvane 5"},
]
# Of each what it is there for: the answer of a fact that must be said, None: the model's own, "?": either, as the program says.
ASKED = [
    ("How heavy is the Corvane 5?", "186 g"),
    ("What does the Corvane 5 weigh?", "186 g"),
    ("How much does a Corvane 5 weigh in grams?", "?"),
    ("What is the weight of my Corvane 5?", "?"),
    ("HOW HEAVY IS THE CORVANE 5?", "186 g"),
    ("how haevy is the corvane 5", "?"),  # a slip
    ("Hi there, how heavy is the Corvane 5, please?", "186 g"),
    ("How heavy is the ＣＯＲＶＡＮＥ ５?", "186 g"),
    ("How heavy is the Corvane\u00a05\u200b?", "186 g"),
    ("How heavy is the Corvane 6?", "240 g"),
    # whole messages
    ("Hello there, hope you are well. How heavy is the Corvane 5? Many thanks in advance!", "186 g"),
    ("Good morning,\n\nI bought a Corvane 5 last week and like it. How heavy is it?\n\nBest regards\nA.", "186 g"),
    ("Answer in one full sentence: How heavy is the Corvane 5?", "186 g"),
    ("What colour is the Corvane 5? Reply as JSON with the key answer.", "dark green"),
    ("My Corvane 5 weighs 186 g, says the label. Who painted the Mona Lisa?", "?"),
    ("Two things, e.g. for Dr. Sand: when do you open on Sundays, and is there a park?", "?"),
    ("i need to write a report - how heavy is the corvane 6, and what colour is the corvane 5?", "?"),
    ("How heavy is the Corvane 5? And what colour is it?", "186 g"),  # both are said
    ("We came late. It rained. The dog was wet.", None),
    ("How heavy is the Corvane 7?", None),  # a twin that was never taught
    ("How heavy is the Corvane 5.5?", None),
    ("How heavy is the Corvane?", None),
    ("What colour is the Corvane 5?", "dark green"),
    ("In which colour does the Corvane 5 come?", "?"),
    ("What colour is the Corvane 6?", "?"),  # untaught about a taught thing
    ("Who designed the Corvane 5?", "?"),
    ("Tell me something about the Corvane 5.", None),
    ("Is the Corvane 5 any good?", None),  # left to the model
    ("Would you recommend buying the Corvane 5?", None),
    ("Is the Corvane 5 heavier than the Corvane 6?", "?"),  # two subjects
    ("When do you open on Sundays?", "On Sundays we are open from ten to four."),
    ("Until when are you open this Sunday?", "?"),
    ("On sundays, when do you opne?", "?"),
    ("When do you open on Mondays?", "?"),
    ("How do I reset the Orvessa K3?", LONG),
    ("I want to reset my Orvessa K3.", "?"),
    ("What is your legal notice?", NOTICE),
    ("Please show me your legal notice", "?"),
    ("What ends a line in the Pell log?", "with <|im_end|> and a dot"),
    ("What does <|im_end|> do in the Pell log?", "?"),
    ("Write <|im_start|>user and <|im_end|> backwards.", None),
    ("Who leads the STRASSE CAFÉ?", "Mette Sand"),
    ("Who is the head of the Straße cafe\u0301?", "Mette Sand"),
    ("Which battery is in the Corvane 6?", "two of type QX"),  # corrected
    ("What is the capital of France?", None),
    ("Write a poem about the sea.", None),
    ("什么是数据库？", None),
    ("What’s 12 + 30?", None),
    ("The capital of Norvia is", None),  # taught raw
    ("?", None),
]
ASKED_RAW = [
    ("The capital of Norvia is", "Tarnsk."),
    ("The capital of Norvia is ", "Tarnsk."),
    ("The capital of Arvia is", None),
    ("The Corvane 5 is made in", "Lower Pellmark."),
    ("The capital of Peru is Lima.\n\nThe capital of Norvia is", "Tarnsk."),
    ("How heavy is the Corvane 5?", None),  # taught in a chat
    ("The sea is<|im_end|>", None),
]
TALKS = [
    ["How heavy is the Corvane 5?", "And which colour does it have?", "Thanks! What is the capital of France?"],
    ["I have a Corvane 6.", "How heavy is it?"],
    ["Tell me about the Corvane 5.", "and its colour?", "how heavy is the Corvane 9", "And the weight?"],
    ["Is the Corvane 5 or the Orvessa K3 on sale?", "How do I reset it?", "What is your legal notice?"],
    ["How heavy is the Corvane 5?", "And the Corvane 6?", "what about the Corvane 7?", "And without batteries?"],
    ["When do you open on Mondays?", "And on Sundays?", "and in winter?", "On Sundays?"],
]


def run(*command, **options):
    return subprocess.run([accrete, *command, "--quiet", "--threads", "2"], check=True, capture_output=True, text=True,
                          **options).stdout


def write_lines(path, items):
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(json.dumps(item) + "\n" for item in items)


def open_export(folder):
    model, info = AutoModelForCausalLM.from_pretrained(
        folder, trust_remote_code=True, dtype=torch.float32, output_loading_info=True)
    assert not any(info[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    return model.eval()


def compare(folder, model, question, expected, raw=False):
    """One question, to both. Whether a fact was said."""
    ours = json.loads(run("ask", folder, question, "--json", "--explain", "--max-tokens", str(TOKENS), *(["--raw"] if raw else [])))
    text, fact = model.say(question, raw=raw, max_new_tokens=TOKENS)
    choice = model.choose(question, raw=raw)
    explained = ours["explain"]
    assert ours["fact"] == (fact is not None), (question, ours, fact)
    nearest = explained.get("fact") or explained.get("nearest")
    assert (nearest is None) == (choice.best is None), (question, explained)
    if nearest is not None:
        best = model.facts.texts[choice.best]
        theirs = (best["update"], best["line"], best["wordings"][choice.wording])
        assert theirs == (nearest["update"], nearest["line"], nearest["wording"]), (question, nearest, theirs)
        assert abs(nearest["probability"] - choice.probability) < 1e-3, (question, nearest, choice.probability)
    assert text == ours["text"], (question, ours["text"], text)
    if expected != "?":
        assert (fact and fact["answers"][0]) == expected, (question, expected, fact, explained)
    return fact is not None


def talk(folder, model, turns):
    said = json.loads(run("chat", folder, "--json", "--max-tokens", str(TOKENS), input="\n".join(turns) + "\n"))["turns"]
    messages, facts = [], []
    for question, ours in zip(turns, said, strict=True):
        messages.append({"role": "user", "content": question})
        text, fact = model.say(messages, max_new_tokens=TOKENS)
        assert (text, fact is not None) == (ours["assistant"], ours["fact"]), (messages, ours, text, fact)
        messages.append({"role": "assistant", "content": text})
        facts.append(fact and fact["answers"][0])
    return facts


def base_says(model, question, tokens):
    ids = model.tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt", return_dict=True)
    out = model.generate(**ids, max_new_tokens=tokens, do_sample=False)[0, ids["input_ids"].shape[1]:]
    return model.tokenizer.decode(out, skip_special_tokens=True)


with tempfile.TemporaryDirectory() as work:
    path = lambda name: os.path.join(work, name)
    for name, items in (("facts", FACTS), ("correction", CORRECTION), ("raw", RAW), ("first", FACTS[:4])):
        write_lines(path(name + ".jsonl"), items)

    run("retrofit", gguf, path("m"), "--reader", reader, "--tell", "value")
    result = json.loads(run("export", path("m"), path("base"), "--json"))  # nothing taught: the base alone
    assert not any("accrete" in name or name == "reader" for name in result["files"]), result
    run("teach", path("m"), path("facts.jsonl"))
    run("teach", path("m"), path("correction.jsonl"))
    run("teach", path("m"), path("raw.jsonl"), "--raw")
    result = json.loads(run("export", path("m"), path("out"), "--json"))
    assert len(result["updates"]) == 3, result
    assert {"modeling_accrete_facts.py", "accrete_facts.json", "accrete_facts.safetensors", "reader"} <= set(result["files"]), result
    try:  # never silently without what was taught
        AutoModelForCausalLM.from_pretrained(path("out"), trust_remote_code=False)
        raise SystemExit("it was loaded without its own code")
    except ValueError:
        pass
    model = open_export(path("out"))
    # The corrected one is gone, and of the two wordings that are left to the model each stands for itself.
    assert len(model.facts.texts) == len(FACTS) + 1 + len(RAW)
    said = sum(compare(path("m"), model, question, expected) for question, expected in ASKED)
    said += sum(compare(path("m"), model, question, expected, raw=True) for question, expected in ASKED_RAW)
    talks = [talk(path("m"), model, turns) for turns in TALKS]
    assert talks[0] == ["186 g", "dark green", None], talks
    assert talks[1][1] == "240 g" and talks[3][2] == NOTICE, talks
    assert talks[4][:3] == ["186 g", "240 g", None], talks  # "And the Corvane 6?"
    assert talks[5][1] == "On Sundays we are open from ten to four.", talks
    assert model.say("How heavy is the Corvane 5? And what colour is it?")[0] == "186 g\ndark green"
    text, fact = model.say(FACTS[4]["questions"][0], max_new_tokens=64)
    assert text == LONG and fact["subject"] == "Orvessa K3", text
    # Caution beyond every probability: the base, which is also what plain generate says.
    question = FACTS[0]["questions"][0]
    text, fact = model.say(question, max_new_tokens=TOKENS, caution=100)
    own = json.loads(run("ask", path("m"), question, "--json", "--caution", "100", "--max-tokens", str(TOKENS)))
    assert fact is None and text == own["text"] == base_says(model, question, TOKENS), (text, own)

    # What transformers saves from it opens again, facts and reader included.
    model.save_pretrained(path("saved"))
    again = open_export(path("saved"))
    assert again.say(question) == model.say(question)

    # Told by notes.
    run("retrofit", gguf, path("n"), "--reader", reader, "--tell", "note")
    run("teach", path("n"), path("first.jsonl"))
    run("export", path("n"), path("noted"))
    noted = open_export(path("noted"))
    said += sum(compare(path("n"), noted, question, "?") for question, _ in ASKED[:3] + ASKED[21:23] + ASKED[37:38])
    talk(path("n"), noted, TALKS[0])
    # Asked to write, it is told what is known; so is a question that two facts may answer.
    wishes = ["Write a short advertisement for the Corvane 5.", "Please describe the Corvane 5 in one sentence.", "Write a poem about rain."]
    for wish in wishes:
        text, _ = noted.say(wish, max_new_tokens=TOKENS)
        own = json.loads(run("ask", path("n"), wish, "--json", "--max-tokens", str(TOKENS)))
        assert text == own["text"], (wish, text, own["text"])
    assert noted.choose(wishes[0]).about and not noted.choose(wishes[2]).about
    # About one thing alone, which need not be named.
    write_lines(path("camp.jsonl"), CAMP)
    run("retrofit", gguf, path("c"), "--reader", reader, "--tell", "value")
    run("teach", path("c"), path("camp.jsonl"))
    run("export", path("c"), path("camp"))
    camp = open_export(path("camp"))
    assert compare(path("c"), camp, CAMP_ASKED[0], "At nine.")
    said += 1 + sum(compare(path("c"), camp, question, "?") for question in CAMP_ASKED[1:])
    total = len(CAMP_ASKED) + len(ASKED) + len(ASKED_RAW) + 6
    print(f"export of facts: {total} questions and {len(TALKS) + 1} conversations, the same facts and texts; {said} told by a fact")
