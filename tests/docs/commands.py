"""Runs the commands of the documentation: every ```sh block below the mark `<!-- run by tests/docs/commands.py -->`.

usage: commands.py ACCRETE SOURCE_DIR   (exit 77: the model is absent)
"""
import glob
import os
import re
import subprocess
import sys
import tempfile

accrete, source = (os.path.abspath(p) for p in sys.argv[1:3])
if not os.path.exists(os.path.join(source, "models", "SmolLM2-135M-Instruct.Q4_1.gguf")):
    print("skipped: the model is absent (make setup fetches it)")
    sys.exit(77)

MARK = re.compile(r"<!-- run by tests/docs/commands\.py -->\s*```sh\n(.*?)```", re.S)
# What a document's blocks must print, each in this order.
EXPECTED = {"README.md": [["known: ", "learned", "2.4 kg", "post office", "by the fact of", "249 euros", "2.4 kg", "corrects", "199 euros", "known", "undone", "249 euros"]],
            "docs/server.md": [["Paris", '"state":"committed"', '"content":"2.4 kg"', '"decision":"fact"', "data: [DONE]", '"active":true', '"undone":["', '"decision":"model"', '"status":"ok"', '"name":"desk"', '"overlay":"desk"', '"content":"Four five six."', '"erased":"desk"'], ['"status":"ok"', "Paris", "the socket is gone"]],
            "docs/documents.md": [["3 in 5 passages", "35 euros", "shop/repairs.txt", '"sources"', "That is not in our pages.", "2 unchanged", "39 euros", "undone", "35 euros", "forgotten",
                                   "passages of 2 documents"]],
            "docs/pretrain.md": [["stopped after step", "tiny: ", "held out: "], ["Portuguese"]]}

for name, expected in EXPECTED.items():
    with open(os.path.join(source, name), encoding="utf-8") as f:
        blocks = MARK.findall(f.read())
    assert len(blocks) == len(expected), f"{name} has {len(blocks)} blocks to run"
    for block, wanted in zip(blocks, expected):
        with tempfile.TemporaryDirectory() as work:
            os.mkdir(os.path.join(work, "bin"))
            os.symlink(accrete, os.path.join(work, "bin", "accrete"))
            for folder in ("data", "bench"):
                os.symlink(os.path.join(source, folder), os.path.join(work, folder))
            os.mkdir(os.path.join(work, "models"))  # commands may add to it
            os.symlink(os.path.join(source, "models", "all-MiniLM-L6-v2"), os.path.join(work, "models", "all-MiniLM-L6-v2"))
            for file in glob.glob(os.path.join(source, "models", "*.gguf")):
                os.symlink(file, os.path.join(work, "models", os.path.basename(file)))
            env = dict(os.environ, PATH=os.path.join(work, "bin") + os.pathsep + os.environ["PATH"])
            done = subprocess.run(["bash", "-euxo", "pipefail", "-c", block], cwd=work, env=env, text=True,
                                  stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=1200)
            print(done.stdout)
            assert done.returncode == 0, f"{name}: exit {done.returncode}\n{done.stderr[-2000:]}"
            at = 0
            for text in wanted:
                at = done.stdout.find(text, at)
                assert at >= 0, f"{name}: {text!r} is not printed where it should be"
                at += len(text)
print("documented commands: passed")
