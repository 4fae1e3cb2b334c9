"""What a comparison needs: a Python environment with the peers, and a file of events. Both are kept in the cache."""

import os
import subprocess
import sys

PACKAGES = ("duckdb==2.0.0", "chdb==4.4.0", "pyspark==4.3.0")
REPOSITORY = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def cache(name):
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.path.join(root, "flashcommerce", "peers", name)


def flash_binary():
    target = os.environ.get("CARGO_TARGET_DIR") or os.path.join(REPOSITORY, "target")
    return os.path.join(target, "release", "flash")


def environment(packages=PACKAGES, name="venv"):
    """The interpreter of a virtual environment with these packages in it, the peers if not told otherwise."""
    folder = cache(name)
    python = os.path.join(folder, "bin", "python")
    wanted = "\n".join(packages)
    stamp = os.path.join(folder, "packages")
    if not os.path.exists(stamp) or open(stamp).read() != wanted:
        print(f"installing {', '.join(packages)} ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True)
        with open(stamp, "w") as file:
            file.write(wanted)
    return python


def events(flash, count, seed, work):
    """A file of simulated events, made once."""
    path = os.path.join(work, f"events-{count}-{seed}.jsonl")
    if not os.path.exists(path):
        part = path + ".part"
        command = [flash, "simulate", "--events", str(count), "--seed", str(seed), "--out", part]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        os.rename(part, path)
    return path
