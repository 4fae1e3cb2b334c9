"""A Kinesis endpoint on a free loopback port, in a process of its own, so that it outlives every `flash` that is killed.

    flash simulate ──PutRecords──▶ flash kinesis (in memory) ◀──GetRecords── flash run
                                        ▲ UpdateShardCount
"""

import atexit
import json
import subprocess
import time
import urllib.request

# Any credentials will do, but not those of whoever runs the tests.
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}
# Of a change of shards, in seconds.
RESHARD_MAX = 60
# Seconds for one answer: a busy machine can stand still for long.
CALL_TIME_MAX = 60


def start(flash, stream, shards):
    """Serve; the endpoint's URL."""
    command = [flash, "kinesis", "--listen", "127.0.0.1:0", "--stream", stream, "--shards", str(shards)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    atexit.register(server.kill)
    return json.loads(server.stdout.readline())["endpoint_url"]


def call(endpoint, operation, **body):
    headers = {
        "X-Amz-Target": f"Kinesis_20131202.{operation}",
        "Content-Type": "application/x-amz-json-1.1",
        "X-Amz-Date": "20260101T000000Z",
        "Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/kinesis/aws4_request, "
        "SignedHeaders=host;x-amz-date, Signature=0",
    }
    request = urllib.request.Request(endpoint, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=CALL_TIME_MAX) as answer:
        return json.loads(answer.read() or "{}")


def reshard(endpoint, stream, shards):
    """Split every shard: parents end, children begin."""
    call(endpoint, "UpdateShardCount", StreamName=stream, TargetShardCount=shards, ScalingType="UNIFORM_SCALING")
    deadline = time.monotonic() + RESHARD_MAX
    while time.monotonic() < deadline:
        found = call(endpoint, "DescribeStreamSummary", StreamName=stream)["StreamDescriptionSummary"]
        if found["StreamStatus"] == "ACTIVE":
            assert found["OpenShardCount"] == shards, found
            return
    raise TimeoutError(f"{stream} is not active after {RESHARD_MAX} s")
