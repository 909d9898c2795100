"""Verbs of accrete as benchmarks run them: timed, their JSON read, an error the end."""
import json
import pathlib
import subprocess
import sys
import time


def run(accrete, *command, **how):
    """(seconds, the JSON object that the verb printed); `how` goes to subprocess.run."""
    start = time.perf_counter()
    out = subprocess.run([accrete, *map(str, command), "--json", "--quiet"], capture_output=True, text=True, **how)
    seconds = time.perf_counter() - start
    if out.returncode != 0:
        raise SystemExit(f"{pathlib.Path(sys.argv[0]).stem}: {' '.join(map(str, command))}: {out.stderr.strip()}")
    return seconds, json.loads(out.stdout)
