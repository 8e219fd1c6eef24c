"""The two programs that the kernel runs at entries and exits of calls, in BPF's instructions.

Each looks whether the call is one of those wanted, and the process one of those followed; then it writes a
record into the ring of its CPU. Where the ring is full it counts one that is lost. The records are
`qtrace.tracefile.rings.ENTER` and `EXIT`, but for their first eight bytes, which are the ring's own.

Sources: the kernel's Documentation/bpf/standardization/instruction-set.rst; linux/bpf.h for the helpers' numbers;
asm/ptrace.h for `struct pt_regs`, which raw tracepoints hand over.
"""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence

from qtrace.model.records import ENTER_BYTES, EXIT_BYTES
from qtrace.model.syscalls import Architecture, number_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final

_CTX, _FRAME = 1, 10
"""The register in which a program gets its arguments, and the end of its stack."""
_KTIME, _CPU, _PID_TGID, _READ_KERNEL, _RESERVE, _SUBMIT = 5, 8, 14, 113, 131, 132
_NO_WAKEUP: Final = 1
_MAP_FD, _MAP_VALUE = 1, 2  # BPF_PSEUDO_MAP_FD, BPF_PSEUDO_MAP_VALUE
_HEADER: Final = 8
"""What a ring puts before each record."""
_HIGHEST: Final = 511
"""No 64-bit call has a number above; it fits 8 words of 64 bits."""
FOLLOWED_WORDS: Final = 1 << 16
"""Of 64 bits: one for each id below 4,194,304, which is the limit of them (PID_MAX_LIMIT)."""
MARKS: Final = 1 << 16
"""So many bytes, one for each process by the lower half of its id, and as many again: whether it has made a call, or
called futex. Two processes that share one are both taken for having done so."""
_NUMBER, _REGISTERS = -16, -80
"""Places in the stack, from its end."""


class Registers:
    """Where `struct pt_regs` has what a call was given."""

    __slots__ = ("arguments", "first", "number", "number_bytes", "size")

    first: int
    """Where what is read begins."""
    size: int
    arguments: tuple[int, ...]
    """Of each argument, from there."""
    number: int
    """The call's number, from the beginning of the structure."""
    number_bytes: int

    def __init__(self, first: int, size: int, arguments: tuple[int, ...], number: int, number_bytes: int) -> None:
        self.first = first
        self.size = size
        self.arguments = arguments
        self.number = number
        self.number_bytes = number_bytes


REGISTERS: Final = {
    Architecture.X86_64: Registers(56, 64, (56, 48, 40, 0, 16, 8), 120, 8),  # r10 r9 r8 ax cx dx si di; orig_ax
    Architecture.AARCH64: Registers(0, 48, (0, 8, 16, 24, 32, 40), 280, 4),  # regs[0..5]; syscallno
}


class Targets:
    """What the programs use: descriptors of maps, by the numbers of CPUs in ascending order."""

    __slots__ = ("counters", "cpus", "first_counter", "followed", "marks", "rings")

    followed: int
    """A bit for each id of a process."""
    marks: int
    """Those of calls, then those of futex."""
    counters: int
    cpus: Sequence[int]
    rings: Sequence[int]
    first_counter: int
    """The counter of the first CPU: those of the others follow it."""

    def __init__(
        self, followed: int, marks: int, counters: int, cpus: Sequence[int], rings: Sequence[int], first_counter: int
    ) -> None:
        self.followed = followed
        self.marks = marks
        self.counters = counters
        self.cpus = cpus
        self.rings = rings
        self.first_counter = first_counter


NOTHING: Final = struct.pack("<BBhi", 0xB7, 0, 0, 0) + struct.pack("<BBhi", 0x95, 0, 0, 0)
"""A program that only returns 0."""


class _Code:
    """Instructions, and jumps whose ends are known later."""

    def __init__(self) -> None:
        self._done: list[bytes] = []
        self._jumps: list[tuple[int, str]] = []
        self._labels: dict[str, int] = {}

    def emit(self, code: int, to: int = 0, source: int = 0, offset: int = 0, value: int = 0) -> None:
        self._done.append(struct.pack("<BBhi", code, to | source << 4, offset, value))

    def move(self, to: int, source: int) -> None:
        self.emit(0xBF, to, source)

    def set(self, to: int, value: int) -> None:
        self.emit(0xB7, to, value=value)

    def add(self, to: int, value: int) -> None:
        self.emit(0x07, to, value=value)

    def both(self, to: int, value: int) -> None:
        self.emit(0x57, to, value=value)

    def set_byte(self, to: int, offset: int, value: int) -> None:
        self.emit(0x72, to, 0, offset, value)

    def shift_right(self, to: int, bits: int) -> None:
        self.emit(0x77, to, value=bits)

    def load(self, to: int, source: int, offset: int, size: int = 8) -> None:
        self.emit({1: 0x71, 4: 0x61, 8: 0x79}[size], to, source, offset)

    def store(self, to: int, offset: int, source: int, size: int = 8) -> None:
        self.emit({4: 0x63, 8: 0x7B}[size], to, source, offset)

    def wide(self, to: int, value: int, meaning: int = 0) -> None:
        """Set a register to 64 bits, or to a map (`_MAP_FD`), or to a place in a map (`_MAP_VALUE`)."""
        self._done.append(struct.pack("<BBhI", 0x18, to | meaning << 4, 0, value & 0xFFFFFFFF))
        self._done.append(struct.pack("<BBhI", 0, 0, 0, value >> 32))

    def call(self, helper: int) -> None:
        self.emit(0x85, value=helper)

    def jump(self, label: str) -> None:
        self._jumps.append((len(self._done), label))
        self.emit(0x05)

    def jump_if(self, relation: str, register: int, value: int, label: str) -> None:
        self._jumps.append((len(self._done), label))
        self.emit({"==": 0x15, ">": 0x25, "!=": 0x55}[relation], register, value=value)

    def label(self, name: str) -> None:
        self._labels[name] = len(self._done)

    def finished(self) -> bytes:
        done = self._done.copy()
        for place, label in self._jumps:
            before, after = done[place][:2], done[place][4:]
            done[place] = before + struct.pack("<h", self._labels[label] - place - 1) + after
        return b"".join(done)


def enter_program(machine: Architecture, numbers: Collection[int], targets: Targets) -> bytes:
    """Return the program of sys_enter: its arguments are the registers and the number of the call.

    Args:
        machine: Whose registers they are.
        numbers: The calls that are wanted.
        targets: Where records go, and of whom.
    """
    code, registers = _Code(), REGISTERS[machine]
    code.load(6, _CTX, 0)
    code.load(7, _CTX, 8)
    _leave_unless_wanted(code, numbers)
    _leave_unless_followed(code, targets)
    _mark(code, targets, number_of("futex", machine))
    _take_time(code)
    code.move(1, _FRAME)
    code.add(1, _REGISTERS)
    code.set(2, registers.size)
    code.move(3, 6)
    code.add(3, registers.first)
    code.call(_READ_KERNEL)
    _begin_record(code, targets, ENTER_BYTES)
    for place, offset in enumerate(registers.arguments):
        code.load(1, _FRAME, _REGISTERS + offset)
        code.store(0, 44 - _HEADER + 8 * place, 1)
    _end_record(code)
    return code.finished()


def exit_program(machine: Architecture, numbers: Collection[int], targets: Targets) -> bytes:
    """Return the program of sys_exit: its arguments are the registers and what the call returned; see above."""
    code, registers = _Code(), REGISTERS[machine]
    code.move(9, _CTX)
    _leave_unless_followed(code, targets)  # first: the number has to be read, and most programs are not followed
    code.set(1, 0)
    code.store(_FRAME, _NUMBER, 1)
    code.move(1, _FRAME)
    code.add(1, _NUMBER)
    code.set(2, registers.number_bytes)
    code.load(3, 9, 0)
    code.add(3, registers.number)
    code.call(_READ_KERNEL)
    code.load(7, _FRAME, _NUMBER)
    code.load(6, 9, 8)
    code.store(_FRAME, _REGISTERS, 6)  # the register is needed
    _leave_unless_wanted(code, numbers)
    _take_time(code)
    _begin_record(code, targets, EXIT_BYTES)
    code.load(1, _FRAME, _REGISTERS)
    code.store(0, 44 - _HEADER, 1)
    _end_record(code)
    return code.finished()


def _leave_unless_wanted(code: _Code, numbers: Collection[int]) -> None:
    """Go on only if the number in register 7 is one of these."""
    words: dict[int, int] = {}
    for number in numbers:
        words[number >> 6] = words.get(number >> 6, 0) | 1 << (number & 63)
    code.jump_if(">", 7, _HIGHEST, "out")
    code.move(1, 7)
    code.shift_right(1, 6)
    for place, word in sorted(words.items()):
        code.jump_if("!=", 1, place, f"not {place}")
        code.wide(2, word)
        code.jump("test")
        code.label(f"not {place}")
    code.jump("out")
    code.label("test")
    code.move(3, 7)
    code.both(3, 63)
    code.emit(0x7F, 2, 3)  # r2 >>= r3
    code.both(2, 1)
    code.jump_if("==", 2, 0, "out")


def _leave_unless_followed(code: _Code, targets: Targets) -> None:
    """Go on only if the process is one of those followed: its ids to register 8."""
    code.call(_PID_TGID)
    code.move(8, 0)
    code.move(1, 8)
    code.shift_right(1, 32)
    code.move(2, 1)
    code.shift_right(2, 6)
    code.both(2, FOLLOWED_WORDS - 1)
    code.emit(0x67, 2, value=3)  # r2 <<= 3
    code.wide(3, targets.followed, _MAP_VALUE)
    code.emit(0x0F, 3, 2)  # r3 += r2
    code.load(3, 3, 0)
    code.both(1, 63)
    code.emit(0x7F, 3, 1)  # r3 >>= r1
    code.both(3, 1)
    code.jump_if("==", 3, 0, "out")


def _mark(code: _Code, targets: Targets, futex: int | None) -> None:
    """Take note that the process has made a call. It is read before it is written: CPUs share what is only read."""
    for offset, label in ((0, "other"), (MARKS, "marked")):
        if offset and futex is not None:
            code.jump_if("!=", 7, futex, label)
        code.move(1, 8)
        code.shift_right(1, 32)
        code.both(1, MARKS - 1)
        code.wide(2, targets.marks | offset << 32, _MAP_VALUE)
        code.emit(0x0F, 2, 1)  # r2 += r1
        code.load(1, 2, 0, 1)
        code.jump_if("!=", 1, 0, f"is {label}")
        code.set_byte(2, 0, 1)
        code.label(f"is {label}")
    code.label("marked")


def _take_time(code: _Code) -> None:
    """Set register 9 to the time."""
    code.call(_KTIME)
    code.move(9, 0)


def _begin_record(code: _Code, targets: Targets, size: int) -> None:
    """Reserve a record and fill in who, when and which call; its address to register 0."""
    code.call(_CPU)
    _choose(code, targets, 0, len(targets.cpus) - 1)
    code.label("chosen")
    code.set(2, size - _HEADER)
    code.set(3, 0)
    code.call(_RESERVE)
    code.jump_if("==", 0, 0, "lost")
    code.move(1, 8)
    code.shift_right(1, 32)
    code.store(0, 8 - _HEADER, 1, 4)  # pid
    code.store(0, 12 - _HEADER, 8, 4)  # tid
    code.store(0, 16 - _HEADER, 9)
    code.store(0, 36 - _HEADER, 7)


def _choose(code: _Code, targets: Targets, lowest: int, highest: int) -> None:
    """Set register 1 to the ring of the CPU in register 0, and 6 to its counter: by halves.

    A CPU that was not there when the programs were made gets that of a neighbour: a ring takes any number of writers.
    """
    if lowest == highest:
        code.wide(1, targets.rings[lowest], _MAP_FD)
        offset = (targets.first_counter + lowest) * 8
        code.wide(6, targets.counters | offset << 32, _MAP_VALUE)
        code.jump("chosen")
        return
    middle = (lowest + highest) // 2
    above = f"above {middle}"
    code.jump_if(">", 0, targets.cpus[middle], above)
    _choose(code, targets, lowest, middle)
    code.label(above)
    _choose(code, targets, middle + 1, highest)


def _end_record(code: _Code) -> None:
    code.move(1, 0)
    code.set(2, _NO_WAKEUP)
    code.call(_SUBMIT)
    code.jump("out")
    code.label("lost")
    code.set(1, 1)
    code.emit(0xDB, 6, 1)  # lock *(u64 *)r6 += r1
    code.label("out")
    code.set(0, 0)
    code.emit(0x95)  # exit
