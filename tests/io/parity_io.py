"""Checks the io layer side by side with the Python packages that define its formats.

    parity_io.py PARITY_TOOL

Files of every kind are written by Python and read by us, and the other way round:
  * every GGUF type dequantised, bit for bit as the `gguf` package does it;
  * the tokenizer of each family that a GGUF vocabulary may name, token by token;
  * safetensors of every type, mixed and empty shapes and metadata, through both readers;
  * a GGUF model converted to a folder: opens with transformers and has the weights, configuration and
    tokens of transformers' own import. The model is $ACCRETE_TEST_GGUF or
    models/SmolLM2-135M-Instruct.Q4_1.gguf of the checkout; without one that part is skipped.

Exit status: 0 all passed, 1 something differs, 77 passed but a part was skipped, or a package is absent.
"""

import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile

os.environ["TQDM_DISABLE"] = "1"
os.environ["HF_HUB_OFFLINE"] = "1"

try:
    import gguf
    import numpy as np
    import safetensors  # noqa: F401
    import tokenizers
    import torch  # noqa: F401
    import transformers  # noqa: F401
    from gguf import GGMLQuantizationType as T
except ImportError as e:
    print("skipped:", e)
    sys.exit(77)

DEFAULT_MODEL = "models/SmolLM2-135M-Instruct.Q4_1.gguf"
QUANTIZABLE = [T.F16, T.BF16, T.Q8_0, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1]
TYPES = [T.F32] + QUANTIZABLE + [T.Q4_K, T.Q5_K, T.Q6_K]
tool = sys.argv[1] if len(sys.argv) > 1 else None


def run_tool(*arguments):
    subprocess.run([tool, *map(str, arguments)], check=True)


def check(condition, what):
    if not condition:
        print(f"FAILED: {what}", flush=True)
        sys.exit(1)


def passed(what):
    print(f"passed: {what}", flush=True)


# --- GGUF types ---------------------------------------------------------------------------------


def half_at(blocks, offset, values):
    blocks[:, offset : offset + 2] = values.astype(np.float16).reshape(-1, 1).view(np.uint8)


def block_bytes(kind, rows, columns, rng, tame):
    """Random blocks. Tame ones have finite scales; of the others any bit pattern."""
    block_size, type_size = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (rows * columns // block_size, type_size), dtype=np.uint8)
    if tame:
        scale = lambda: rng.standard_normal(len(blocks)) * 0.05
        for offset in {T.Q4_1: [0, 2], T.Q5_1: [0, 2], T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208]}.get(kind, [0]):
            half_at(blocks, offset, scale())
    return blocks.reshape(rows, -1)


def gguf_cases(rng):
    """(name, type, raw bytes as the writer wants them, expected float32)"""
    rows, columns = 24, 512
    for kind in TYPES:
        name = kind.name
        if kind == T.F32:
            values = rng.standard_normal((rows, columns)).astype(np.float32)
            yield f"{name}.values", kind, values, values
            continue
        if kind == T.F16:
            every = np.arange(65536, dtype=np.uint16).view(np.float16).reshape(128, 512)
            yield f"{name}.every", kind, every, every.astype(np.float32)
        elif kind == T.BF16:
            every = np.arange(65536, dtype=np.uint16).reshape(128, 512)
            raw = every.view(np.uint8)
            yield f"{name}.every", kind, raw, gguf.quants.dequantize(raw, kind)
        else:
            for tame in (True, False):
                raw = block_bytes(kind, rows, columns, rng, tame)
                yield f"{name}.{'tame' if tame else 'wild'}", kind, raw, gguf.quants.dequantize(raw, kind)
        if kind in QUANTIZABLE:
            values = (rng.standard_normal((rows, columns)) * 0.1).astype(np.float32)
            raw = gguf.quants.quantize(values, kind)
            yield f"{name}.quantized", kind, raw, gguf.quants.dequantize(raw, kind)


def same_bits(ours, theirs):
    """Equal bits, but any NaN equals any other: which payload comes out of an operation is the
    processor's choice."""
    nan = np.isnan(theirs)
    return (
        ours.dtype == theirs.dtype == np.float32
        and ours.shape == theirs.shape
        and bool((np.isnan(ours) == nan).all())
        and bool((ours.view(np.uint32)[~nan] == theirs.view(np.uint32)[~nan]).all())
    )


def check_dequantization(folder):
    import safetensors.numpy

    rng = np.random.default_rng(1)
    source, result = folder / "types.gguf", folder / "types.safetensors"
    writer = gguf.GGUFWriter(source, "llama")
    expected = {}
    with np.errstate(all="ignore"):
        for name, kind, raw, values in gguf_cases(rng):
            writer.add_tensor(name, raw, raw_dtype=kind)
            expected[name] = np.ascontiguousarray(values, dtype=np.float32)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    run_tool("dequantize", source, result)
    ours = safetensors.numpy.load_file(result)
    check(ours.keys() == expected.keys(), "the tensors' names")
    for name, values in expected.items():
        check(same_bits(ours[name], values), f"dequantisation of {name}")
    passed(f"{len(expected)} tensors of {len(TYPES)} GGUF types, bit for bit")


# --- safetensors --------------------------------------------------------------------------------


def check_safetensors(folder):
    import torch
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    kinds = [torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32,
             torch.int16, torch.int8, torch.uint8, torch.bool]
    shapes = [(), (1,), (3,), (0,), (2, 0, 3), (5, 7), (2, 3, 4, 5)]
    torch.manual_seed(1)
    tensors = {}
    for kind in kinds:
        for shape in shapes:
            values = torch.randn(shape) * 50
            tensors[f"{kind} {list(shape)} é \"quoted\"\n"] = (values > 0) if kind == torch.bool else values.to(kind)
    metadata = {"format": "pt", "ключ": "значение\n", "empty": ""}
    python, ours = folder / "python.safetensors", folder / "ours.safetensors"
    save_file(tensors, python, metadata)
    run_tool("rewrite", python, ours)
    again = load_file(ours)
    check(again.keys() == tensors.keys(), "the tensors' names after the round trip")
    for name, values in tensors.items():
        check(again[name].dtype == values.dtype and again[name].shape == values.shape, f"type and shape of {name}")
        check(torch.equal(again[name], values), f"values of {name}")
    with safe_open(ours, "pt") as file:
        check(file.metadata() == metadata, "the metadata after the round trip")
    passed(f"{len(tensors)} safetensors of {len(kinds)} types, through both readers")


# --- a whole model ------------------------------------------------------------------------------

TEXTS = [
    "", " ", "Hello, world!", "  two  spaces", "tabs\tand\nnew\r\nlines\n\n\n", "trailing   ",
    "I'm you're they'll we'd it's I've CAN'T", "2024", "in 1999 and 3.14159", "x1y22z333", "١٢٣ ½ ²",
    "Ünïcödé façade naïve", "日本語のテキスト", "Привет, мир", "مرحبا بالعالم", "🙂👩‍👩‍👧 emoji 🇫🇷",
    "<|im_start|>user\nHi<|im_end|>\n", "<|endoftext|>", "a<|im_end|>b <repo_name>", "<|im_start", "def f(x):\n    return x ** 2\n",
    "https://example.org/a?b=c&d=1#e", "\u00a0nbsp\u2003em\u200bzero", "e\u0301 é", "\x00\x01\x7f", "a" * 300,
]


def random_texts(count):
    """Mixtures of letters, digits, blanks, punctuation and other scripts, the same in every run."""
    source = random.Random(7)
    alphabet = "abcdeTHE 0123456789  \n\t.,;:!?'\"-_/\\()[]éßñжλ漢字ひ🙂\u00a0\u0301"
    return ["".join(source.choice(alphabet) for _ in range(source.randrange(1, 60))) for _ in range(count)]


# As in the models' own tokenizer.json files.
LLAMA3_SPLIT = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
                r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2_SPLIT = LLAMA3_SPLIT.replace(r"\p{N}{1,3}", r"\p{N}")


def reference_tokenizers():
    """(tokenizer.ggml.pre, an untrained tokenizer of that family, whether it puts bos first)"""
    pre = tokenizers.pre_tokenizers

    def bpe(pre_tokenizer, **options):
        tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(**options))
        tokenizer.pre_tokenizer = pre_tokenizer
        tokenizer.decoder = tokenizers.decoders.ByteLevel()
        return tokenizer

    def split(pattern):
        return pre.Sequence([pre.Split(tokenizers.Regex(pattern), "isolated"),
                             pre.ByteLevel(add_prefix_space=False, use_regex=False)])

    words = pre.ByteLevel(add_prefix_space=False, use_regex=True)
    yield "gpt-2", bpe(words), False
    yield "smollm", bpe(pre.Sequence([pre.Digits(individual_digits=True), words])), False
    yield "llama-bpe", bpe(split(LLAMA3_SPLIT), ignore_merges=True), True
    qwen2 = bpe(split(QWEN2_SPLIT))
    qwen2.normalizer = tokenizers.normalizers.NFC()
    yield "qwen2", qwen2, False


def check_tokenizer_families(folder):
    alphabet = tokenizers.pre_tokenizers.ByteLevel.alphabet()
    texts = TEXTS + random_texts(1500)
    for pre, reference, bos in reference_tokenizers():
        trainer = tokenizers.trainers.BpeTrainer(vocab_size=1500, special_tokens=["<|im_start|>", "<|im_end|>"],
                                                 initial_alphabet=sorted(alphabet), show_progress=False)
        reference.train_from_iterator(TEXTS * 3 + random_texts(3000) + [__doc__] * 5, trainer)
        if bos:
            reference.post_processor = tokenizers.processors.TemplateProcessing(
                single="<|im_start|> $A", pair="<|im_start|> $A <|im_start|>:1 $B:1", special_tokens=[("<|im_start|>", 0)])
        model = json.loads(reference.to_str())["model"]
        tokens = sorted(model["vocab"], key=model["vocab"].get)
        merges = [" ".join(merge) for merge in model["merges"]]
        source, result = folder / f"{pre}.gguf", folder / f"{pre}.json"
        writer = gguf.GGUFWriter(source, "llama")
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre(pre)
        writer.add_token_list(tokens)
        writer.add_token_types([3, 3] + [1] * (len(tokens) - 2))
        writer.add_token_merges(merges)
        writer.add_bos_token_id(0)
        writer.add_eos_token_id(1)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.close()
        run_tool("tokenizer", source, result)
        ours = tokenizers.Tokenizer.from_file(str(result))
        for text in texts:
            ids = ours.encode(text).ids
            check(ids == reference.encode(text).ids, f"{pre}: tokens of {text!r}")
            check(ours.decode(ids) == reference.decode(ids), f"{pre}: text of the tokens of {text!r}")
        check(ours.encode("a", "b 1").ids == reference.encode("a", "b 1").ids, f"{pre}: tokens of a pair")
        passed(f"tokens of {len(texts)} texts with the {pre} split")


def check_tokens(ours, theirs, what):
    """theirs splits as transformers' GGUF import does: without regard to digits."""
    reference = tokenizers.Tokenizer.from_str(theirs.backend_tokenizer.to_str())
    pre = tokenizers.pre_tokenizers
    reference.pre_tokenizer = pre.Sequence(
        [pre.Digits(individual_digits=True), pre.ByteLevel(add_prefix_space=False, use_regex=True)])
    texts = TEXTS + random_texts(3000)
    for text in texts:
        ids = ours(text, add_special_tokens=True)["input_ids"]
        check(ids == reference.encode(text).ids, f"{what}: tokens of {text!r}")
        check(ours.decode(ids) == theirs.decode(ids), f"{what}: text of the tokens of {text!r}")
        # Blanks before a digit are split off it by the model's own tokenizer, which the import in
        # transformers does not know.
        if not any(a.isspace() and b.isnumeric() for a, b in zip(text, text[1:])):
            check(ids == theirs(text)["input_ids"], f"{what}: tokens of {text!r} by transformers' import")
    return len(texts)


def check_model(folder):
    path = os.environ.get("ACCRETE_TEST_GGUF")
    if not path:
        path = os.path.join(os.environ.get("ACCRETE_SOURCE_DIR", "."), DEFAULT_MODEL)
    path = pathlib.Path(path)
    if not path.is_file():
        print(f"skipped: the conversion of a model: {path} is not there; set ACCRETE_TEST_GGUF", flush=True)
        return False

    import torch
    import transformers

    transformers.logging.set_verbosity_error()
    out = folder / "converted"
    run_tool("convert", path, out)
    ours = transformers.AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32)
    state = ours.state_dict()
    our_config = ours.config
    prompt = torch.tensor([[1, 520, 9531, 198, 504, 3575, 282, 4649, 314]])
    with torch.no_grad():
        our_logits = ours(prompt).logits
    theirs = transformers.AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32)
    expected = theirs.state_dict()
    check(state.keys() == expected.keys(), "the names of the weights")
    for name, values in expected.items():
        check(values.dtype == torch.float32 and torch.equal(state[name], values), f"weights {name}")
    with torch.no_grad():
        check(torch.equal(theirs(prompt).logits, our_logits), "logits")
    for key in ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
                "head_dim", "max_position_embeddings", "vocab_size", "bos_token_id", "eos_token_id",
                "tie_word_embeddings", "hidden_act", "attention_bias", "mlp_bias"):
        check(getattr(our_config, key) == getattr(theirs.config, key),
              f"config {key}: {getattr(our_config, key)} and {getattr(theirs.config, key)}")
    check(np.float32(our_config.rms_norm_eps) == np.float32(theirs.config.rms_norm_eps), "config rms_norm_eps")
    check(our_config.rope_parameters == theirs.config.rope_parameters, "config rope_parameters")
    passed(f"{len(expected)} weights, configuration and logits of {path.name} as transformers imports them")

    our_tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    count = check_tokens(our_tokenizer, their_tokenizer, "AutoTokenizer")
    plain = tokenizers.Tokenizer.from_file(str(out / "tokenizer.json"))
    for text in TEXTS:
        check(plain.encode(text).ids == our_tokenizer(text)["input_ids"], f"tokenizer.json alone: {text!r}")
    for role in ("bos_token", "eos_token", "pad_token", "unk_token"):
        check(getattr(our_tokenizer, role) == getattr(their_tokenizer, role), role)
    messages = [{"role": "user", "content": "Who are you?"}, {"role": "assistant", "content": "A model."},
                {"role": "user", "content": "Since 2024?"}]
    render = lambda t: t.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    check(render(our_tokenizer) == render(their_tokenizer), "the chat template")
    check(json.loads((out / "config.json").read_text())["model_type"] == "llama", "config.json")
    passed(f"tokens of {count} texts and the chat template of {path.name}")
    return True


def main():
    if tool is None:
        sys.exit(__doc__)
    with tempfile.TemporaryDirectory(prefix="accrete-parity-") as name:
        folder = pathlib.Path(name)
        check_dequantization(folder)
        check_safetensors(folder)
        check_tokenizer_families(folder)
        complete = check_model(folder)
    sys.exit(0 if complete else 77)


if __name__ == "__main__":
    main()
