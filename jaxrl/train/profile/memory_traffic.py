"""Bytes that a compiled program reads and writes, loops multiplied by their lengths.

XLA's own count (`compiled.cost_analysis()`) takes the body of a loop once, however often it runs.
The compiled program's text (`compiled.as_text()`) says how often, where the compiler knows.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import NamedTuple

# What names memory and moves none of it.
FREE = frozenset(
    [
        "parameter",
        "constant",
        "tuple",
        "get-tuple-element",
        "bitcast",
        "after-all",
        "optimization-barrier",
    ]
)
SLICING = frozenset(["slice", "dynamic-slice", "gather"])


class Update(NamedTuple):
    """Positions of operands: the one that is written in place, and the one that is written."""

    target: int
    source: int


UPDATES = {"dynamic-update-slice": Update(0, 1), "scatter": Update(0, 2)}

COMPUTATION = re.compile(r"^(?P<entry>ENTRY )?%?(?P<name>[\w.\-]+) .*\{$")
INSTRUCTION = re.compile(
    r"^ +(?P<root>ROOT )?%?(?P<name>[\w.\-]+) = "
    r"(?P<shape>.*?) (?P<opcode>[a-z][a-z0-9\-]*)\((?P<rest>.*)$"
)
SHAPE = re.compile(r"\b([a-z]+)(\d*)\w*\[([\d,<=]*)\]")
NAME = re.compile(r"%([\w.\-]+)")
TRIP_COUNT = re.compile(r'"known_trip_count":\{"n":"(\d+)"')
CALLED = re.compile(r"\b(?:calls|to_apply|body|condition)=%?([\w.\-]+)")
BRANCHES = re.compile(r"\b(?:branch_computations=\{[^}]*\}|(?:true|false)_computation=%[\w.\-]+)")


class Traffic(NamedTuple):
    """Bytes; and the loops of unknown length, whose bodies were counted once."""

    bytes: float = 0.0
    unbounded: int = 0


@dataclass(frozen=True)
class Instruction:
    """One line of a compiled program."""

    name: str
    opcode: str
    size: float  # bytes of the result
    operands: list[str]
    attributes: str
    is_root: bool


def traffic(text: str) -> Traffic:
    """Bytes read and written by a compiled program, from its text.

    Every instruction reads its operands from memory and writes its result, as XLA's own analysis
    has it; what happens inside a fusion costs nothing. Of an array that is only sliced, the slices
    count; of one that is updated in place, the update. A conditional takes its dearest branch, a
    loop of unknown length its body once. Caches are left out of account: a small array that never
    leaves them counts like a large one.
    """
    program = HloProgram(text)
    return program.computation(program.entry)


def size_of(shape: str) -> float:
    """Bytes of a shape as XLA writes it: f32[2,3]{1,0} -> 24; of a tuple, those of its parts."""
    total = 0.0
    for kind, bits, dimensions in SHAPE.findall(shape):
        width = float(bits or 8 * (kind == "pred")) / 8  # a token has no bits
        total += width * math.prod(int(size.lstrip("<=")) for size in dimensions.split(",") if size)
    return total


class HloProgram:
    """A compiled program: its computations by name."""

    def __init__(self, text: str) -> None:
        self.computations: dict[str, dict[str, Instruction]] = {}
        self.entry = ""
        self._known: dict[str, Traffic] = {}
        for line in text.splitlines():
            if header := COMPUTATION.match(line):
                current = self.computations.setdefault(header["name"], {})
                if header["entry"]:
                    self.entry = header["name"]
            elif found := INSTRUCTION.match(line):
                operands, attributes = _close(found["rest"])
                current[found["name"]] = Instruction(
                    name=found["name"],
                    opcode=found["opcode"],
                    size=size_of(found["shape"]),
                    operands=NAME.findall(operands),
                    attributes=attributes,
                    is_root=bool(found["root"]),
                )

    def computation(self, name: str) -> Traffic:
        """The traffic of one run of a computation."""
        if name not in self._known:
            instructions = self.computations[name]
            parts = [
                self._instruction(instruction, instructions)
                for instruction in instructions.values()
            ]
            self._known[name] = _sum(parts)
        return self._known[name]

    def _instruction(self, instruction: Instruction, scope: dict[str, Instruction]) -> Traffic:
        opcode, attributes = instruction.opcode, instruction.attributes
        if opcode in FREE or opcode.endswith("-done"):
            return Traffic()
        called = CALLED.findall(attributes)
        if opcode == "while":
            once = _sum([self.computation(name) for name in called])
            trips = TRIP_COUNT.search(attributes)
            if trips is None:
                return once._replace(unbounded=once.unbounded + 1)
            return once._replace(bytes=once.bytes * int(trips[1]))
        if opcode == "conditional":
            branches = NAME.findall(" ".join(BRANCHES.findall(attributes)))
            return max(self.computation(name) for name in branches)
        if opcode in ("call", "async-start"):
            return self.computation(called[0])
        if opcode == "fusion":
            return Traffic(_fusion(self.computations[called[0]]))
        return Traffic(_plain(instruction, scope))


def _sum(parts: list[Traffic]) -> Traffic:
    return Traffic(sum(part.bytes for part in parts), sum(part.unbounded for part in parts))


def _close(text: str) -> tuple[str, str]:
    """The text up to the parenthesis that closes it, and the text after."""
    depth = 1
    for index, character in enumerate(text):
        depth += (character == "(") - (character == ")")
        if depth == 0:
            return text[:index], text[index + 1 :]
    return text, ""


def _plain(instruction: Instruction, scope: dict[str, Instruction]) -> float:
    """Bytes of an instruction by itself."""
    sizes = [scope[name].size for name in instruction.operands if name in scope]
    if instruction.opcode in SLICING:
        return 2 * instruction.size + sum(sizes[1:])
    update = UPDATES.get(instruction.opcode)
    if update is not None and len(sizes) > update.source:
        return sizes[update.source] + sum(sizes[1:])
    return instruction.size + sum(sizes)


def _fusion(fused: dict[str, Instruction]) -> float:
    """Bytes of a fusion: what it reads of its parameters, and what it writes."""
    users: dict[str, list[tuple[Instruction, int]]] = {}
    for instruction in fused.values():
        for position, name in enumerate(instruction.operands):
            users.setdefault(name, []).append((instruction, position))

    def read(name: str, whole: float) -> float:
        total = 0.0
        for user, position in users.get(name, []):
            if user.opcode == "bitcast":
                total += read(user.name, whole)
            elif user.opcode in SLICING and position == 0:
                total += user.size
            elif user.opcode not in UPDATES or UPDATES[user.opcode].target != position:
                total += whole
        return min(total, whole)

    def written(instruction: Instruction) -> float:
        if instruction.opcode == "tuple":
            return sum(written(fused[name]) for name in instruction.operands)
        if instruction.opcode == "bitcast":
            return written(fused[instruction.operands[0]])
        if instruction.opcode in UPDATES:
            source = UPDATES[instruction.opcode].source
            return fused[instruction.operands[source]].size
        return 0.0 if instruction.opcode == "parameter" else instruction.size

    inputs = [instruction for instruction in fused.values() if instruction.opcode == "parameter"]
    roots = [instruction for instruction in fused.values() if instruction.is_root]
    return sum(read(one.name, one.size) for one in inputs) + sum(written(root) for root in roots)
