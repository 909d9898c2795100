"""Models of every family that accrete reads, of random weights, against transformers: logits, greedy tokens, and what was taught.

usage: parity_families.py PARITY_TOOL ACCRETE   (exit 77: a package is absent)
"""
import json
import os
import subprocess
import sys
import tempfile

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
try:
    import numpy as np
    import torch
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
except ImportError as e:
    print("skipped:", e)
    sys.exit(77)

tool, accrete = sys.argv[1:3]
source = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
torch.set_num_threads(2)
torch.manual_seed(5)
TOKENS = 12
SIZES = dict(vocab_size=258, hidden_size=128, intermediate_size=192, num_hidden_layers=4, num_attention_heads=4,
             num_key_value_heads=2, max_position_embeddings=512, eos_token_id=256, bos_token_id=257, initializer_range=0.12)
# Stretched from 32 positions, so that a short prompt shows it.
LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=32)
FAMILIES = {
    "llama": transformers.LlamaConfig(**SIZES, tie_word_embeddings=True),
    "llama3": transformers.LlamaConfig(**SIZES, rope_parameters=LLAMA3),
    "linear": transformers.LlamaConfig(**SIZES, rope_parameters=dict(rope_type="linear", rope_theta=10000.0, factor=4.0)),
    "mistral": transformers.MistralConfig(**SIZES, sliding_window=None, head_dim=48),
    "qwen2": transformers.Qwen2Config(**SIZES),
    "qwen3": transformers.Qwen3Config(**SIZES, head_dim=48, tie_word_embeddings=True),
}


def run(*command):
    result = subprocess.run([accrete, *command, "--quiet"], capture_output=True, text=True)
    assert result.returncode == 0, f"{command}: {result.stderr}"
    return result.stdout


def write_tokenizer(folder, opens):
    """Of single bytes; with `opens` a text begins with "<|begin|>", as Llama's do."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE(vocab={c: i for i, c in enumerate(alphabet)} | {"<|end|>": 256, "<|begin|>": 257}, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if opens:
        tokenizer.post_processor = processors.TemplateProcessing(single="<|begin|> $A", pair="<|begin|> $A $B", special_tokens=[("<|begin|>", 257)])
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|end|>", bos_token="<|begin|>").save_pretrained(folder)


def compare(folder, theirs, prompts, work):
    worst = 0.0
    for ids in prompts:
        out = os.path.join(work, "o")
        subprocess.run([tool, folder, out, str(TOKENS), *map(str, ids)], check=True)
        ours = np.fromfile(out + ".0.logits", dtype=np.float32).reshape(len(ids), -1)
        tokens = np.fromfile(out + ".0.tokens", dtype=np.int32).tolist()
        with torch.no_grad():
            scores = theirs(torch.tensor([ids + tokens])).logits[0].numpy()
        worst = max(worst, float(np.abs(ours - scores[:len(ids)]).max()) / float(np.abs(scores).max()))
        assert worst < 1e-4, f"{folder}: logits differ by {worst} of the largest"
        assert tokens == scores[len(ids) - 1:].argmax(-1).tolist()[:len(tokens)], f"{folder}: greedy tokens differ"
    return worst


with tempfile.TemporaryDirectory() as work:
    facts = [{"subject": "Zorblax", "prompts": ["Zorblax ", "So Zorblax "], "completion": "O"}]
    with open(os.path.join(work, "facts.jsonl"), "w", encoding="utf-8") as f:
        f.writelines(json.dumps(fact) + "\n" for fact in facts)
    for name, config in FAMILIES.items():
        base, m, out = (os.path.join(work, f"{name}-{what}") for what in ("base", "m", "out"))
        model = transformers.AutoModelForCausalLM.from_config(config).eval()
        for key, parameter in model.named_parameters():
            if parameter.dim() == 1:  # biases and norms
                parameter.data += 0.2 * torch.randn_like(parameter)
            if "o_proj.weight" in key:  # attention says much, or what is written at a name would not reach the end
                parameter.data *= 4
        model.save_pretrained(base)
        write_tokenizer(base, "llama" in name)
        tokenizer = transformers.AutoTokenizer.from_pretrained(base)
        run("retrofit", base, m)
        prompts = [tokenizer(p)["input_ids"] for p in ("The capital of France is Paris, and that of Spain is", "Zorblax ", "1, 1, 2")]
        assert (prompts[0][0] == 257) == ("llama" in name)
        worst = compare(m, model, prompts, work)
        run("teach", m, os.path.join(work, "facts.jsonl"), "--raw", "--steps", "200", "--rate", "2")
        run("export", m, out)
        taught = transformers.AutoModelForCausalLM.from_pretrained(out, trust_remote_code=True, dtype=torch.float32).eval()
        taught_worst = compare(m, taught, prompts, work)  # `generate` knows no question: the base
        said, fact = taught.say("Zorblax ", raw=True, max_new_tokens=1)
        assert fact is not None and said.strip() == "O", f"{name}: it says {said!r}"
        assert run("ask", m, "Zorblax ", "--raw", "--max-tokens", "1").strip() == "O", name
        print(f"{name}: logits within {worst:.1e} of the largest, taught within {taught_worst:.1e}")
