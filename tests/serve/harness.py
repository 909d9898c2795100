"""lm-evaluation-harness against the server: what it scores is what `accrete eval` scores, item by item.

usage: harness.py ACCRETE SOURCE_DIR   (needs lm-eval, which scripts/setup.sh tests installs, and the model)

`local-completions` reads log-likelihoods and writes answers, by token ids and by texts, one and eight requests at a time; `local-chat-completions`
chats, with taught facts. The tasks are in tests/serve/harness.
"""
import json
import os
import signal
import subprocess
import sys
import tempfile

accrete, source = (os.path.abspath(p) for p in sys.argv[1:3])
gguf = os.path.join(source, "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
scratch = tempfile.TemporaryDirectory()
os.environ.update(HF_DATASETS_CACHE=os.path.join(scratch.name, "datasets"), HF_HUB_OFFLINE="1", HF_DATASETS_OFFLINE="1", TOKENIZERS_PARALLELISM="false",
                  HF_DATASETS_DISABLE_PROGRESS_BARS="1", TQDM_DISABLE="1")
import lm_eval  # noqa: E402
from lm_eval.tasks import TaskManager  # noqa: E402

assert os.path.exists(gguf), "the model is absent (make setup fetches it)"
CHOICES, QUESTIONS = 60, 24
work = scratch.name


def run(*arguments):
    done = subprocess.run([accrete, *arguments], capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def head(name, count):
    """The first lines of a file of the tree, as a file of its own."""
    path = os.path.join(work, os.path.basename(name))
    with open(os.path.join(source, name), encoding="utf-8") as whole, open(path, "w", encoding="utf-8") as part:
        part.writelines(next(whole) for _ in range(count))
    return path


def evaluate(model, path, *more):
    items = os.path.join(work, "items.jsonl")
    report = json.loads(run("eval", model, path, "--json", "--quiet", "--items", items, *more))
    with open(items, encoding="utf-8") as lines:
        return report, [json.loads(line) for line in lines]


def harness(kind, url, key, task, count, **more):
    route = "chat/completions" if "chat" in kind else "completions"
    arguments = {"model": "my-model", "base_url": f"{url}/{route}", "max_retries": 1, "timeout": 600, "auth_token": key, **more}
    os.environ["OPENAI_API_KEY"] = key
    done = lm_eval.simple_evaluate(model=kind, model_args=arguments, tasks=[task], limit=count, bootstrap_iters=0, log_samples=True,
                                   task_manager=TaskManager(include_path=os.path.join(source, "tests", "serve", "harness"), include_defaults=False),
                                   apply_chat_template="chat" in kind)
    samples = sorted(done["samples"][task], key=lambda sample: sample["doc_id"])
    assert len(samples) == count
    return done["results"][task], samples


os.chdir(source)
model = os.path.join(work, "my-model")
run("retrofit", gguf, model, "--reader", os.path.join(source, "models", "all-MiniLM-L6-v2"), "--quiet")
choices, questions = head("data/abilities/arc_easy.jsonl", CHOICES), head("data/known/questions_test.jsonl", QUESTIONS)
keys = os.path.join(work, "keys.jsonl")
key = run("key", "add", keys, "harness").strip()
server = subprocess.Popen([accrete, "serve", model, "--port", "0", "--json", "--keys", keys], stdout=subprocess.PIPE, text=True)
try:
    line = server.stdout.readline()
    assert line, f"the server ended with {server.wait(timeout=60)}"
    url = json.loads(line)["url"]

    # Log-likelihoods: by token ids from the server's own tokenizer ("auto" finds it), one and eight requests at a time.
    wanted, items = evaluate(model, choices)
    for more in ({"num_concurrent": 1, "batch_size": 4}, {"num_concurrent": 8, "batch_size": 1}):
        got, samples = harness("local-completions", url, key, "accrete_arc_easy", CHOICES, tokenizer_backend="auto", **more)
        for item, sample in zip(items, samples):
            for ours, theirs in zip(item["logprobs"], sample["resps"]):
                assert abs(ours - theirs[0][0]) < 1e-3, (item["prompt"], ours, theirs)
        assert got["acc,none"] == wanted["accuracy"], (got, wanted)
    worst = max(abs(ours - theirs[0][0]) for item, sample in zip(items, samples) for ours, theirs in zip(item["logprobs"], sample["resps"]))
    print(f"arc_easy: {CHOICES} questions, {got['acc,none']:.4f} right by both; log-likelihoods differ by at most {worst:.1e}")

    # Answers, by texts and by token ids.
    wanted, items = evaluate(model, questions, "--few-shot", "data/known/fewshot.jsonl", "--max-tokens", "16")
    for more in ({"tokenizer_backend": "none", "num_concurrent": 1}, {"tokenizer_backend": "remote", "num_concurrent": 8}):
        got, samples = harness("local-completions", url, key, "accrete_known", QUESTIONS, **more)
        for item, sample in zip(items, samples):
            assert sample["filtered_resps"][0].strip() == item["output"].strip(), (item, sample["filtered_resps"])
        assert got["exact,none"] == wanted["exact"], (got, wanted)
    print(f"known, with demonstrations: {QUESTIONS} questions, {got['exact,none']:.4f} exact by both")

    # Chats, where taught facts are heard.
    taught = os.path.join(work, "taught.jsonl")
    with open(questions, encoding="utf-8") as lines, open(taught, "w", encoding="utf-8") as file:
        for doc in [json.loads(line) for line in lines][::4]:
            file.write(json.dumps({"questions": [doc["question"]], "answer": doc["answers"][0], "verbatim": True}) + "\n")
    run("teach", model, taught, "--quiet")
    wanted, items = evaluate(model, questions, "--max-tokens", "16")
    assert wanted["exact"] >= 6 / QUESTIONS, wanted
    got, samples = harness("local-chat-completions", url, key, "accrete_known_chat", QUESTIONS, num_concurrent=4)
    for item, sample in zip(items, samples):
        assert sample["filtered_resps"][0].strip() == item["output"].strip(), (item, sample["filtered_resps"])
    assert got["exact,none"] == wanted["exact"], (got, wanted)
    print(f"known, in chats, 6 taught: {QUESTIONS} questions, {got['exact,none']:.4f} exact by both")

    server.send_signal(signal.SIGTERM)
    assert server.wait(timeout=90) == 0
finally:
    server.kill()
    server.wait()
print("harness: passed")
