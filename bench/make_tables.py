"""Writes the measured tables of README.md and docs/benchmarks.md and the plot in docs/ from bench/results/; nothing there is typed by hand.

usage: make_tables.py [--check]     --check: exit 1 if a table is not what the results give
"""
import glob
import json
import os
import sys

import domain_report
import forgetting_report
import generated
import robot_report

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
FORGETTING = forgetting_report.load(os.path.join(ROOT, "bench", "results", "forgetting"))
NATIVE = forgetting_report.load(os.path.join(ROOT, "bench", "results", "forgetting_native"))
QUESTIONS = forgetting_report.load(os.path.join(ROOT, "bench", "results", "forgetting_questions"))
DOCUMENTS = forgetting_report.load(os.path.join(ROOT, "bench", "results", "forgetting_documents"))
ABILITIES = forgetting_report.load(os.path.join(ROOT, "bench", "results", "forgetting_abilities"))


def load(name):
    with open(os.path.join(ROOT, "bench", "results", name), encoding="utf-8") as f:
        return json.load(f)


def spread(runs, key, scale=100, form="{:.1f} %"):
    values = [r[key] * scale for r in runs]
    mean = form.format(sum(values) / len(values))
    return mean if len(values) == 1 else f"{mean} ({form.format(min(values))} .. {form.format(max(values))})"


def one_go_rows(cells, methods, command, line):
    """What methods made of 200 facts in one go, each with the setting that was best on development facts. `line` gives a row's first cells
    from the method's name with its seeds, what it learned in percent, its cells, and a function for the percentage kept of a measure."""
    rows = []
    for method, _, learned, _, group in forgetting_report.points(cells, "one_go", "test"):
        if method not in methods:
            continue
        name = f"{forgetting_report.name_of(method)}, {len(group)} seed{'s' if len(group) > 1 else ''}"
        kept = lambda key: 100 * sum(forgetting_report.relative(c, key) for c in group) / len(group)
        rows.append(f"| {line(name, 100 * learned, group, kept)} | {'the same' if rows else command} |")
    return rows


def native_rows():
    """The same question of a model with pretrained memory layers."""
    return one_go_rows(NATIVE, ("interference", "full-adamw", "lora"), "`accrete bench forgetting models/native --profile small`",
                       lambda name, learned, group, kept: f"a model with pretrained memory, {name}: new facts; facts known from pretraining, and in other words | "
                       f"{100 * sum(c['before']['new_f1'] for c in group) / len(group):.1f} %; 100 %, 100 % | {learned:.1f} %; {kept('clozes_f1'):.1f} %, {kept('questions_f1'):.1f} %")


SECTIONS = {"thing12": "12 facts of one thing", "thing36": "36 facts of one thing", "things144": "36 facts each of four things", "shop": "60 answers of an office, no subject",
            "clinc5": "150 answers in real people's words, 5 wordings each", "clinc10": "the same, 10 wordings each", "raw200": "200 facts as raw sentences", "long": "40 long answers",
            "messages": "252 facts of an office and four things, asked by whole messages",
            "facts1000": "1,000 facts of distinct subjects", "facts10000": "10,000 facts of distinct subjects"}
METHODS = {"accrete": "**accrete**", "lookup": "lookup", "context": "facts in the context", "lora": "LoRA", "full": "full finetuning"}


def desk_rows():
    """Mean over the seeds of each section and method: [(section, method, {key: value})]."""
    groups = {}
    for row in load("desk.json")["rows"]:
        if row["section"] in SECTIONS:
            name = METHODS.get(row["method"], row["method"])
            setting = ", ".join(str(v) for v in row.get("setting", {}).values())
            groups.setdefault((row["section"], name + (f" ({setting})" if setting else "")), []).append(row)
    out = []
    for (section, method), rows in groups.items():
        mean = lambda *keys, rows=rows: next((sum(r[k] for r in rows) / len(rows) for k in keys if all(r.get(k) is not None for r in rows)), None)
        out.append((section, method, mean, len(rows)))
    return out


def share(value):
    return "" if value is None else f"{100 * value:.1f} %"


def desk():
    lines = ["| taught | by | seeds | untaught wordings | taught | chosen | given | left | area | twins | open | unrelated changed | seconds | KB a fact |",
             "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for section, method, mean, seeds in desk_rows():
        changed = mean("unrelated_changed")
        asked = mean("unrelated_questions")
        size = mean("bytes_a_fact")
        area = mean("auroc")
        lines.append(f"| {SECTIONS[section]} | {method} | {seeds} | {share(mean('untaught'))} | {share(mean('taught'))} | {share(mean('chosen_right'))} | {share(mean('given'))} | {share(mean('left_unchanged'))} | "
                     f"{'' if area is None else f'{area:.3f}'} | {share(mean('twins_unchanged'))} | {share(mean('open_unchanged'))} | "
                     f"{'' if changed is None else f'{changed:.0f} of {asked:.0f}'} | {mean('seconds'):.0f} | {'' if size is None else f'{size / 1000:.1f}'} |")
    return "\n".join(lines)


def readme():
    lines = ["| what was taught, then asked in wordings that were not | by | exactly right | not taught about the same thing, unchanged | unrelated questions changed | seconds |", "| --- | --- | --- | --- | --- | --- |"]
    for section, method, mean, _ in desk_rows():
        changed, asked = mean("unrelated_changed"), mean("unrelated_questions")
        lines.append(f"| {SECTIONS[section]} | {method} | {share(mean('untaught'))} | {share(mean('left_unchanged'))} | {'' if changed is None else f'{changed:.0f} of {asked:.0f}'} | {mean('seconds'):.0f} |")
    lines.append("")
    lines.append("Each row: `accrete bench desk MODEL --only SECTION --methods METHOD`; [all columns](docs/facts.md#measured).")
    return "\n".join(lines)


def document_choice():
    lines = ["| set | documents, passages | right passage first, among three | told, and right | told, and wrong | its document was not taught, told all the same | about the documents and not in them, told all the same | unrelated questions told | KB a passage |",
             "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for name in ("squad2", "xquad", "nq", "manual"):
        d = load(f"documents_{name}.json")
        c = d["choice"]
        # The unrelated questions are those of this set.
        unrelated = "" if name == "nq" else f"{c['unrelated_told']} of {c['unrelated']:,}"
        without = lambda key: f"{share(c[key + '_told'])} of {c[key]:,}" if c[key] else ""
        lines.append(f"| {d['data'].removesuffix('.jsonl')}, {c['questions']:,} questions | {d['documents']:,}, {d['passages']:,} | {share(c['first_right'])}, {share(c['in_three'])} | {share(c['told_right'])} | {share(c['told_wrong'])} | "
                     f"{without('not_answered')} | {without('unanswerable')} | {unrelated} | {d['bytes_a_passage'] / 1000:.1f} |")
    return "\n".join(lines)


def document_answers():
    lines = ["| model | told | F1 | exact | holds the answer |", "| --- | --- | --- | --- | --- |"]
    names = {"closed": "nothing", "context": "the right document", "top1": "the first passage, accepted or not", "top3": "the first three", "accrete": "**what `ask` accepts**"}
    for file, model in (("documents_qwen.json", "Qwen2.5-0.5B-Instruct"), ("documents_smol.json", "SmolLM2-135M-Instruct")):
        for r in load(file)["rows"]:
            # One that does not read says a sentence of the passage.
            said = "a sentence of " + names["top1"] if "Smol" in model and r["method"] == "top1" else names[r["method"]]
            lines.append(f"| {model} | {said} | {share(r['f1'])} | {share(r['exact'])} | {share(r['contains'])} |")
    return "\n".join(lines)


def native():
    return "\n".join(["| what | before | after | command |", "| --- | --- | --- | --- |", *native_rows()])


def facts_name(r):
    parts = [f"{r['facts']} {r['split']} {r['form']}", r["ranking"], "gate" if r["gated"] else "no gate"]
    if r.get("stepwise"):
        parts.append("steps on rows")
    if r.get("plasticity", "full") != "full":
        parts.append(f"{r['plasticity']} plasticity")
    if r.get("lambda", 1e-5) != 1e-5:
        parts.append(f"λ {r['lambda']:g}")
    if r.get("adapt"):
        parts.append("adapted")
    if r.get("anchor_weight"):
        parts.append(f"{r['anchors']} anchors, α {r['anchor_weight']:g}")
    if r.get("anchor_log_weight"):
        parts.append(f"{r['anchors']} anchors in the log, weight {r['anchor_log_weight']:g}")
    return ", ".join(parts)


def facts(pattern="facts*.json"):
    lines = ["| run | seeds | new facts, untaught phrasings | the same behind other words | taught phrasings | known questions kept | known sentences kept | bits per byte | rows |",
             "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for path in sorted(glob.glob(os.path.join(ROOT, "bench", "results", pattern))):
        r = load(os.path.basename(path))
        runs = r["runs"]
        elsewhere = spread(runs, "asked_elsewhere") if "asked_elsewhere" in runs[0] else ""
        lines.append(f"| {facts_name(r)} | {len(runs)} | {spread(runs, 'asked_after')} | {elsewhere} | {spread(runs, 'taught_after')} | {spread(runs, 'kept_questions')} | "
                     f"{spread(runs, 'kept_clozes')} | {spread(runs, 'bits_per_byte_change', 1, '{:+.4f}')} | {spread(runs, 'rows', 1, '{:.0f}')} |")
    return "\n".join(lines)


def forecast():
    lines = ["| model | probe | updates | Spearman | first order alone | with second order | measured within the range |",
             "| --- | --- | --- | --- | --- | --- | --- |"]
    for model, file in (("retrofitted", "forecast.json"), ("pretrained memory", "forecast_native.json")):
        if not os.path.exists(os.path.join(ROOT, "bench", "results", file)):
            continue
        result = load(file)
        for name, s in result["summary"].items():
            lines.append(f"| {model} | {name} | {len(result['runs'])} | {s['spearman']:.2f} | {s['spearman_first_order']:.2f} | "
                         f"{s['spearman_second_order']:.2f} | {100 * s['inside_range']:.0f} % |")
    return "\n".join(lines)


def check_share():
    """What watching probes costs while steps are taken."""
    lines = ["| taught | watching probes, share of the steps' time | seconds in all | tokens that come first, before and after |", "| --- | --- | --- | --- |"]
    for r in load("check_share.json")["runs"]:
        lines.append(f"| {r['set']} | {100 * r['check_share']:.1f} % | {r['seconds']:.0f} | {100 * r['learned']['before']:.0f} %, {100 * r['learned']['after']:.0f} % |")
    return "\n".join(lines)


def slots(point):
    if "blocks" not in point:
        return " | "
    blocks = point["blocks"]
    return f"{sum(b['used'] for b in blocks)} of {sum(b['slots'] for b in blocks)} | {max(b['largest_row'] for b in blocks):.0f}"


def update_cost():
    r = load("update_cost.json")
    lines = [f"| after {r['updates']} updates | untouched | after many | ratio |", "| --- | --- | --- | --- |"]
    for key, name in (("teach", f"teach {r['items']} facts"), ("ask", "open and answer one token"), ("undo", "undo")):
        if key not in r["ratio"]:
            continue  # measured before it was timed
        lines.append(f"| {name}, s | {r['seconds']['untouched'][key]:.2f} | {r['seconds']['after many'][key]:.2f} | {r['ratio'][key]:.2f} |")
    memory = {k: v / 1e9 for k, v in r["peak_bytes"].items()}
    lines.append(f"| peak memory of teach, GB | {memory['untouched']:.2f} | {memory['after many']:.2f} | {r['ratio']['memory']:.2f} |")
    return "\n".join(lines)


def sequence():
    lines = ["| method | updates | facts | recall | untaught wording | corrected facts | known sentences kept | known questions kept | bits per byte | rows used | "
             "largest row | seconds an update (first 10 / last 10 of facts) |",
             "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for path in sorted(glob.glob(os.path.join(ROOT, "bench", "results", "sequence*.json"))):
        r = load(os.path.basename(path))
        for p in r["points"]:
            facts = [s for s in r["steps"][:p["updates"]] if s["kind"] == "facts" and "seconds" in s]
            each = [s["seconds"] / max(s["items"], 1) for s in facts]
            cost = f"{sum(s['seconds'] for s in facts[:10]) / len(facts[:10]):.1f} / {sum(s['seconds'] for s in facts[-10:]) / len(facts[-10:]):.1f}" if each else ""
            corrected = f"{100 * p['recall_corrected']:.1f} % of {p['corrected']}" if "recall_corrected" in p else ""
            method = {"interference": "**accrete**"}.get(r["setup"]["method"], r["setup"]["method"]) + (", pretrained memory" if "native" in path else "")
            lines.append(f"| {method} | {p['updates']} | {p['facts']} | {100 * p['recall']:.1f} % | {100 * p['recall_untaught_wording']:.1f} % | {corrected} | "
                         f"{100 * p['kept_clozes']:.1f} % | {100 * p['kept_questions']:.1f} % | {p['bits_per_byte_change']:+.4f} | "
                         f"{slots(p)} | {cost} |")
    return "\n".join(lines)


def fact_scale():
    r = load("fact_scale.json")
    rows = [("facts in one update", lambda x: f"{x['facts']:,}"), ("teach, ms a fact", lambda x: f"{1000 * x['teach'] / x['facts']:.0f}"),
            ("open and choose, with ten facts / with all, s", lambda x: f"{x['open and choose, of ten facts']:.2f} / {x['open and choose']:.2f}"),
            ("first token of the server, bare / with all, ms", lambda x: f"{1000 * x['first token, bare']:.0f} / {1000 * x['first token']:.0f}"),
            *((f"{name}, s", lambda x, name=name: f"{x[name]:.2f}") for name in ("undo", "audit", "digest", "compact")),
            ("kB on disk a fact", lambda x: f"{x['bytes a fact'] / 1000:.1f}")]
    lines = [f"| {name} | " + " | ".join(form(x) for x in r["rows"]) + " |" for name, form in rows]
    return "\n".join([lines[0], "| --- |" + " --- |" * len(r["rows"]), *lines[1:]])


def explain():
    r = load("explain.json")
    return "\n".join([
        "| updates | facts asked | right update named first | right line named first | seconds each |",
        "| --- | --- | --- | --- | --- |",
        f"| {r['updates']} | {r['facts']} | {100 * r['update_named_first']:.1f} % | {100 * r['line_named_first']:.1f} % | {r['seconds_each']:.2f} |"])


def baselines():
    lines = ["| run in C++ and in Python | steps | largest difference of a step's loss | mean | taught phrasings' loss at the end, C++ / Python | untaught phrasings right, C++ / Python |",
             "| --- | --- | --- | --- | --- | --- |"]
    for r in load("check_baselines.json")["runs"]:
        name = {"full": "full finetuning, AdamW", "sgd": "full finetuning, SGD", "lora": "LoRA"}[r["method"]] + f", rate {r['rate']:g}"
        if r["first_factors"] is not None:
            name += {"same": ", the same first factors", "peft": ", peft's own first factors"}[r["first_factors"]]
        final = r["final"]
        lines.append(f"| {name} | {r['steps']} | {r['loss_difference_max']:.5f} | {r['loss_difference_mean']:.5f} | "
                     f"{final['taught']['cpp_nll']:.4f} / {final['taught']['python_nll']:.4f} | {100 * final['asked']['cpp_exact']:.1f} % / {100 * final['asked']['python_exact']:.1f} % |")
    return "\n".join(lines)


TABLES = {
    "README.md": {"desk": readme, "native": native},
    "docs/facts.md": {"desk": desk},
    "docs/documents.md": {"document-choice": document_choice, "document-answers": document_answers},
    "docs/domains.md": {"domains": domain_report.table, "robots": robot_report.table, "federated": robot_report.federated},
    "docs/benchmarks.md": {
        "facts": facts,
        "forgetting-one_go": lambda: forgetting_report.table(FORGETTING, "one_go"),
        "forgetting-stream": lambda: forgetting_report.table(FORGETTING, "stream"),
        "forgetting-verdict": lambda: forgetting_report.verdict(FORGETTING),
        "forgetting-abilities": lambda: forgetting_report.abilities(ABILITIES),
        "forgetting-questions": lambda: forgetting_report.table(QUESTIONS, "one_go", "new questions", "as taught, F1"),
        "forgetting-documents": lambda: forgetting_report.table(DOCUMENTS, "one_go", "questions about the documents", "tokens of the documents that come first"),
        "forgetting-native-one_go": lambda: forgetting_report.table(NATIVE, "one_go"),
        "forgetting-native-stream": lambda: forgetting_report.table(NATIVE, "stream"),
        "forgetting-native-verdict": lambda: forgetting_report.verdict(NATIVE),
        "baselines": baselines,
        "forecast": forecast,
        "check-share": check_share,
        "sequence": sequence,
        "update-cost": update_cost,
        "fact-scale": fact_scale,
        "explain": explain,
        "variants": lambda: facts("variant_*.json"),
    },
}
FILES = {"docs/forgetting_native.svg": lambda: forgetting_report.svg(NATIVE), "docs/forgetting.svg": lambda: forgetting_report.svg(FORGETTING), "docs/forgetting.html": lambda: forgetting_report.page(FORGETTING)}


def made(make):
    try:
        return make()
    except FileNotFoundError as e:
        return f"Not measured yet: {os.path.relpath(e.filename, ROOT)} is absent."


wanted = {name: make() for name, make in FILES.items()}
for name, tables in TABLES.items():
    with open(os.path.join(ROOT, name), encoding="utf-8") as f:
        text = f.read()
    for key, make in tables.items():
        text = generated.fill(text, key, made(make), "make_tables.py")
        assert text is not None, f"{name} has no place for the table {key}"
    wanted[name] = text
sys.exit(generated.write_or_check(ROOT, wanted, "make_tables.py"))
