"""Reads a regular expression of RE2's syntax into a tree. What devices cannot run in linear time is refused.

The tree is made of tuples::

    ("set", negated, ignore_case, ((low, high), ...))   one character
    ("cat", (node, ...))   ("alt", (node, ...))
    ("rep", node, least, most or None)
    ("at", kind)           kind: begin, end, line_begin, line_end, word, not_word
"""

from __future__ import annotations

from typing import Any

Tree = tuple[Any, ...]
Ranges = tuple[tuple[int, int], ...]

MAX_PATTERN_CHARS = 2000
MAX_NESTING = 50
MAX_REPEAT = 1000  # RE2's own limit

_DIGIT: Ranges = ((48, 57),)
_WORD: Ranges = ((48, 57), (65, 90), (95, 95), (97, 122))
_SPACE: Ranges = ((9, 10), (12, 13), (32, 32))
_CLASSES = {"d": _DIGIT, "w": _WORD, "s": _SPACE}
_POSIX: dict[str, Ranges] = {
    "alnum": ((48, 57), (65, 90), (97, 122)),
    "alpha": ((65, 90), (97, 122)),
    "ascii": ((0, 127),),
    "blank": ((9, 9), (32, 32)),
    "cntrl": ((0, 31), (127, 127)),
    "digit": _DIGIT,
    "graph": ((33, 126),),
    "lower": ((97, 122),),
    "print": ((32, 126),),
    "punct": ((33, 47), (58, 64), (91, 96), (123, 126)),
    "space": ((9, 13), (32, 32)),
    "upper": ((65, 90),),
    "word": _WORD,
    "xdigit": ((48, 57), (65, 70), (97, 102)),
}
_CONTROLS = {"a": 7, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11}
LAST_CODE = 0x10FFFF


class PatternError(ValueError):
    """The pattern cannot be used; ``hint`` says what would do."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def complement(ranges: Ranges) -> Ranges:
    out, next_low = [], 0
    for low, high in sorted(ranges):
        if low > next_low:
            out.append((next_low, low - 1))
        next_low = max(next_low, high + 1)
    if next_low <= LAST_CODE:
        out.append((next_low, LAST_CODE))
    return tuple(out)


def parse_pattern(pattern: str, ignore_case: bool) -> Tree:
    """The tree of a pattern. Raises PatternError."""
    if len(pattern) > MAX_PATTERN_CHARS:
        raise PatternError(f"it has more than {MAX_PATTERN_CHARS} characters", "write several items")
    parser = _Parser(pattern)
    tree = parser.alternatives({"i": ignore_case, "m": False, "s": False, "U": False}, 0)
    if parser.at < len(pattern):
        raise PatternError("a parenthesis is closed that was never opened")
    return tree


class _Parser:
    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0

    def peek(self, text: str) -> bool:
        return self.pattern.startswith(text, self.at)

    def take(self) -> str:
        if self.at >= len(self.pattern):
            raise PatternError("it ends too early")
        self.at += 1
        return self.pattern[self.at - 1]

    def alternatives(self, flags: dict[str, bool], depth: int) -> Tree:
        if depth > MAX_NESTING:
            raise PatternError(f"groups are nested deeper than {MAX_NESTING}")
        flags = dict(flags)  # a (?i) inside a group ends with the group
        branches = [self.sequence(flags, depth)]
        while self.peek("|"):
            self.at += 1
            branches.append(self.sequence(flags, depth))
        return branches[0] if len(branches) == 1 else ("alt", tuple(branches))

    def sequence(self, flags: dict[str, bool], depth: int) -> Tree:
        parts: list[Tree] = []
        while self.at < len(self.pattern) and not self.peek("|") and not self.peek(")"):
            atom = self.atom(flags, depth)
            if atom is not None:
                parts.append(self.repeated(atom))
        return parts[0] if len(parts) == 1 else ("cat", tuple(parts))

    def repeated(self, atom: Tree) -> Tree:
        count = 0
        while self.at < len(self.pattern):
            bounds = self.quantifier()
            if bounds is None:
                break
            count += 1
            if count > 1:
                raise PatternError("two repetitions follow each other", "write (?:...) around the inner one")
            atom = ("rep", atom, *bounds)
            if self.peek("?"):  # lazy: the same strings are found
                self.at += 1
        return atom

    def quantifier(self) -> tuple[int, int | None] | None:
        char = self.pattern[self.at]
        if char in "*+?":
            self.at += 1
            return {"*": (0, None), "+": (1, None), "?": (0, 1)}[char]
        if char != "{":
            return None
        end = self.pattern.find("}", self.at)
        least, comma, most = self.pattern[self.at + 1 : end].partition(",") if end > 0 else ("", "", "")
        if not (least.isascii() and least.isdigit() and (not most or (most.isascii() and most.isdigit()))):
            return None  # a brace that counts nothing is itself, as in RE2
        low = int(least)
        high = (int(most) if most else None) if comma else low
        if max(low, high or 0) > MAX_REPEAT or (high is not None and high < low):
            raise PatternError(f"a repetition is not within 0 to {MAX_REPEAT}")
        self.at = end + 1
        return low, high

    def atom(self, flags: dict[str, bool], depth: int) -> Tree | None:
        char = self.take()
        if char == "(":
            return self.group(flags, depth)
        if char == "[":
            return self.bracket(flags)
        if char == ".":
            return ("set", False, False, ((0, LAST_CODE),) if flags["s"] else complement(((10, 10),)))
        if char == "^":
            return ("at", "line_begin" if flags["m"] else "begin")
        if char == "$":
            return ("at", "line_end" if flags["m"] else "end")
        if char == "\\":
            return self.escape(flags)
        if char in "*+?":
            raise PatternError("a repetition has nothing to repeat")
        return self.literal(char, flags)

    def literal(self, char: str, flags: dict[str, bool]) -> Tree:
        codes = {char}
        if flags["i"]:
            codes |= {form for form in (char.lower(), char.upper(), char.casefold()) if len(form) == 1}
        return ("set", False, flags["i"], tuple((ord(code), ord(code)) for code in sorted(codes)))

    def group(self, flags: dict[str, bool], depth: int) -> Tree | None:
        if self.peek("?"):
            self.at += 1
            if self.peek("P<") or (self.peek("<") and not self.peek("<=") and not self.peek("<!")):
                end = self.pattern.find(">", self.at)
                name = self.pattern[self.at : end].lstrip("P").lstrip("<")
                if end < 0 or not name.isidentifier():
                    raise PatternError("a group's name is not usable")
                self.at = end + 1
            elif self.peek("=") or self.peek("!") or self.peek("<"):
                raise PatternError(
                    "it looks ahead or behind, which has no linear time",
                    "RE2 has no lookaround; write it without",
                )
            else:
                scoped = self.flags(flags)
                if scoped is None:
                    return None
                flags = scoped
        tree = self.alternatives(flags, depth + 1)
        if self.at >= len(self.pattern):
            raise PatternError("a parenthesis is not closed")
        self.at += 1
        return tree

    def flags(self, flags: dict[str, bool]) -> dict[str, bool] | None:
        """``(?i:`` gives the flags of the group; ``(?i)`` changes those in force and gives None."""
        changed = dict(flags)
        value = True
        while True:
            char = self.take()
            if char in "imsU":
                changed[char] = value
            elif char == "-" and value:
                value = False
            elif char == ":":
                return changed
            elif char == ")":
                flags.update(changed)
                return None
            else:
                raise PatternError(
                    "a group starts with what RE2 does not know",
                    "RE2 has no lookaround, conditions or atomic groups",
                )

    def escape(self, flags: dict[str, bool]) -> Tree:
        char = self.take()
        if char.lower() in _CLASSES:
            ranges = _CLASSES[char.lower()]
            return ("set", False, False, ranges if char.islower() else complement(ranges))
        if char in "bB":
            return ("at", "word" if char == "b" else "not_word")
        if char == "A":
            return ("at", "begin")
        if char == "z":
            return ("at", "end")
        if char == "Q":
            end = self.pattern.find("\\E", self.at)
            text = self.pattern[self.at : end if end >= 0 else len(self.pattern)]
            self.at = end + 2 if end >= 0 else len(self.pattern)
            return ("cat", tuple(self.literal(each, flags) for each in text))
        return self.literal(chr(self.code(char)), flags)

    def code(self, char: str) -> int:
        """The character an escape stands for."""
        if char in _CONTROLS:
            return _CONTROLS[char]
        if char == "x":
            return self.hexadecimal()
        if char == "0":
            digits = ""
            while len(digits) < 2 and self.at < len(self.pattern) and self.pattern[self.at] in "01234567":
                digits += self.take()
            return int(digits or "0", 8)
        if char in "123456789":
            raise PatternError(
                "it refers back to a group, which has no linear time", "RE2 has no back references"
            )
        if char.isalnum():
            raise PatternError(
                f"the escape \\{ascii(char)[1:-1]} is not known to devices", "write the characters themselves"
            )
        return ord(char)

    def hexadecimal(self) -> int:
        if self.peek("{"):
            end = self.pattern.find("}", self.at)
            if end < 0:
                raise PatternError("a \\x escape is not closed")
            digits, self.at = self.pattern[self.at + 1 : end], end + 1
        else:
            digits = self.pattern[self.at : self.at + 2]
            self.at += 2
            if len(digits) < 2:
                raise PatternError("a \\x escape is not two hex digits")
        if not 1 <= len(digits) <= 6 or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
            raise PatternError("a \\x escape is not hexadecimal")
        value = int(digits, 16)
        if value > LAST_CODE or 0xD800 <= value <= 0xDFFF:
            raise PatternError("a \\x escape is no character")
        return value

    def bracket(self, flags: dict[str, bool]) -> Tree:
        negated = self.peek("^")
        self.at += negated
        ranges: list[tuple[int, int]] = []
        first = True
        while first or not self.peek("]"):
            first = False
            if self.peek("[:"):
                ranges.extend(self.posix())
                continue
            low = self.member(ranges)
            if low is None:
                continue
            high = low
            if self.peek("-") and not self.peek("-]"):
                self.at += 1
                extra: list[tuple[int, int]] = []
                end = self.member(extra)
                if end is None or end < low:
                    raise PatternError("a range of characters ends before it begins")
                high = end
            ranges.append((low, high))
        self.at += 1
        return ("set", negated, flags["i"], tuple(sorted(ranges)))

    def member(self, ranges: list[tuple[int, int]]) -> int | None:
        """One character of a bracket, or None after adding a class to ``ranges``."""
        char = self.take()
        if char != "\\":
            return ord(char)
        char = self.take()
        if char.lower() in _CLASSES:
            known = _CLASSES[char.lower()]
            ranges.extend(known if char.islower() else complement(known))
            return None
        return self.code(char)

    def posix(self) -> Ranges:
        end = self.pattern.find(":]", self.at)
        name = self.pattern[self.at + 2 : end] if end >= 0 else ""
        negated = name.startswith("^")
        known = _POSIX.get(name.lstrip("^"))
        if known is None:
            raise PatternError("a class of characters is not known")
        self.at = end + 2
        return complement(known) if negated else known
