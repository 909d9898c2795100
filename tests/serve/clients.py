"""The server with real clients on a real model: the openai package, teaching while answering, undo, the end.

usage: clients.py ACCRETE SOURCE_DIR   (exit 77: the model or the openai package is absent)
"""
import concurrent.futures
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

accrete, source = (os.path.abspath(p) for p in sys.argv[1:3])
gguf = os.path.join(source, "models", "SmolLM2-135M-Instruct.Q4_1.gguf")
try:
    import openai
except ImportError:
    print("skipped: the openai package is absent (scripts/setup.sh tests)")
    sys.exit(77)
if not os.path.exists(gguf):
    print("skipped: the model is absent (make setup fetches it)")
    sys.exit(77)

QUESTIONS = ["What is the capital of France?", "Name a fruit.", "Write one sentence about the sea.", "How many legs has a spider?"]
WEIGHT = "How much does the Pellor 300 weigh?"
FACTS = [{"questions": ["How heavy is the Pellor 300?", "What does the Pellor 300 weigh?", "Tell me the weight of the Pellor 300."], "answer": "2.4 kg"},
         {"questions": ["What does the Pellor 300 cost?", "How much is the Pellor 300?", "Price of the Pellor 300?"], "answer": "249 euros"}]


def run(*arguments):
    done = subprocess.run([accrete, *arguments], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def start(*arguments):
    """A server on a free port, and its address."""
    process = subprocess.Popen([accrete, "serve", *arguments, "--port", "0", "--json", "--grace", "20"], stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    assert line, f"the server ended with {process.wait(timeout=60)}"
    return process, json.loads(line)["url"]


def get(url, path, key="none", method="GET", body=None, timeout=600):
    request = urllib.request.Request(url.removesuffix("/v1") + path, method=method, data=body, headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(request, timeout=timeout) as response:
        text = response.read().decode()
    return json.loads(text) if text.startswith(("{", "[")) else text


def expect(kind, action):
    try:
        action()
    except kind as error:
        return error
    raise AssertionError(f"{kind.__name__} was expected")


with tempfile.TemporaryDirectory() as work:
    model = os.path.join(work, "my-model")
    run("retrofit", gguf, model, "--reader", os.path.join(source, "models", "all-MiniLM-L6-v2"), "--quiet")
    asked = {q: json.loads(run("ask", model, q, "--json", "--quiet", "--max-tokens", "24"))["text"] for q in QUESTIONS}
    server, url = start(model)
    try:
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=300)
        assert [m.id for m in client.models.list().data] == ["my-model"]

        def ask(question, tokens=24, **more):
            done = client.chat.completions.create(model="my-model", messages=[{"role": "user", "content": question}], max_tokens=tokens, temperature=0, **more)
            return done.choices[0].message.content

        # Answers are the command line's, alone and many at a time, whole and in pieces.
        for question, text in asked.items():
            assert ask(question) == text, (question, ask(question), text)
        with concurrent.futures.ThreadPoolExecutor(64) as pool:
            for question, text in zip(QUESTIONS * 16, pool.map(ask, QUESTIONS * 16)):
                assert text == asked[question], (question, text, asked[question])
        pieces, usage = [], None
        for chunk in client.chat.completions.create(model="my-model", messages=[{"role": "user", "content": QUESTIONS[2]}], max_tokens=24, temperature=0,
                                                    stream=True, stream_options={"include_usage": True}):
            usage = chunk.usage or usage
            pieces += [c.delta.content or "" for c in chunk.choices]
        assert "".join(pieces) == asked[QUESTIONS[2]] and usage.completion_tokens > 0 and len(pieces) > 3

        # Completions, seeds, several choices, stop strings, log-probabilities.
        raw = client.completions.create(model="my-model", prompt="The capital of France is", max_tokens=5, temperature=0, logprobs=2)
        assert raw.choices[0].text == json.loads(run("ask", model, "The capital of France is", "--raw", "--json", "--quiet", "--max-tokens", "5"))["text"]
        assert len(raw.choices[0].logprobs.token_logprobs) == 5 and all(len(t) == 2 for t in raw.choices[0].logprobs.top_logprobs)
        twice = [[c.message.content for c in client.chat.completions.create(model="my-model", messages=[{"role": "user", "content": "Tell me a story."}],
                                                                            max_tokens=12, temperature=1, seed=5, n=3).choices] for _ in range(2)]
        assert twice[0] == twice[1] and len(set(twice[0])) > 1, twice
        stopped = client.chat.completions.create(model="my-model", messages=[{"role": "user", "content": QUESTIONS[0]}], max_tokens=24, temperature=0, stop=[" "])
        assert stopped.choices[0].finish_reason == "stop" and " " not in stopped.choices[0].message.content
        scores = client.chat.completions.create(model="my-model", messages=[{"role": "user", "content": QUESTIONS[0]}], max_tokens=3, temperature=0, logprobs=True, top_logprobs=3)
        assert all(len(t.top_logprobs) == 3 and t.logprob == t.top_logprobs[0].logprob for t in scores.choices[0].logprobs.content)

        # lm-evaluation-harness: tokens, their scores, the greedy flag.
        ids = get(url, "/tokenize", method="POST", body=json.dumps({"prompt": "Question: is water wet? Answer: yes", "add_special_tokens": False}).encode())["tokens"]
        scored = client.completions.create(model="my-model", prompt=[ids, ids[:5]], max_tokens=1, logprobs=1, echo=True, temperature=0, seed=1234)
        for choice, tokens in zip(scored.choices, (ids, ids[:5])):
            logprobs = choice.logprobs
            assert len(logprobs.tokens) == len(logprobs.token_logprobs) == len(tokens) + 1 and logprobs.token_logprobs[0] is None
            assert logprobs.token_logprobs[-1] == max(logprobs.top_logprobs[-1].values())  # the very same number
        assert scored.choices[0].logprobs.token_logprobs[1:5] == scored.choices[1].logprobs.token_logprobs[1:5]
        vectors = client.embeddings.create(model="my-model", input=["How heavy is it?", "What does it weigh?", "Who wrote Hamlet?"]).data
        near, far = (sum(a * b for a, b in zip(vectors[0].embedding, vectors[i].embedding)) for i in (1, 2))
        assert near > far and len(vectors[0].embedding) == 384

        # Errors are the package's own.
        expect(openai.NotFoundError, lambda: client.chat.completions.create(model="gpt-4", messages=[{"role": "user", "content": "a"}]))
        error = expect(openai.BadRequestError, lambda: client.chat.completions.create(model="my-model", messages=[{"role": "user", "content": "a"}], top_p=7))
        assert error.param == "top_p" and error.code == "invalid_value", error
        error = expect(openai.BadRequestError, lambda: client.completions.create(model="my-model", prompt="a " * 9000))
        assert error.code == "context_length_exceeded", error

        # A stream that is given up leaves the engine at once.
        stream = client.completions.create(model="my-model", prompt="Once upon a time", max_tokens=4000, stream=True)
        next(iter(stream))
        stream.close()
        for _ in range(100):
            if "accrete_rows_running 0" in get(url, "/metrics"):
                break
            time.sleep(0.05)
        else:
            raise AssertionError("the row of a client that left is still there")

        # Taught while it answers: no request fails, each answer is wholly the old one or wholly the new one.
        before = ask(WEIGHT)
        assert "2.4" not in before, before
        failures, texts, first, ends = [], set(), [], threading.Event()

        def keep_asking():
            while not ends.is_set():
                began = time.monotonic()
                try:
                    stream = client.chat.completions.create(model="my-model", messages=[{"role": "user", "content": WEIGHT}], max_tokens=24, temperature=0, stream=True)
                    text, heard = "", None
                    for chunk in stream:
                        if chunk.choices and chunk.choices[0].delta.content:
                            heard = heard or time.monotonic() - began
                            text += chunk.choices[0].delta.content
                    texts.add(text)
                    first.append(heard)
                except Exception as problem:
                    failures.append(problem)

        askers = [threading.Thread(target=keep_asking) for _ in range(4)]
        for thread in askers:
            thread.start()
        lines = "\n".join(json.dumps(f) for f in FACTS).encode()
        job = get(url, "/v1/memory/facts", method="POST", body=lines)
        assert job["state"] in ("queued", "running"), job
        with urllib.request.urlopen(url + f"/memory/jobs/{job['job']}/events", timeout=900) as events:
            seen = [line.split(": ", 1)[1].strip() for line in events.read().decode().splitlines() if line.startswith("event: ")]
        assert seen[-1] == "committed" and "progress" in seen and "learned" in seen, seen
        after = ask(WEIGHT)  # without a restart
        assert after == "2.4 kg", after
        ends.set()
        for thread in askers:
            thread.join(timeout=600)
        assert not failures, failures[:3]
        assert texts <= {before, after}, texts
        first.sort()
        print(f"while teaching: {len(first)} requests, 0 failed; first token {first[len(first) // 2]:.2f} s in the middle, {first[int(len(first) * 0.99)]:.2f} s at 99 %")

        # Why, by which update and line.
        why = client.chat.completions.create(model="my-model", messages=[{"role": "user", "content": WEIGHT}], max_tokens=24, extra_body={"accrete": {"explain": True}})
        told = why.model_extra["accrete"]
        updates = get(url, "/v1/memory/updates")["data"]
        assert told["decision"] == "fact" and told["updates"][0]["id"] == updates[0]["id"] and told["updates"][0]["line"] == 1, told
        assert ask(QUESTIONS[0]) == asked[QUESTIONS[0]]  # what was not taught is the base's
        assert ask(WEIGHT, extra_body={"accrete": {"facts": False}}) == before
        assert get(url, f"/v1/memory/updates/{updates[0]['id']}")["taught"][0]["answers"] == ["2.4 kg"]
        assert json.loads(run("ask", model, WEIGHT, "--json", "--quiet"))["text"] == after

        # A plan changes nothing; undo, redo and one update by its id.
        plan = get(url, "/v1/memory/plan", method="POST", body=json.dumps({"items": [{"questions": FACTS[1]["questions"][:2], "answer": "199 euros"}]}).encode(), timeout=900)
        assert plan["state"] == "done" and plan["report"]["conflicts"][0]["answer"] == "199 euros", plan
        assert get(url, "/v1/memory/undo", method="POST", body=b"")["undone"] == [updates[0]["id"]]
        assert ask(WEIGHT) == before
        get(url, "/v1/memory/redo", method="POST", body=b"")
        assert ask(WEIGHT) == after
        get(url, f"/v1/memory/updates/{updates[0]['id']}/undo", method="POST", body=b"")
        assert ask(WEIGHT) == before
        # What is done on the command line is served too.
        run("revert", model, updates[0]["id"], "--again")
        for _ in range(100):
            if ask(WEIGHT) == after:
                break
            time.sleep(0.1)
        assert ask(WEIGHT) == after
        # A set that would be refused is refused before anything is queued.
        error = expect(urllib.error.HTTPError, lambda: get(url, "/v1/memory/facts", method="POST", body=b'{"question": "a", "answer": "b"}\n{"question": "c"}'))
        assert error.code == 400 and ":2" in json.loads(error.read())["error"]["message"]

        # The end: what is being answered is finished, and nothing new is begun.
        stream = client.completions.create(model="my-model", prompt="Once upon a time", max_tokens=60, stream=True, temperature=0)
        got = [next(iter(stream))]
        server.send_signal(signal.SIGTERM)
        got += list(stream)
        assert got[-1].choices[0].finish_reason in ("stop", "length"), got[-1]
        assert server.wait(timeout=90) == 0
    finally:
        server.kill()
        server.wait()

    # What is malformed has its status, and the server goes on.
    malformed = subprocess.run([sys.executable, "-B", os.path.join(source, "bench", "serve_malformed.py"), accrete, model, "--requests", "1000"], capture_output=True, text=True, timeout=600)
    assert malformed.returncode == 0, malformed.stdout + malformed.stderr

    # A correction that is said in a conversation is taught when somebody confirms it; facts from elsewhere are taken over.
    server, url = start(model, "--proposals", os.path.join(work, "proposals.jsonl"))
    try:
        client = openai.OpenAI(base_url=url, api_key="none", max_retries=0, timeout=300)
        price = FACTS[1]["questions"][0]
        say = lambda *messages: client.chat.completions.create(
            model="my-model", max_tokens=24, temperature=0,
            messages=[{"role": ("user", "assistant")[i % 2], "content": m} for i, m in enumerate(messages)]).choices[0].message.content
        assert say(price) == "249 euros"
        say(price, "249 euros", "Actually it costs 199 euros now.")
        proposed = get(url, "/v1/memory/proposals")["data"]
        assert [(p["old_answer"], p["answer"], p["state"]) for p in proposed] == [("249 euros", "199 euros", "open")], proposed
        assert say(price) == "249 euros"  # nothing is taught by itself
        done = get(url, f"/v1/memory/proposals/{proposed[0]['id']}?wait=300", method="POST", body=b'{"action": "confirm"}')
        assert done["state"] == "committed" and done["report"]["conflicts"][0]["answer"] == "199 euros", done
        assert get(url, f"/v1/memory/proposals/{proposed[0]['id']}")["state"] == "taught"
        assert say(price) == "199 euros" and say(WEIGHT) == "2.4 kg"

        # The facts of an overlay of another folder, which was made of the same model.
        other = os.path.join(work, "other")
        run("retrofit", gguf, other, "--reader", os.path.join(source, "models", "all-MiniLM-L6-v2"), "--quiet")
        run("overlay", "create", other, "desk")
        lines = [{"question": price, "answer": "155 euros", "verbatim": True},
                 {"question": "What is the code of the shed?", "answer": "Four five.", "verbatim": True}]
        path = os.path.join(work, "desk.jsonl")
        for count in (1, 2):  # the shed alone, then both
            with open(path, "w") as f:
                f.writelines(json.dumps(line) + "\n" for line in lines[2 - count:])
            run("teach", other, path, "--overlay", "desk", "--quiet")
            run("overlay", "export", other, "desk", os.path.join(work, f"facts{count}.safetensors"))
        shed, both = (open(os.path.join(work, f"facts{count}.safetensors"), "rb").read() for count in (1, 2))
        merged = get(url, "/v1/memory/merge", method="POST", body=shed)
        assert merged["taken"] == 1 and not merged["conflicts"], merged
        assert say("What is the code of the shed?") == "Four five."
        error = expect(urllib.error.HTTPError, lambda: get(url, "/v1/memory/merge", method="POST", body=both))
        text = json.loads(error.read())["error"]["message"]
        assert error.code == 409 and price in text and "155 euros" in text and "199 euros" in text, text
        assert say(price) == "199 euros"
        assert get(url, "/v1/memory/merge?on_conflict=ours", method="POST", body=both)["kept"] == 1 and say(price) == "199 euros"
        assert get(url, "/v1/memory/merge?on_conflict=theirs", method="POST", body=both)["replaced"] == 1 and say(price) == "155 euros"
        get(url, "/v1/memory/undo", method="POST", body=b"")
        assert say(price) == "199 euros"
        # What is misspelt or out of range is named.
        for body, part in (({"message": [{"role": "user", "content": "a"}]}, "messages"), ({"messages": [{"role": "user", "content": "a"}], "temperature": 9}, "temperature")):
            error = expect(urllib.error.HTTPError, lambda: get(url, "/v1/chat/completions", method="POST", body=json.dumps(body).encode()))
            told = json.loads(error.read())["error"]
            assert error.code == 400 and told["param"] == part and (part != "messages" or '"message" was given' in told["hint"]), told
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=90) == 0
    finally:
        server.kill()
        server.wait()

    # Keys.
    keys = os.path.join(work, "keys.jsonl")
    key = run("key", "add", keys, "desk").strip()
    assert subprocess.run([accrete, "serve", model, "--host", "0.0.0.0", "--port", "0"], capture_output=True, timeout=60).returncode == 1
    server, url = start(model, "--keys", keys)
    try:
        expect(openai.AuthenticationError, lambda: openai.OpenAI(base_url=url, api_key="wrong", max_retries=0).models.list())
        assert openai.OpenAI(base_url=url, api_key=key, max_retries=0).models.list().data[0].id == "my-model"
        assert expect(urllib.error.HTTPError, lambda: get(url, "/v1/memory/undo", key=key, method="POST", body=b"")).code == 403
        run("key", "revoke", keys, "desk")
        expect(openai.AuthenticationError, lambda: openai.OpenAI(base_url=url, api_key=key, max_retries=0).models.list())
        server.send_signal(signal.SIGTERM)
        assert server.wait(timeout=90) == 0
    finally:
        server.kill()
        server.wait()
print("clients: passed")
