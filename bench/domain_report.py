"""The table of docs/domains.md from the cells of a folder: bench/domain_report.py [bench/results/domains]"""
import collections
import json
import pathlib
import sys

NAMES = {"accrete": "**accrete**", "naive": "finetuning", "ewc": "EWC", "replay": "replay, 20 rows a class", "ncm": "nearest class mean",
         "ranpac": "RanPAC-style ridge", "joint": "joint training"}
CHAINS = {"mnist": "MNIST, 5 × 2 digits", "omniglot": "Omniglot, 24 × 10 characters", "credit": "credit default, 5 ages", "cifar10": "CIFAR-10, 5 × 2",
          "medicine": "X-rays, promoters, enhancers"}


RESULTS = pathlib.Path(__file__).parent / "results" / "domains"


def table(folder=RESULTS):
    cells = collections.defaultdict(list)
    for path in sorted(pathlib.Path(folder).glob("*.json")):
        cell = json.loads(path.read_text(encoding="utf-8"))
        if cell["domain"] in CHAINS:  # others have reports of their own (robot_report.py)
            cells[cell["domain"], cell["method"]].append(cell)
    lines = ["| chain | method | retained | forgetting | average | last | s a task | bytes kept | undo |", "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for chain in CHAINS:
        for method in NAMES:
            group = cells.get((chain, method))
            if not group:
                continue
            mean = lambda key: sum(c[key] for c in group) / len(group)
            undo = "" if method != "accrete" else "exact" if all(c["undo_exact"] for c in group) else "NOT EXACT"
            lines.append(f"| {CHAINS[chain]} | {NAMES[method]} | {100 * mean('retained'):.1f} % | {mean('forgetting'):.3f} | {100 * mean('average'):.1f} % | "
                         f"{100 * mean('last'):.1f} % | {mean('seconds'):.2f} | {mean('stored_bytes') / 1e6:.1f} MB | {undo} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(*sys.argv[1:2]))
