"""`flash run` on a lake of its own, for clients that are tested against it."""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import threading

FLASH = os.environ.get("FLASH", "target/release/flash")


class Server:
    """A running server: where it listens, and what it holds."""

    def __init__(self, process, url):
        self.process, self.url, self.killed = process, url, False

    def kill(self):
        """Without a word, in the middle of whatever it does."""
        self.killed = True
        self.process.kill()
        self.process.wait()

    def memory(self, key="VmRSS"):
        """MB that are resident now; with "VmHWM" the most there ever were."""
        with open(f"/proc/{self.process.pid}/status") as status:
            return next(int(line.split()[1]) for line in status if line.startswith(key)) / 1024


def certificates(folder):
    """An authority, and a certificate for this machine that it has signed; files of PEM, or None without openssl."""
    if shutil.which("openssl") is None:
        return None
    ca, cert, key = (f"{folder}/{name}.pem" for name in ("ca", "cert", "key"))
    new = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    named = ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-addext", "basicConstraints=critical,CA:FALSE"]
    signed = ["-CA", ca, "-CAkey", f"{folder}/ca.key"]
    for more in (["-keyout", f"{folder}/ca.key", "-out", ca, "-subj", "/CN=an authority"],
                 ["-keyout", key, "-out", cert, "-subj", "/CN=flash", *named, *signed]):  # fmt: skip
        subprocess.run([*new, *more], check=True, capture_output=True)
    return ca, cert, key


@contextlib.contextmanager
def serve(folder, objects, **environment):
    """A server over `folder`/lake, with a project of these objects, path -> SQL."""
    for path, sql in objects.items():
        os.makedirs(os.path.dirname(f"{folder}/sql/{path}"), exist_ok=True)
        with open(f"{folder}/sql/{path}.sql", "w") as file:
            file.write(sql)
    command = [FLASH, "run", "--project", f"{folder}/sql", "--lake", f"{folder}/lake"]
    with start(command, **environment) as server:
        yield server


@contextlib.contextmanager
def start(command, **environment):
    """A verb that serves, until the end of the block."""
    command = [*command, "--flight", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    pipes = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    process = subprocess.Popen(command, env={**os.environ, **environment}, **pipes)
    server = None
    try:
        said = []
        url = next((found[0] for line in process.stderr if (found := address(line, said))), None)
        assert url, f"{command}: {''.join(said)}"
        # What else it says must not fill the pipe.
        threading.Thread(target=process.stderr.read, daemon=True).start()
        server = Server(process, url)
        yield server
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            code = process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
    assert code == 0 or server and server.killed, f"the server ended with {code}"


def address(line, said):
    said.append(line)
    return re.search(r"grpc(\+tls)?://[\d.]+:\d+", line)
