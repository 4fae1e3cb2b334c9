"""A Kinesis endpoint on a free loopback port, in this process, so that it outlives every `flash` that is killed.

    flash simulate ──PutRecords──▶ moto (not ours; in memory) ◀──GetRecords── flash run

moto gives out sequence numbers without a lock, and two puts at once would lose records: calls are let in one by one.
"""

import json
import threading
import urllib.request

from moto.server import DomainDispatcherApplication, create_backend_app
from werkzeug.serving import WSGIRequestHandler, make_server

# Any credentials will do, but not those of whoever runs the tests.
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_REGION": "us-east-1"}


class Quiet(WSGIRequestHandler):
    def log(self, *_):
        pass


def start():
    """Serve; the endpoint's URL."""
    app, turn = DomainDispatcherApplication(create_backend_app), threading.Lock()

    def one_by_one(environ, start_response):
        with turn:
            return list(app(environ, start_response))

    server = make_server("127.0.0.1", 0, one_by_one, threaded=True, request_handler=Quiet)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


def create_stream(endpoint, name, shards):
    headers = {
        "X-Amz-Target": "Kinesis_20131202.CreateStream",
        "Content-Type": "application/x-amz-json-1.1",
        "Authorization": "AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/kinesis/aws4_request",
    }
    body = json.dumps({"StreamName": name, "ShardCount": shards}).encode()
    with urllib.request.urlopen(urllib.request.Request(endpoint, body, headers), timeout=10) as answer:
        answer.read()
