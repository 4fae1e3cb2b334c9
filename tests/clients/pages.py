"""Pages of docs/ as lists of blocks, and what a block's output is compared with.

    ```sql                       it runs
    ```sql error "some text"     it is refused, in these words
    ```sql refused               so is each of its lines: `statement; -- some text`
    ```sql as asha               a server runs it, for this user
    ```sql skip "why"            it does not run, and the test says so
    ```sh                        the same for commands
    ```sh background             it goes on until the page ends, or a later block ends it
    ```sh eventually             it is asked again until its result is the one below
    ```slt                       a test; it is written to the file that its first line names
    ```text result               what the block above it prints; `...` stands for anything
"""

import re
import shlex
from dataclasses import dataclass, field

FENCE = re.compile(r"^ *```(.*)$")
NAMES_FILE = {"sql": r"-- (\S+\.sql)\n", "slt": r"# (\S+\.slt)\n"}


@dataclass
class Block:
    """One block: its language, the words after that, where it stands, and what it prints."""

    language: str
    words: list
    line: int
    text: str
    result: str | None = None
    file: str | None = field(init=False, default=None)

    def __post_init__(self):
        if named := re.match(NAMES_FILE.get(self.language, r"(?!)"), self.text):
            self.file = named[1]

    def refused(self):
        """The lines of a block of statements that are refused, each with its text."""
        return [re.fullmatch(r"(.+;) +-- (.+)", line).groups() for line in self.text.splitlines() if line]

    def has(self, word):
        return word in self.words

    def after(self, word):
        """What stands behind a word: `error "this"`."""
        return self.words[self.words.index(word) + 1] if word in self.words else None


def blocks(text):
    """The blocks of a page that are run, each with its result."""
    found, opened, lines = [], None, []
    for number, line in enumerate(text.splitlines(), 1):
        fence = FENCE.match(line)
        if opened is None and fence:
            opened, lines = (number, shlex.split(fence[1])), []
        elif fence and not fence[1].strip():
            place, words = opened
            opened = None
            body = "\n".join(lines) + "\n"
            if words[:2] == ["text", "result"]:
                assert found and found[-1].result is None, f"line {place}: a result without a block of its own"
                found[-1].result = body
            elif words and words[0] in ("sql", "sh", "slt"):
                found.append(Block(words[0], words[1:], place, body))
        elif opened is not None:
            lines.append(line)
    assert opened is None, f"the block in line {opened[0]} has no end"
    return found


def fits(expected, printed):
    """Whether a text is what a result says. Spaces at the ends of lines do not count."""
    pattern = ""
    for line in clean(expected):
        if line.strip() == "...":
            pattern += r"(?:.*\n)*?"
        else:
            pattern += ".*?".join(re.escape(part) for part in line.split("...")) + r"\n"
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in clean(printed))) is not None


def clean(text):
    lines = [line.rstrip() for line in text.replace("\r", "").splitlines()]
    while lines and not lines[-1]:
        lines.pop()
    return lines
