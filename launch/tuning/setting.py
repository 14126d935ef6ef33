"""One setting of the machine: where it is, what is wanted there, and why. Everything else is derived from this."""

from dataclasses import dataclass
from typing import Literal

Compare = Literal["equal", "at_least", "mask", "one_of"]
SWAPS = "/proc/swaps"


@dataclass(frozen=True)
class Setting:
    """A setting. `path` may hold `*`: then it is one setting of several places (a core, an interrupt).

    Not every path is that of a file to write: see `places`.
    """

    id: str
    path: str
    wanted: str
    why: str
    compare: Compare = "equal"
    """equal: that text. at_least: each number at least that; larger ones stay. mask: that hexadecimal number.
    one_of: any of these words, else the first."""
    trade_off: str = ""
    """What it costs, and whom; empty when it costs nobody anything worth a word."""
    reserves_huge_pages: bool = False
    """Left alone when the pages would take more than a quarter of the memory."""
    some_refuse: bool = False
    """The kernel keeps some of these places as they are (interrupts of one core): that is no failure."""


def normal(text: str) -> str:
    """A file's text as it is compared, kept and shown: one blank between words; of `a [b] c` only b."""
    if "[" in text and "]" in text:
        text = text.partition("[")[2].partition("]")[0]
    return " ".join(text.split())


def goal(setting: Setting, current: str) -> str:
    """What to write where `current` stands; the same text when nothing is to be done. Numbers may not parse: equal."""
    if setting.compare == "mask":
        try:
            same = int(current.replace(",", ""), 16) == int(setting.wanted, 16)
        except ValueError:
            same = False
        return current if same else setting.wanted
    if setting.compare == "one_of":
        words = setting.wanted.split()
        return current if current in words else words[0]
    if setting.compare == "at_least":
        have, want = current.split(), setting.wanted.split()
        if len(have) == len(want) and all(word.isdecimal() for word in have):
            return " ".join(str(max(int(a), int(b))) for a, b in zip(have, want, strict=True))
    return setting.wanted
