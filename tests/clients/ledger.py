"""What a producer was told is in the stream, and what has landed: the same records, each once.

    flash simulate --ledger ─▶ shard, sequence number, MD5 ─┐
                                                            ├─ as multisets
    bronze.events ───────────▶ the same of every row ───────┘
"""

import json
import subprocess
from collections import Counter

LANDED = """SELECT _shard_id, _sequence_number, _sub_sequence, md5(_payload) FROM bronze.events"""


def accepted(*files):
    put = Counter()
    for name in files:
        with open(name) as file:
            for line in file:
                record = json.loads(line)
                put[(record["shard_id"], record["sequence_number"], "0", record["md5"])] += 1
    return put


def landed(flash, lake, env=None):
    command = [flash, "sql", "--lake", lake, "--format", "csv", "-c", LANDED]
    lines = subprocess.run(command, check=True, capture_output=True, text=True, env=env).stdout.splitlines()[1:]
    return Counter(tuple(line.split(",")) for line in lines)
