"""What a benchmark ran on, as its result says it: cores and the widest instructions that matter here."""
import os
import subprocess


def describe():
    with open("/proc/cpuinfo", encoding="utf-8") as f:
        flags = next((set(line.split()) for line in f if line.startswith(("flags", "Features"))), set())
    names = (("amx_bf16", "AMX"), ("avx512_bf16", "AVX-512 with bfloat16"), ("avx512f", "AVX-512"), ("avx2", "AVX2"), ("asimd", "NEON"))
    return f"{os.cpu_count()} cores, {next((name for flag, name in names if flag in flags), 'baseline instructions')}"


def gpu():
    """The name of the first NVIDIA GPU, or None."""
    try:
        out = subprocess.run(["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"], capture_output=True, text=True)
    except FileNotFoundError:
        return None
    return out.stdout.splitlines()[0] if out.returncode == 0 and out.stdout else None
