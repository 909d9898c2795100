"""Our forward pass against transformers: logits within 1e-3, and 200 greedy tokens equal on 20 prompts.

usage: parity_model.py PARITY_TOOL ACCRETE GGUF   (exit 77: a package or the model is absent)
"""
import os
import subprocess
import sys
import tempfile

try:
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
except ImportError as e:
    print("skipped:", e)
    sys.exit(77)

tool, accrete, gguf = sys.argv[1:4]
if not os.path.exists(gguf):
    print("skipped:", gguf, "is absent")
    sys.exit(77)
PROMPTS = [
    "The capital of France is", "Once upon a time,", "def fibonacci(n):", "The three laws of motion are",
    "Water boils at", "My favourite recipe for bread:", "In 1969, humans", "The opposite of hot is",
    "Dear Sir or Madam,", "1, 1, 2, 3, 5, 8,", "The mitochondria is", "To be, or not to be,",
    "SELECT name FROM", "Breaking news:", "A neural network is", "The president of the United States",
    "Q: What is gravity?\nA:", "Les enfants jouent", "import numpy as np\n", "The weather today is",
]
TOKENS = 200
ENDING = (0, 2)
with tempfile.TemporaryDirectory() as work:
    model_dir = os.path.join(work, "m")
    subprocess.run([accrete, "retrofit", gguf, model_dir, "--quiet"], check=True, stdout=subprocess.DEVNULL)
    torch.set_num_threads(2)
    tok = AutoTokenizer.from_pretrained(model_dir)
    ref = AutoModelForCausalLM.from_pretrained(model_dir, dtype=torch.float32).eval()
    worst = 0.0
    prompts = [tok(prompt)["input_ids"] for prompt in PROMPTS]
    # All in one batch, whose rows end at their own times.
    arguments = [str(a) for ids in prompts for a in ("/", *ids)][1:]
    subprocess.run([tool, model_dir, os.path.join(work, "o"), str(TOKENS), *arguments], check=True)
    for i, (prompt, ids) in enumerate(zip(PROMPTS, prompts)):
        out = os.path.join(work, f"o.{i}")
        ours = np.fromfile(out + ".logits", dtype=np.float32).reshape(len(ids), -1)
        tokens = np.fromfile(out + ".tokens", dtype=np.int32).tolist()
        with torch.no_grad():
            # One pass over prompt and answer: by induction, the answer is the greedy one exactly if every token of
            # it is the likeliest after those before it, and it ends where an ending token is.
            scores = ref(torch.tensor([ids + tokens])).logits[0].numpy()
        want = scores[:len(ids)]
        greedy = scores[len(ids) - 1:].argmax(-1).tolist()
        assert len(tokens) == TOKENS or greedy[-1] in ENDING, f"it ends early on {prompt!r}"
        greedy = greedy[:len(tokens)]
        assert not set(tokens) & set(ENDING)
        worst = max(worst, float(np.abs(ours - want).max()))
        assert worst < 1e-3, f"logits differ by {worst} on {prompt!r}"
        assert tokens == greedy, f"greedy tokens differ on {prompt!r}: {tokens[:20]} {greedy[:20]}"
    print(f"model parity: {len(PROMPTS)} prompts, logits within {worst:.2e}, greedy tokens equal")
