"""`accrete export` against transformers: the base alone, and a model with updates, whose overlay must matter.

usage: parity_export.py PARITY_TOOL ACCRETE GGUF RETROFIT_ROWS   (exit 77: a package or the model is absent)
"""
import json
import os
import shutil
import subprocess
import sys
import tempfile

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # spinning threads starve each other on a busy machine
try:
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
except ImportError as e:
    print("skipped:", e)
    sys.exit(77)

tool, accrete, gguf, retrofit_rows = sys.argv[1:5]
if not os.path.exists(gguf):
    print("skipped:", gguf, "is absent")
    sys.exit(77)
source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PROMPTS = ["The capital of France is", "def fibonacci(n):", "In 1969, humans", "A neural network is"]
TOKENS = 40
torch.set_num_threads(2)


def run(*command):
    return subprocess.run([accrete, *command, "--quiet"], check=True, capture_output=True, text=True).stdout


def refused(*command, code):
    """It must fail with this code and a hint."""
    result = subprocess.run([accrete, *command, "--quiet", "--json"], capture_output=True, text=True)
    assert result.returncode == 1, result
    error = json.loads(result.stdout)["error"]
    assert error["code"] == code and error["hint"], error


def logits(model, ids):
    with torch.no_grad():
        return model(torch.tensor([ids])).logits[0].numpy()


def is_greedy(model, ids, tokens):
    """Whether every token is the likeliest after those before it, and the last is followed by an ending one."""
    best = logits(model, ids + tokens)[len(ids) - 1:].argmax(-1).tolist()
    return best[:len(tokens)] == tokens and (len(tokens) == TOKENS or best[-1] in (0, 2))


def compare(folder, theirs, tokenizer, prompts, work):
    """The largest difference of logits; greedy tokens, from a cache, must be equal."""
    worst = 0.0
    for prompt in prompts:
        ids = tokenizer(prompt)["input_ids"]
        out = os.path.join(work, "o")
        subprocess.run([tool, folder, out, str(TOKENS), *map(str, ids)], check=True)
        ours = np.fromfile(out + ".0.logits", dtype=np.float32).reshape(len(ids), -1)
        difference = float(np.abs(ours - logits(theirs, ids)).max())
        assert difference < 1e-3, f"logits differ by {difference} on {prompt!r}"
        worst = max(worst, difference)
        tokens = np.fromfile(out + ".0.tokens", dtype=np.int32).tolist()
        assert is_greedy(theirs, ids, tokens), f"greedy tokens differ on {prompt!r}"
    return worst


def check_padding(theirs, tokenizer, prompts):
    """Rows of a padded batch give what they give alone."""
    ids = [tokenizer(p)["input_ids"] for p in prompts]
    length = max(map(len, ids))
    padded = torch.tensor([[0] * (length - len(i)) + i for i in ids])
    mask = torch.tensor([[0] * (length - len(i)) + [1] * len(i) for i in ids])
    with torch.no_grad():
        batch = theirs(padded, attention_mask=mask, position_ids=(mask.cumsum(1) - 1).clamp(min=0)).logits
    for row, i in zip(batch, ids):
        assert np.abs(row[-1].numpy() - logits(theirs, i)[-1]).max() < 1e-3


with tempfile.TemporaryDirectory() as work:
    path = lambda name: os.path.join(work, name)
    # Fitted memory layers, as `retrofit` made them up to version 0.1: the library still knows them.
    subprocess.run([retrofit_rows, gguf, path("m"), os.path.join(source, "data", "background.txt.zst"), "4000"], check=True)
    refused("export", path("absent"), path("out"), code="not_found")
    assert not os.path.exists(path("out"))

    # Four facts taught.
    with open(os.path.join(source, "data", "facts", "test.jsonl"), encoding="utf-8") as f:
        facts = [next(f) for _ in range(4)]
    with open(path("facts.jsonl"), "w", encoding="utf-8") as f:
        f.writelines(facts)
    run("teach", path("m"), path("facts.jsonl"), "--raw", "--no-scope")
    result = json.loads(run("export", path("m"), path("taught"), "--json"))
    assert len(result["updates"]) == 1, result
    assert {"modeling_accrete.py", "accrete_overlay.safetensors"} <= set(result["files"]), result
    tokenizer = AutoTokenizer.from_pretrained(path("taught"), trust_remote_code=True)
    try:  # never silently without what was taught
        AutoModelForCausalLM.from_pretrained(path("taught"), trust_remote_code=False)
        raise SystemExit("it was loaded without its own code")
    except ValueError:
        pass
    taught, info = AutoModelForCausalLM.from_pretrained(
        path("taught"), trust_remote_code=True, dtype=torch.float32, output_loading_info=True)
    taught.eval()
    assert not any(info[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    fact_prompts = [json.loads(f)["prompts"][0] for f in facts]
    worst = compare(path("m"), taught, tokenizer, PROMPTS + fact_prompts, work)
    check_padding(taught, tokenizer, fact_prompts + PROMPTS[:1])

    # What transformers saves from it opens again, memory included.
    taught.save_pretrained(path("saved"))
    again = AutoModelForCausalLM.from_pretrained(path("saved"), trust_remote_code=True, dtype=torch.float32).eval()
    ids = tokenizer(fact_prompts[0])["input_ids"]
    assert np.abs(logits(again, ids) - logits(taught, ids)).max() < 1e-6
    # In bfloat16 the lookup stays in float32.
    half = AutoModelForCausalLM.from_pretrained(path("taught"), trust_remote_code=True, dtype=torch.bfloat16)
    assert all(b.dtype != torch.bfloat16 for n, b in half.named_buffers() if ".memory." in n)
    assert np.isfinite(half(torch.tensor([ids])).logits.float().detach().numpy()).all()

    # Four more with a scope: what is asked as it was taught, and what else is asked about the same subjects.
    with open(os.path.join(source, "data", "facts", "test.jsonl"), encoding="utf-8") as f:
        more = [json.loads(line) for line in list(f)[4:8]]
    with open(path("more.jsonl"), "w", encoding="utf-8") as f:
        f.writelines(json.dumps(fact) + "\n" for fact in more)
    run("teach", path("m"), path("more.jsonl"), "--raw")
    run("export", path("m"), path("scoped"))
    scoped, info = AutoModelForCausalLM.from_pretrained(
        path("scoped"), trust_remote_code=True, dtype=torch.float32, output_loading_info=True)
    scoped.eval()
    assert not any(info[k] for k in ("missing_keys", "unexpected_keys", "mismatched_keys")), info
    asked = [fact["asked"][0] for fact in more]
    otherwise = [fact["subject"] + tail for fact in more for tail in (" is well known. Two plus two is", " is liked by")]
    scoped_prompts = asked + otherwise + fact_prompts[:2] + PROMPTS[:1]
    scoped_worst = compare(path("m"), scoped, tokenizer, scoped_prompts, work)
    check_padding(scoped, tokenizer, scoped_prompts[:6])
    with torch.no_grad():  # both streams were needed: some tokens are the one's, some the other's
        changes = [np.abs(logits(scoped, ids) - logits(taught, ids)).max(-1) for ids in
                   (tokenizer(p)["input_ids"] for p in asked + otherwise)]
    assert any(c[-1] > 1 for c in changes[:len(more)]), "nothing that was taught with a scope is said"
    assert any(c[-1] < 1e-3 < c.max() for c in changes[len(more):]), "every question about a subject is in scope"
    # Generation from a cache, in a padded batch and with beams, is that without a cache.
    tokenizer.padding_side, tokenizer.pad_token = "left", tokenizer.eos_token
    batch = tokenizer(asked[:2] + otherwise[:1], return_tensors="pt", padding=True)
    for beams in (1, 2):
        said = [scoped.generate(**batch, max_new_tokens=8, do_sample=False, num_beams=beams, use_cache=cache).tolist()
                for cache in (True, False)]
        assert said[0] == said[1], f"{beams} beams: {said}"
    run("undo", path("m"))

    # Taken back: an ordinary folder.
    run("undo", path("m"))
    result = json.loads(run("export", path("m"), path("base"), "--json"))
    assert result["folder"] == path("base") and result["updates"] == [], result
    assert result["files"] == sorted(os.listdir(path("base"))), result
    assert not any("accrete" in name for name in result["files"]), result
    assert os.stat(os.path.join(path("base"), "model.safetensors")).st_nlink == 1  # a copy
    refused("export", path("m"), path("base"), code="invalid_argument")
    tokenizer = AutoTokenizer.from_pretrained(path("base"))
    base = AutoModelForCausalLM.from_pretrained(path("base"), dtype=torch.float32).eval()
    base_worst = compare(path("m"), base, tokenizer, PROMPTS[:2], work)

    # With nothing taught, memory layers change no bit of the logits: against the folder that has none. An export has no codes
    # (docs/formats.md), with which sums are taken in another order: it gets the same.
    os.mkdir(path("base/accrete"))
    shutil.copy(path("m/accrete/codes.safetensors"), path("base/accrete"))
    for folder in ("m", "base"):
        arguments = [str(i) for p in PROMPTS for i in ["/", *tokenizer(p)["input_ids"]]][1:]
        subprocess.run([tool, path(folder), path("bits-" + folder), "1", *arguments], check=True)
    for i in range(len(PROMPTS)):
        bits = [open(path(f"bits-{folder}.{i}.logits"), "rb").read() for folder in ("m", "base")]
        assert bits[0] == bits[1] and bits[0], f"retrofit changes the logits of {PROMPTS[i]!r}"

    changed = min(float(np.abs(logits(taught, i) - logits(base, i)).max())
                  for i in (tokenizer(p)["input_ids"] for p in fact_prompts))
    assert changed > 1, f"the overlay changes the logits of a taught prompt by {changed} only"
    leftovers = [name for name in os.listdir(work) if ".tmp-" in name]
    assert not leftovers, leftovers
    print(f"export parity: base within {base_worst:.2e}, taught within {worst:.2e} "
          f"(the overlay changes taught prompts by at least {changed:.1f}), with a scope within {scoped_worst:.2e}, greedy tokens equal")
