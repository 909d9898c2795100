"""Writes the tables of docs/speed.md and docs/pretrain.md from bench/results/*.json; nothing there is typed by hand.

usage: speed_tables.py [--check]     --check: exit 1 if a table is not what the results give
"""
import json
import os
import sys

import generated

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DOCUMENTS = ("docs/speed.md", "docs/pretrain.md")


def load(name):
    path = os.path.join(ROOT, "bench", "results", name)
    if not os.path.exists(path):
        return None
    with open(path, encoding="utf-8") as f:
        return [json.loads(line) for line in f] if name.endswith(".jsonl") else json.load(f)


def rows(head, lines):
    return "\n".join(["| " + " | ".join(line) + " |" for line in [head, ["---"] * len(head), *lines]])


def teach(r):
    v, n = r["value_vectors"], r["neighbours"]
    return rows([f"{r['facts']} facts, {r['threads']} threads", "before", "now", "ratio"], [
        [f"value vectors, {v['steps']} steps", f"{v['whole_passes_seconds']:.1f} s", f"{v['kept_prefixes_seconds']:.1f} s", f"{v['ratio']:.2f}"],
        ["tokens passed for them", str(v["whole_passes_tokens"]), str(v["kept_prefixes_tokens"]), f"{v['whole_passes_tokens'] / v['kept_prefixes_tokens']:.2f}"],
        *([[f"value vectors of {r['few_facts']['facts']} facts, {r['few_facts']['steps']} steps", f"{r['few_facts']['float32_seconds']:.1f} s", f"{r['few_facts']['codes_seconds']:.1f} s", f"{r['few_facts']['ratio']:.2f}"]] if "few_facts" in r else []),
        *([[f"a pass of {m['rows']} tokens", f"{m['float32_seconds']:.2f} s", f"{m['codes_seconds']:.2f} s", f"{m['ratio']:.2f}"] for m in r.get("many_rows", [])]),
        *([[f"value vectors, {r['low_precision']['steps']} steps, in float32 and in bfloat16", f"{r['low_precision']['float32_seconds']:.1f} s", f"{r['low_precision']['bfloat16_seconds']:.1f} s", f"{r['low_precision']['ratio']:.2f}"]] if "low_precision" in r else []),
        *([["showing an example once: full finetuning, value vectors", f"{1e3 * min(r['step']['full_float32_seconds'], r['step']['full_bfloat16_seconds']):.1f} ms", f"{1e3 * r['step']['values_seconds']:.1f} ms", f"{r['step']['ratio']:.2f}"]] if "step" in r else []),
        *([[f"deposit of {r['deposit']['values']} values at {r['deposit']['sites']} sites in {r['deposit']['slots']} slots", f"{r['deposit']['each_seconds']:.1f} s", f"{r['deposit']['few_seconds']:.1f} s", f"{r['deposit']['ratio']:.2f}"]] if "deposit" in r else []),
        *([[f"asking {p['phrasings']} phrasings before and after, and passing them for slots and steps", f"{p['each_seconds']:.1f} s", f"{p['once_seconds']:.1f} s", f"{p['ratio']:.2f}"]] if (p := r.get("prompts")) else []),
        *([[f"scores of {r['scores']['examples']} questions in a chat", f"{r['scores']['padded_seconds']:.1f} s", f"{r['scores']['tree_seconds']:.1f} s", f"{r['scores']['ratio']:.2f}"]] if "scores" in r else []),
        [f"what {n['prompts']} neighbours read", f"{n['padded_seconds']:.1f} s", f"{n['tree_seconds']:.1f} s", f"{n['ratio']:.2f}"],
    ])


def startup(r):
    return rows(["command", "milliseconds", "times a process that does nothing"],
                [[f"`accrete {name}`" if name != "nothing" else "`/bin/true`", f"{c['milliseconds']:.1f}", f"{c['times_nothing']:.1f}"]
                 for name, c in r["commands"].items()])


def generate(r):
    lines = []
    for batch in ("batch_1", "batch_8"):
        for key, what, short in (("prefill_tokens_per_second", "prefill", "prefill"), ("decode_tokens_per_second", "decoding", "decode")):
            ours, theirs = r["accrete"][batch][key], r["transformers"][batch][key]
            adds = [f"+{100 * r['accrete'][batch][f'{kind}_overlay_adds_to_{short}']:.1f} %" for kind in ("gated", "open")]
            llama = [f"{r['llama.cpp'][batch][key]:.0f}"] if "llama.cpp" in r else []
            lines.append([f"{what}, batch {batch[-1]}", f"{ours:.0f}", f"{theirs:.0f}", f"{ours / theirs:.2f}", *llama, *adds])
    return rows([f"tokens a second, {r['machine']}", "accrete", "transformers", "ratio", *(["llama.cpp"] if "llama.cpp" in r else []), f"{r['accrete']['batch_1']['overlay_rows']} rows taught add", "the same without a gate"], lines)


def scale(r):
    return rows(["slots", "lookup, times that of the smallest", "teaching's work with slots, times that of the smallest"],
                [[str(t["slots"]), f"{t['lookup_ratio']:.2f}", f"{t['teach_ratio']:.2f}"] for t in r["tables"]])


def peft(r):
    lines = [[name, f"{m['seconds']:.0f} s", f"{m.get('times_accrete', 1):.1f}", f"{1e3 * m['seconds_per_example']:.0f} ms" if "seconds_per_example" in m else "",
              f"{100 * m['recall']:.1f} %", f"{100 * m['kept']:.1f} %", f"{m['peak_bytes'] / 1e9:.2f} GB", str(m["parameters"])]
             for name, m in r["methods"].items()]
    short = [name for name, m in r["methods"].items() if m["recall"] < r["target"]]
    return rows([f"{r['facts']} facts ({r['split']}), {r['threads']} threads", "training", "times accrete's", "an example", "untaught phrasings", "kept", "peak memory", "parameters"], lines) + \
        f"\n\n*Training* ends at {100 * r['target']:.0f} % in an untaught phrasing" + (f" (not reached: {', '.join(short)})" if short else "") + \
        (f". Of accrete's seconds {m['measuring_seconds']:.0f} went into asking what it had been taught, before and after; the others were not asked on the clock"
         if "measuring_seconds" in (m := r["methods"]["accrete"]) else "") + \
        f". Answering alone takes {r['inference_peak_bytes'] / 1e9:.2f} GB with transformers, {r['methods']['accrete']['inference_peak_bytes'] / 1e9:.2f} GB with accrete."


def larger(r):
    gib = lambda n: f"{n / 2**30:.2f} GiB"
    line = lambda name, table, memory, m: [name, table, memory, f"{m['ask_seconds']:.2f} s", f"{m['teach_seconds']:.1f} s", f"{100 * m['learned']:.1f} %"]
    small, large = r["small"], r["large"]
    return rows([f"{r['facts']} facts, {r['threads']} threads", "table", "memory", "`ask`", "`teach`", "recalled as taught"],
                [line("as pretrained", gib(r["table_bytes"] // r["spread"]), "as it needs", small),
                 line("spread", gib(r["table_bytes"]), f"at most {gib(r['limit_bytes'])}; took {gib(large['peak_bytes'])}", large)]) + \
        f"\n\n{r['same_answers']} of {r['answers']} answers, before and after what was taught, are the same."


def cuda(r):
    return rows([r["device"], "share of a copy's bandwidth"],
                [[f"a copy on the device ({r['copy_gb_per_second']:.0f} GB/s, bytes read and written)", "1"],
                 *[[name, f"{share:.2f}"] for name, share in r["of_a_copy"].items()]])


def cuda_training(r):
    lines = []
    for name in ("float32", "bfloat16"):
        c = r[name]
        lines.append([name, f"{c['first_step_apart']:.1e}", f"{c['farthest_apart']:.1e}", "yes" if c["same_bytes"]["again"] else "no", "yes" if c["same_bytes"]["resumed"] else "no"])
    return rows(["matrix products in", "loss of the first step, GPU against CPU", "of 60 steps, at most", "run again: the same bytes", "stopped and resumed: the same bytes"], lines)


def device_teach(r):
    share = lambda x: f"{100 * x:.1f} %"
    names = {"cpu": f"CPU ({r['machine']}, {r['threads']} threads)", "cuda": r["gpu"]}
    return rows([f"{r['facts']} facts", "`teach`", "asking them", "recalled, asked on the CPU", "asked on the GPU"],
                [*[[names[d], f"{r['seconds'][d]['teach']:.1f} s", f"{r['seconds'][d]['ask']:.1f} s", share(r["recall"][d]["cpu"]), share(r["recall"][d]["cuda"])] for d in names],
                 ["ratio", f"{r['ratio']['teach']:.2f}", f"{r['ratio']['ask']:.2f}", "", ""]])


def native(lines):
    """From the log of a pretraining run."""
    evaluations = [line for line in lines if "bits_per_byte" in line]
    speed = {line["step"]: line["tokens_per_second"] for line in lines if "loss" in line}
    pick = [evaluations[i] for i in sorted({0, 1, 3, 5, 7, len(evaluations) - 1})]
    return rows(["step", "tokens", "seconds", "bits per byte, held out", "facts, in a phrasing trained on", "in another"],
                [[str(e["step"]), f"{e['step'] * NATIVE_STEP / 1e6:.0f} M", f"{e['seconds']:.0f}", f"{e['bits_per_byte']:.3f}",
                  f"{100 * e['facts_taught']:.1f} %", f"{100 * e['facts_asked']:.1f} %"] for e in pick]) + \
        f"\n\n{speed[max(speed)]:,.0f} tokens a second on one NVIDIA H200."


NATIVE_STEP = 256 * 256  # tokens: bench/native_gpu.toml

TABLES = {"cuda": (cuda, "cuda.json"), "cuda-training": (cuda_training, "cuda_training.json"), "device-teach": (device_teach, "device_teach.json"), "teach": (teach, "teach.json"), "startup": (startup, "startup.json"), "generate": (generate, "generate.json"),
          "scale": (scale, "scale.json"), "larger": (larger, "larger_than_memory.json"), "peft": (peft, "compare_peft.json"), "native": (native, "native_gpu_log.jsonl")}

wanted, seen = {}, set()
for document in DOCUMENTS:
    with open(os.path.join(ROOT, document), encoding="utf-8") as f:
        wanted[document] = f.read()
    for key, (make, name) in TABLES.items():
        result = load(name)
        filled = generated.fill(wanted[document], key, make(result) if result else "Not measured yet.", "speed_tables.py")
        if filled is not None:
            wanted[document] = filled
            seen.add(key)
assert seen == set(TABLES), f"no place for the tables {set(TABLES) - seen}"
sys.exit(generated.write_or_check(ROOT, wanted, "speed_tables.py"))
