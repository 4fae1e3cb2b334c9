"""Nothing grows with the number of commits: the short form of benches/commits.py.

    FLASH=target/release/flash python test_commits.py

3,000 commits of one table with two views over it, upkeep as in production but for the time that removed files stay. The
last thousand must not be slower than the second, nor a start, nor may there be more memory, files or records.
"""

import os
import sys
import tempfile
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "benches"))
import commits  # noqa: E402
import served  # noqa: E402

COMMITS, EVERY, RETENTION_S = 3_000, 250, 3


def main():
    served.FLASH = os.path.abspath(served.FLASH)
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        lines = commits.measure(folder, COMMITS, EVERY, RETENTION_S)
    shown = "\n".join("  ".join(f"{key} {value}" for key, value in line.items()) for line in lines)
    wrong = commits.grown(lines)
    assert not wrong, f"{'; '.join(wrong)}\n{shown}"
    print(f"ok  {COMMITS} commits in {time.monotonic() - begin:.0f} s: {lines[-1]}")
    # What is measured would show it: a lake in which nothing is deleted.
    kept = [{**line, "log_files": line["commits"]} for line in lines]
    assert commits.grown(kept), "growth is not noticed"
    print("ok  growth would be noticed")
    print("2 passed, 0 failed")


if __name__ == "__main__":
    main()
