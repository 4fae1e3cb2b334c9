"""What is deployed: the image, the compose file, the CloudFormation template.

    FLASH=target/release/flash [FLASH_LINTERS=venv/bin] python test_deploy.py [lint context health ...]

1. Linters: hadolint, compose's schema, cfn-lint. What cannot be had is named as skipped.
2. The image's context holds what cargo needs. `healthy` tells a server that answers, with TLS and without, from none.
3. The compose file's own commands, carried out without Docker: stream, shoppers, bucket and service, to a query.
4. The template against the program: rights are the calls it makes, alarms look for lines and metrics that it writes.

Needs the packages of requirements.txt (botocore and yaml come with ministack).
"""

import contextlib
import glob
import http.server
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import botocore.session
import yaml

from flight_sql import Client
from served import FLASH, certificates

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
DOCKER = os.path.join(ROOT, "docker")

# The longest that anything here is waited for, in seconds.
WAIT_MAX = 40


def text(*path):
    with open(os.path.join(ROOT, *path)) as file:
        return file.read()


def sources(*parts):
    return "\n".join(text(path) for path in glob.glob(os.path.join(ROOT, "src", *parts), recursive=True))


# ---- 1


def lint():
    linters = os.environ.get("FLASH_LINTERS", "")
    template = os.path.join(DOCKER, "aws", "flashcommerce.yaml")
    for command in (
        ["hadolint", os.path.join(DOCKER, "Dockerfile")],
        ["check-jsonschema", "--builtin-schema", "vendor.compose-spec", os.path.join(DOCKER, "compose.yaml")],
        ["cfn-lint", template],
    ):
        program = shutil.which(command[0], path=linters) if linters else None
        if program is None:
            print(f"skipped: {command[0]}, which needs the packages of linters.txt")
            continue
        done = subprocess.run([program, *command[1:]], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, f"{command[0]}: {done.stdout}"


# ---- 2


def context():
    """What .dockerignore lets through is a workspace that cargo can read."""
    if shutil.which("cargo") is None:
        return print("skipped: the image's context, which needs cargo")
    kept = [line[1:] for line in text(".dockerignore").splitlines() if line.startswith("!")]
    with tempfile.TemporaryDirectory() as folder:
        for name in kept:
            place = os.path.join(folder, name)
            os.makedirs(os.path.dirname(place), exist_ok=True)
            copy = shutil.copytree if os.path.isdir(os.path.join(ROOT, name)) else shutil.copy
            copy(os.path.join(ROOT, name), place)
        command = ["cargo", "metadata", "--offline", "--no-deps", "--format-version", "1"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        included = re.findall(r'^COPY (?!--from)(?:--\S+ )*(\S+) ', text("docker", "Dockerfile"), re.M)
        for name in included:
            assert os.path.exists(os.path.join(folder, name)), f"the Dockerfile copies {name}, .dockerignore hides it"


def healthy(port):
    command = [os.path.join(DOCKER, "healthy")]
    environment = {**os.environ, "FLASH_HEALTH_PORT": str(port)}
    return subprocess.run(command, env=environment, stderr=subprocess.DEVNULL, timeout=WAIT_MAX).returncode == 0


class NotFlash(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(503)
        self.end_headers()

    def log_message(self, *_):
        pass


def health():
    port, other = free_ports(2)
    assert not healthy(port), "nobody listens"
    stranger = http.server.ThreadingHTTPServer(("127.0.0.1", other), NotFlash)
    threading.Thread(target=stranger.serve_forever, daemon=True).start()
    assert not healthy(other), "503 is no health"
    stranger.shutdown()
    with tempfile.TemporaryDirectory() as folder:
        made = certificates(folder)
        if made is None:
            return print("skipped: the health of a server with TLS, which needs openssl")
        _, cert, key = made
        command = [FLASH, "run", "--project", f"{folder}/sql", "--lake", f"{folder}/lake", "--http", f"127.0.0.1:{port}",
                   "--flight", "127.0.0.1:0", "--tls-cert", cert, "--tls-key", key]
        os.makedirs(f"{folder}/sql/public")
        with open(f"{folder}/sql/public/t.sql", "w") as file:
            file.write("CREATE TABLE public.t (n BIGINT)")
        with running(command):
            until(lambda: healthy(port), "health behind TLS")


# ---- 3


def free_ports(count):
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def until(holds, what):
    """Wait until it holds, asking ten times a second."""
    end = time.monotonic() + WAIT_MAX
    while not holds():
        assert time.monotonic() < end, f"{what}: not within {WAIT_MAX} s"
        time.sleep(0.1)


@contextlib.contextmanager
def running(command, environment=None, code=0):
    """A process until the end of the block; on SIGTERM it ends with `code`, if that is given."""
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(command, env={**os.environ, **(environment or {})}, stdout=said, stderr=said)
        try:
            yield process
        except BaseException:
            said.seek(0)
            print(f"{command}:\n{said.read()[-3000:]}", file=sys.stderr)
            raise
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                ended = process.wait(WAIT_MAX)
            except subprocess.TimeoutExpired:
                process.kill()
                ended = process.wait()
    assert code is None or ended == code, f"{command} ended with {ended}"


def listens(port):
    with socket.socket() as one:
        return one.connect_ex(("127.0.0.1", port)) == 0


def compose():
    """The file's commands and variables, at other ports, since others may have taken those."""
    ministack = os.path.join(os.path.dirname(sys.executable), "ministack")
    if not os.path.exists(ministack):
        return print("skipped: the compose file's commands, which need ministack")
    stream, bucket, http_port, flight_port = free_ports(4)
    written = text("docker", "compose.yaml")
    places = {"127.0.0.1:4567": f"127.0.0.1:{stream}", "http://s3:4566": f"http://127.0.0.1:{bucket}",
              "/s3/4566": f"/127.0.0.1/{bucket}", "0.0.0.0:8080": f"0.0.0.0:{http_port}",
              "0.0.0.0:50051": f"0.0.0.0:{flight_port}", "$$": "$"}
    for theirs, ours in places.items():
        assert theirs in written, f"{theirs} is not in the compose file any more"
        written = written.replace(theirs, ours)
    services = yaml.safe_load(written)["services"]
    for name in ("kinesis", "shoppers", "service"):
        services[name]["command"][:0] = [FLASH]
    run = lambda name, **more: running(services[name]["command"], services[name].get("environment"), **more)
    services["kinesis"]["command"] += ["--listen", f"127.0.0.1:{stream}"]
    services["service"]["command"] += ["--project", os.path.join(ROOT, "sql")]
    s3 = {**services["s3"]["environment"], "BIND_HOST": "127.0.0.1", "GATEWAY_PORT": str(bucket)}
    with running([ministack], s3, code=None), run("kinesis"), contextlib.ExitStack() as ends:
        until(lambda: listens(bucket) and listens(stream), "the emulators")
        made = [*services["bucket"]["entrypoint"], *services["bucket"]["command"]]
        for time_of in ("first", "second"):
            assert subprocess.run(made, timeout=WAIT_MAX).returncode == 0, f"the bucket, for the {time_of} time"
        # It ends by the signal, as it would in a container: there is nothing to finish.
        ends.enter_context(run("shoppers", code=None))
        ends.enter_context(run("service"))
        until(lambda: healthy(http_port), "the service's health")
        until(lambda: ready(http_port), "an epoch")
        client = Client(f"grpc://127.0.0.1:{flight_port}")
        until(lambda: client.rows("SELECT count(*) FROM gold.kpis")[0][0] > 0, "figures")
        session = botocore.session.get_session()
        session.set_credentials("local", "local")
        glue = session.create_client("glue", region_name="us-east-1", endpoint_url=f"http://127.0.0.1:{bucket}")
        there = lambda: {table["Name"] for table in glue.get_tables(DatabaseName="flashcommerce_gold")["TableList"]}
        until(lambda: "kpis" in there(), "the table in Glue")


def ready(port):
    try:
        return urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=WAIT_MAX).status == 200
    except urllib.error.HTTPError:
        return False


# ---- 4


class Template(yaml.SafeLoader):
    """CloudFormation's short forms as what they stand for."""


def short_form(loader, tag, node):
    built = {yaml.ScalarNode: loader.construct_scalar, yaml.SequenceNode: loader.construct_sequence}
    if isinstance(node, yaml.SequenceNode):
        return {tag: loader.construct_sequence(node, deep=True)}
    return {tag: built[type(node)](node)}


Template.add_multi_constructor("!", short_form)


def statements(role):
    for policy in role["Properties"]["Policies"]:
        for statement in policy["PolicyDocument"]["Statement"]:
            actions = statement["Action"]
            yield ([actions] if isinstance(actions, str) else actions), json.dumps(statement["Resource"])


def template():
    resources = yaml.load(text("docker", "aws", "flashcommerce.yaml"), Template)["Resources"]
    calls = r"\.((?:get|list|describe|register|subscribe|put)_(?:stream|shard|record|to_shard)\w*)\(\)"
    kinesis = lambda *where: {f"kinesis:{called.title().replace('_', '')}" for called in re.findall(calls, sources(*where))}
    allowed = lambda name, service: {
        action for actions, _ in statements(resources[name]) for action in actions if action.startswith(service)
    }
    made = kinesis("source", "kinesis", "*.rs")
    assert len(made) == 7, made
    assert made == allowed("ServiceRole", "kinesis"), f"{made} are called, {allowed('ServiceRole', 'kinesis')} allowed"
    glue = {f"glue:{called.title().replace('_', '')}" for called in re.findall(r"client\.(\w+)\(\)", sources("glue", "client.rs"))}
    assert len(glue) == 6 and glue == allowed("ServiceRole", "glue"), f"{glue} are called, {allowed('ServiceRole', 'glue')} allowed"
    assert kinesis("source", "producer.rs") <= allowed("ProducerRole", "kinesis"), "the producer's calls"
    for actions, resource in statements(resources["ReaderRole"]):
        if any(re.search("Put|Delete|Update|Create", action) for action in actions):
            assert "LakePrefix" not in resource and "glue" not in resource, f"readers may change {resource}"
    program = sources("**", "*.rs")
    for name, filter in resources.items():
        if filter["Type"] == "AWS::Logs::MetricFilter":
            for words in re.findall('"([^"]+)"', filter["Properties"]["FilterPattern"]):
                assert words == " ERROR " or words in program, f"{name}: nothing logs {words!r}"
    watched = re.findall(r"\^(flash_\w+)\$", text("docker", "aws", "flashcommerce.yaml"))
    for metric in [*watched, resources["ViewLag"]["Properties"]["MetricName"]]:
        assert f'"{metric}"' in program and metric in watched, f"there is no metric {metric}"
    (flash,) = [one for one in resources["Task"]["Properties"]["ContainerDefinitions"] if one.get("Name") == "flash"]
    known = subprocess.run([FLASH, "run", "--help"], check=True, stdout=subprocess.PIPE, text=True).stdout
    for flag in [word for word in flash["Command"] if isinstance(word, str) and word.startswith("--")]:
        assert f"{flag} <" in known, f"flash run has no {flag}"
    operations()


def operations():
    """The page for operators has every line of level ERROR, and every exit code."""
    page = text("docs", "operations.md")
    for words in re.findall(r'tracing::error!\([^;]*?"([^"]+)"\s*\)', sources("**", "*.rs")):
        assert words in page, f"docs/operations.md does not tell what to do at {words!r}"


def main():
    for check in (lint, context, health, compose, template):
        if sys.argv[1:] and check.__name__ not in sys.argv[1:]:
            continue
        began = time.monotonic()
        check()
        print(f"{check.__name__}: {time.monotonic() - began:.1f} s")


if __name__ == "__main__":
    main()
