"""A bad day between flash and an AWS service: a proxy on a free loopback port that answers some calls wrongly.

    flash ──▶ proxy ──▶ endpoint
                │ throttled or failed       the call is not passed on
                │ answer lost, breaks off   the call is carried out, and flash does not learn of it
                └ late                      the answer comes two seconds later
"""

import http.client
import http.server
import random
import sys
import threading
import time
import urllib.parse
from collections import Counter

LATE_S = 2
# Of one answer, in seconds.
ANSWER_MAX = 60
# What one hop says to the next.
HOP = {"connection", "content-length", "transfer-encoding", "keep-alive"}


class Proxy:
    """`faults`: (share of the calls, what is done instead of passing the call on and its answer back); the rest goes through.

    What is done: a function of the handler, which calls `refuse`, `lose`, `break_off` or `delay`. `concerns`: which calls.
    """

    def __init__(self, endpoint, faults=(), concerns=lambda handler: True, seed=7):
        self.address = urllib.parse.urlparse(endpoint).netloc
        self.faults, self.concerns, self.random = list(faults), concerns, random.Random(seed)
        self.counts, self.calls = Counter(), Counter()
        handler = type("Handler", (Handler,), {"proxy": self})
        server = Server(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{server.server_port}"

    def fault(self):
        roll = self.random.random()
        for share, what in self.faults:
            if roll < share:
                return what
            roll -= share
        return None


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        # Whoever called may have been killed.
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy = None

    def handle_call(self):
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.operation = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
        self.proxy.calls[self.operation or self.command] += 1
        fault = self.proxy.fault() if self.proxy.concerns(self) else None
        if fault:
            fault(self)
        else:
            self.answer(*self.passed_on())

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_call

    def passed_on(self):
        connection = http.client.HTTPConnection(self.proxy.address, timeout=ANSWER_MAX)
        headers = {name: value for name, value in self.headers.items() if name.lower() not in HOP | {"host"}}
        connection.request(self.command, self.path, self.body or None, headers)
        answer = connection.getresponse()
        whole = answer.status, answer.getheaders(), answer.read()
        connection.close()
        return whole

    def answer(self, status, headers, body, sent=None):
        """The whole answer, or so many bytes of its body."""
        self.send_response_only(status)
        length = str(len(body))
        for name, value in headers:
            if name.lower() == "content-length":
                length = value
            elif name.lower() not in HOP:
                self.send_header(name, value)
        self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:sent])

    def log_message(self, *_):
        pass


def refuse(what, status, kind, body):
    def act(handler):
        handler.proxy.counts[what] += 1
        handler.answer(status, [("Content-Type", kind)], body.encode())

    return act


def lose(handler):
    handler.passed_on()
    handler.proxy.counts["answer lost"] += 1
    handler.close_connection = True


def break_off(handler):
    status, headers, body = handler.passed_on()
    handler.proxy.counts["breaks off"] += 1
    handler.answer(status, headers, body, len(body) // 2)
    handler.close_connection = True


def delay(handler):
    answer = handler.passed_on()
    handler.proxy.counts["late"] += 1
    time.sleep(LATE_S)
    handler.answer(*answer)


def kinesis_error(status, code):
    return refuse(code, status, "application/x-amz-json-1.1", f'{{"__type": "{code}", "message": "a bad day"}}')


def s3_error(status, code):
    body = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>a bad day</Message></Error>'
    return refuse(code, status, "application/xml", body)


# Reads of a stream, of which every twelfth or so goes wrong.
READS = [
    (0.05, kinesis_error(400, "ProvisionedThroughputExceededException")),
    (0.02, kinesis_error(400, "ExpiredIteratorException")),
    (0.02, kinesis_error(500, "InternalFailure")),
    (0.01, break_off),
    (0.01, delay),
]
# Calls of a bucket.
BUCKET = [
    (0.03, s3_error(503, "SlowDown")),
    (0.03, s3_error(500, "InternalError")),
    (0.02, lose),
    (0.005, break_off),
    (0.005, delay),
]


def disturbed_stream(endpoint, seed=7):
    return Proxy(endpoint, READS, lambda handler: handler.operation == "GetRecords", seed)


def disturbed_bucket(endpoint, seed=7):
    return Proxy(endpoint, BUCKET, seed=seed)
