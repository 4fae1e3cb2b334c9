"""The pages for analysts are true: each block of SQL and of shell runs, and gives what the page shows.

    FLASH=target/release/flash python test_docs.py [page ...]

    docs/tutorial.md ─┐                 ┌─ sh ──▶ bash, on a terminal, in the page's own empty folder
    docs/sql.md       ├─ blocks ─ in order ─ sql ─▶ flash sql, on the lake of that folder
    docs/recipes.md  ─┘                 └─ sql as asha ─▶ flash run there, and flash sql --user asha

A block that begins with `-- path.sql` (or `# path.slt`) is written to that file. What the words of a fence mean stands in pages.py.
"""

import contextlib
import fcntl
import os
import pty
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from pathlib import Path

from pages import Block, blocks, fits
from served import start

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGES = ["tutorial.md", "sql.md", "recipes.md"]
FLASH = Path(os.environ.get("FLASH", "target/release/flash")).resolve()
IN_OWN_NETWORK = "--in-own-network"
BLOCK_S, READY_S, EVENTUALLY_S = 60, 30, 20


class Wrong(Exception):
    """A block that does not do what its page says."""


class Page:
    """A page in a folder of its own."""

    def __init__(self, path, folder):
        self.path, self.folder = path, folder
        self.blocks = blocks(path.read_text())
        self.skipped, self.passwords, self.running = [], {}, []
        self.environment = {**os.environ, "NO_COLOR": "1", "HOME": str(folder), "PATH": f"{folder}/.bin:{os.environ['PATH']}"}
        for name in [name for name in self.environment if name.startswith(("FLASH", "AWS_"))]:
            del self.environment[name]
        (folder / ".bin").mkdir()
        (folder / ".bin/flash").symlink_to(FLASH)

    def run(self):
        # The path of a source is taken from where its reader runs.
        outside = os.getcwd()
        os.chdir(self.folder)
        try:
            for block in self.blocks:
                try:
                    self.one(block)
                except (Wrong, subprocess.TimeoutExpired) as wrong:
                    raise Wrong(f"{self.path}:{block.line}: {wrong}\n\n{block.text}") from None
        finally:
            for terminal in self.running:
                terminal.interrupt()
            os.chdir(outside)

    def one(self, block):
        if block.has("skip"):
            self.skipped.append(f"{self.path.name}:{block.line}: {block.after('skip')}")
        elif block.file:
            file = self.folder / block.file
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.text)
        elif block.has("refused"):
            for statement, error in block.refused():
                judge(Block("sql", ["error", error], block.line, statement), *self.sql(statement, "--lake", "lake"))
        elif block.has("background"):
            terminal = Terminal(block.text, self.folder, self.environment)
            self.running.append(terminal)
            terminal.says(block.result or "")
        elif block.has("eventually"):
            self.eventually(block)
        else:
            judge(block, *self.carried_out(block))

    def eventually(self, block):
        before = time.monotonic()
        while True:
            try:
                return judge(block, *self.carried_out(block))
            except Wrong:
                if time.monotonic() - before > EVENTUALLY_S:
                    raise

    def carried_out(self, block):
        """The exit code and what was printed."""
        if block.language == "sh":
            return Terminal(block.text, self.folder, self.environment).end()
        for name, password in re.findall(r"CREATE USER (\w+) PASSWORD '([^']*)'", block.text):
            self.passwords[name] = password
        if user := block.after("as"):
            return self.served(block, user)
        return self.sql(block.text, "--lake", "lake")

    def served(self, block, user):
        project = self.folder / ".project/public"
        project.mkdir(parents=True, exist_ok=True)
        (project / "nothing.sql").write_text("CREATE TABLE public.nothing (n INT)")
        with start([FLASH, "run", "--project", project.parent, "--lake", self.folder / "lake"]) as server:
            return self.sql(block.text, "--server", server.url, "--user", user, FLASH_PASSWORD=self.passwords[user])

    def sql(self, text, *where, **environment):
        done = subprocess.run(
            ["flash", "sql", "--format", "table", *where],
            input=text, cwd=self.folder, env={**self.environment, **environment}, timeout=BLOCK_S,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )
        return done.returncode, done.stdout


class Terminal:
    """Commands in bash, on a terminal of their own."""

    def __init__(self, text, folder, environment):
        self.master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 400, 0, 0))
        command = ["bash", "-euo", "pipefail", "-c", text]
        self.process = subprocess.Popen(
            command, cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=slave, stderr=slave, start_new_session=True
        )
        os.close(slave)
        self.printed = b""

    def read(self, until):
        """Some more of what it prints; False at its end."""
        ready, _, _ = select.select([self.master], [], [], max(0, until - time.monotonic()))
        if not ready:
            self.interrupt()
            raise Wrong(f"it takes too long; so far it has printed:\n{self.printed.decode()}")
        try:
            more = os.read(self.master, 1 << 16)
        except OSError:  # The other side of the terminal is closed.
            more = b""
        self.printed += more
        return more != b""

    def end(self):
        until = time.monotonic() + BLOCK_S
        while self.read(until):
            pass
        os.close(self.master)
        return self.process.wait(BLOCK_S), self.printed.decode()

    def says(self, expected):
        """Wait until it has said so much."""
        until = time.monotonic() + READY_S
        while not fits(f"{expected.rstrip()}\n...", self.printed.decode()):
            if not self.read(until):
                raise Wrong(f"it should print:\n{expected}\nit has ended, and printed:\n{self.printed.decode()}")
        # What else it says must not fill the terminal.
        threading.Thread(target=self.drain, daemon=True).start()

    def drain(self):
        with contextlib.suppress(OSError):
            while os.read(self.master, 1 << 16):
                pass

    def interrupt(self):
        """As Ctrl-C does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGINT)
        self.process.wait(BLOCK_S)


def judge(block, code, printed):
    error = block.after("error")
    if error is not None and (code == 0 or error not in printed):
        raise Wrong(f"it should be refused with: {error}\nits exit code is {code}, and it has printed:\n{printed}")
    if error is None and code != 0:
        raise Wrong(f"its exit code is {code}, and it has printed:\n{printed}")
    if block.result is not None and not fits(block.result, printed):
        raise Wrong(f"it should print:\n{block.result}\nit has printed:\n{printed}")


def into_own_network():
    """Go on where nobody else listens, so that a page's ports are free. Returns where that cannot be."""
    unshare = [shutil.which("unshare") or "false", "--map-root-user", "--net"]
    if subprocess.run([*unshare, "true"], capture_output=True).returncode == 0:
        os.execv(unshare[0], [*unshare, sys.executable, *sys.argv, IN_OWN_NETWORK])
    print("the ports of this machine are used: 50051, 8080 and 4567 have to be free")


def loopback_up():
    up, set_flags = 1, 0x8914
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sh14x", b"lo", up))


def main():
    if IN_OWN_NETWORK in sys.argv:
        loopback_up()
    else:
        into_own_network()
    pages = [argument for argument in sys.argv[1:] if argument != IN_OWN_NETWORK] or PAGES
    for name in pages:
        before = time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            page = Page(DOCS / name, Path(folder))
            assert page.blocks, f"{name} has no blocks"
            try:
                page.run()
            except Wrong as wrong:
                sys.exit(f"FAILED {wrong}")
        for skipped in page.skipped:
            print(f"skipped: {skipped}")
        print(f"ok  {name}: {len(page.blocks) - len(page.skipped)} blocks in {time.monotonic() - before:.1f} s", flush=True)
    print(f"{len(pages)} passed, 0 failed")


if __name__ == "__main__":
    sys.exit(main())
