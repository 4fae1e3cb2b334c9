"""The prompt of `flash sql`, typed at on a terminal: completion, history, commands, cancelling.

    FLASH=target/release/flash python test_prompt.py

    keys ──▶ pseudo-terminal ──▶ flash sql --lake | --server
                  ▲                    │
                  └── what it shows ◀──┘   read until it shows what is waited for

Needs no package.
"""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time

from served import FLASH, start

SHOWN_MAX_S = 20
PRESSED_MAX, PRESSED_EVERY_S = 40, 0.5
LONG = "SELECT count(*) FROM generate_series(1, 1000000000000) AS a WHERE value % 7 = 3;"
MADE = "CREATE TABLE shop.sales (seller VARCHAR, amount INT); INSERT INTO shop.sales VALUES ('asha', 7), ('bela', 5)"


class Prompt:
    """A prompt, and what it has shown since it was last asked."""

    def __init__(self, *arguments, home):
        environment = {**os.environ, "HOME": home, "TERM": "xterm", "NO_COLOR": "1"}
        self.process, self.terminal = pty.fork()
        if self.process == 0:
            os.execve(FLASH, [FLASH, "sql", *arguments], environment)
        fcntl.ioctl(self.terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 200, 0, 0))
        self.shown = ""
        self.until("flash> ")

    def until(self, text, seconds=SHOWN_MAX_S):
        """All that is shown up to this text."""
        deadline = time.monotonic() + seconds
        while (found := self.shown.find(text)) < 0:
            ready = select.select([self.terminal], [], [], max(0, deadline - time.monotonic()))[0]
            assert ready, f"{text!r} was not shown, but {self.shown!r}"
            more = os.read(self.terminal, 65_536).decode(errors="replace")
            self.shown += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", more)
        before, self.shown = self.shown[: found + len(text)], self.shown[found + len(text) :]
        return before

    def keys(self, text):
        os.write(self.terminal, text.encode())

    def line(self, text, shown, prompt="flash> "):
        """Type a line; what is shown up to this text. What is typed before the next prompt would be lost."""
        self.keys(f"{text}\r")
        before = self.until(shown)
        self.until(prompt)
        return before

    def end(self):
        self.keys("\\q\r")
        deadline = time.monotonic() + SHOWN_MAX_S
        while os.waitpid(self.process, os.WNOHANG) == (0, 0):
            assert time.monotonic() < deadline, "\\q did not end it"
            if select.select([self.terminal], [], [], 0.1)[0]:
                try:
                    os.read(self.terminal, 65_536)
                except OSError:
                    pass  # the other side is closed: it ends
        os.close(self.terminal)

    def kill(self):
        try:
            os.kill(self.process, signal.SIGKILL)
        except ProcessLookupError:
            pass


def cancelled(prompt):
    """Ctrl-C stops a query; pressed again, since a key that comes too early is one of the line's."""
    prompt.keys(f"{LONG}\r")
    for _ in range(PRESSED_MAX):
        prompt.keys("\x03")
        try:
            prompt.until("cancelled", PRESSED_EVERY_S)
            return prompt.until("flash> ")
        except AssertionError:
            assert "row)" not in prompt.shown, "the query is not long enough"
    raise AssertionError(f"the query was not cancelled: {prompt.shown[-2000:]!r}")


def typed(prompt):
    """A session as somebody types it."""
    # Tab goes on with the only thing that fits, and another one shows all that do.
    assert "SELECT amount FROM shop.sales" in prompt.line("SELECT am\t FROM shop.sa\t ORDER BY 1;", "(2 rows)")
    prompt.line("sele\t * from sh\t", "select * from shop.", "  ...> ")
    prompt.keys("where se\t\t")
    prompt.until("seller")
    assert "7" in prompt.line("ll\t = 'asha';", "(1 row)")
    # Up brings back the newest statement, with all of its lines.
    assert "7" in prompt.line("\x1b[A", "(1 row)")
    # A new table is offered, too.
    prompt.line("CREATE TABLE shop.zebras (stripes INT);", "shop.zebras: created")
    prompt.line("SELECT str\t FROM shop.z\t;", "(0 rows)")

    assert "sales" in prompt.line("\\d", "rows)")
    assert "seller" in prompt.line("\\d shop.sales", "(2 rows)")
    prompt.line("\\timing", "times are told")
    prompt.line("\\f json", "\r\n")
    assert '{"m":7}' in prompt.line("SELECT max(amount) AS m FROM shop.sales;", "took ").replace(" ", "")
    prompt.line("\\f table", "\r\n")
    prompt.line("\\timing", "times are not told")
    prompt.line("\\x", "is no command")
    prompt.line("SELECT nothing FROM shop.sales;", "error: ")

    # Ctrl-C leaves a statement that is being typed, and one that runs.
    prompt.line("SELECT 1 +", "+", "  ...> ")
    prompt.keys("\x03")
    prompt.until("flash> ")
    cancelled(prompt)
    assert "42" in prompt.line("SELECT 6 * 7 AS n;", "(1 row)")


def main():
    with tempfile.TemporaryDirectory(prefix="flash-prompt-") as folder:
        lake, script = f"{folder}/lake", f"{folder}/script.sql"
        subprocess.run([FLASH, "sql", "--lake", lake, "-c", MADE], check=True, capture_output=True)
        with open(script, "w") as file:
            file.write("SELECT 'from a file' AS a;\n")
        prompt = Prompt("--lake", lake, home=folder)
        try:
            typed(prompt)
            prompt.line(f"\\i {script}", "│ from a file")
            prompt.end()
        finally:
            prompt.kill()

        with start([FLASH, "run", "--no-project", "--lake", lake]) as server:
            prompt = Prompt("--server", server.url, home=folder)
            try:
                prompt.line("DROP TABLE shop.zebras;", "shop.zebras: dropped")
                typed(prompt)
                prompt.end()
            finally:
                prompt.kill()
    print("2 passed, 0 failed")


if __name__ == "__main__":
    sys.exit(main())
