"""What is looked up in /proc where no stop tells when: descriptors and futex words, after the fact.

A word or a descriptor is looked up when its first use comes out of the ring buffers, some ten
milliseconds later. Calls that close descriptors, or end the whole address space (exit_group, exec),
do stop, so nothing is missed: before they take effect, all that is about to vanish is looked at.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from qtrace.capture import procfs
from qtrace.capture.callhooks import PRIVATE_WORDS, CallHooks, word_object
from qtrace.model.futex import FUTEX_PRIVATE
from qtrace.model.syscalls import Architecture, by_number, number_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from qtrace.capture.placement import Placement
    from qtrace.capture.tracees import RowSink
    from qtrace.tracefile.rings import Array
    from qtrace.tracefile.threads import Entry

_KEPT_NS = 5_000_000_000
"""How long the mappings of an ended image are kept: its calls come out of the rings long before that."""
_LAST_CALLS = ("exit_group", "execve", "execveat")
_ON_DESCRIPTORS = frozenset({
    "read", "readv", "pread64", "recvfrom", "write", "writev", "pwrite64", "sendto", "epoll_wait", "epoll_pwait",
    "epoll_pwait2",
})  # fmt: skip


class _Image:
    """The futex words of one program in one process, as far as they were seen."""

    __slots__ = ("end_ns", "last_look", "maps", "private_words", "words")

    def __init__(self) -> None:
        self.words: set[int] = set()
        self.private_words = 0
        self.maps = procfs.NO_MAPS
        self.last_look: procfs.Maps | None = None
        """The mappings as they were just before the image ended."""
        self.end_ns: int | None = None


class PerfHooks(CallHooks):
    """The hooks of the calls that stop, and the looking up for those that do not."""

    def __init__(self, sink: RowSink, machine: Architecture, placement: Placement) -> None:
        """See `CallHooks`."""
        super().__init__(sink, machine, placement)
        self._images: dict[int, list[_Image]] = {}
        self.has_called: Callable[[int], tuple[bool, bool]] = lambda pid: (True, True)
        """Tells whether a process may have made calls that have come, or will come, out of the rings, and of futex."""
        self._futex_number = number_of("futex", machine)
        numbers = [number for number, row in by_number(machine).items() if row.name in _ON_DESCRIPTORS]
        self._on_descriptors = sorted(numbers)
        for name in _LAST_CALLS:
            number = number_of(name, machine)
            if number is not None:
                self.entry[number] = self._before_the_end
                self.exit[number] = self._exec_failed

    # --- from the loop's thread ------------------------------------------------------------------

    def _before_the_end(self, tid: int, pid: int, call: list[int], now: int) -> None:
        any_call, any_futex = self.has_called(pid)
        if not any_call:
            return
        known = self._of(pid)
        try:
            for name in os.listdir(f"/proc/{pid}/fd"):
                if int(name) not in known.fds:
                    self._sight(pid, int(name), now)
            maps = procfs.maps_of(pid) if any_futex else procfs.NO_MAPS
        except OSError:
            return
        self._image(pid).last_look = maps

    def _exec_failed(self, tid: int, pid: int, call: list[int], ret: int, now: int) -> None:
        if ret < 0:
            self._image(pid).last_look = None

    def forget(self, pid: int) -> None:
        """A process has ended, or became another program; its last calls may still lie in the rings."""
        super().forget(pid)
        self._image(pid).end_ns = time.monotonic_ns()

    def _image(self, pid: int) -> _Image:
        images = self._images.setdefault(pid, [])
        if not images or images[-1].end_ns is not None:
            images.append(_Image())
        return images[-1]

    # --- from the collector's thread -------------------------------------------------------------

    def look_up(self, entered: Array, horizon_ns: int) -> None:
        """Look up what calls that have begun some time ago are on, where it is not known yet.

        Args:
            entered: Records of `qtrace.tracefile.rings.ENTER`.
            horizon_ns: All later ones are still to come.
        """
        import numpy as np

        now = time.monotonic_ns()
        used = entered[np.isin(entered["nr"], self._on_descriptors)]
        keys = used["pid"].astype(np.int64) << 32 | (used["args"][:, 0] & np.uint64(0xFFFFFFFF)).astype(np.int64)
        for key in np.unique(keys, return_index=True)[0].tolist():  # without the index it would load numpy.ma
            self.see_descriptor(key >> 32, key & 0xFFFFFFFF, now)
        self._look_up_words(entered[entered["nr"] == self._futex_number])
        self._drop_old(horizon_ns)

    def look_up_few(self, entries: Sequence[Entry]) -> None:
        """Look up what calls are on of a program that is over, as `look_up` does for the records of one that runs."""
        now = time.monotonic_ns()
        used = {(pid, call[1] & 0xFFFFFFFF) for _, pid, _, call in entries if call[0] in self._on_descriptors}
        for pid, fd in sorted(used):
            self.see_descriptor(pid, fd, now)
        seen = set()
        for time_ns, pid, _, (number, address, operation, *_) in entries:
            if number == self._futex_number and (pid, address) not in seen:
                seen.add((pid, address))
                self._word(pid, address, bool(operation & FUTEX_PRIVATE), time_ns)

    def see_descriptor(self, pid: int, fd: int, now: int) -> None:
        """Look up a descriptor that is not known yet."""
        known = self._known.get(pid)
        if known is None or fd not in known.fds:
            self._sight(pid, fd, now)

    def is_headed(self, pid: int, fd: int) -> bool:
        """Return whether the first bytes of what is written to a descriptor are wanted."""
        known = self._known.get(pid)
        return known is not None and known.fds.get(fd, False)

    def _look_up_words(self, futexes: Array) -> None:
        if not len(futexes):
            return
        import numpy as np

        # Few words are used by many calls: the first use of each, by process and address.
        _, rank = np.unique(futexes["pid"], return_inverse=True)
        keys = rank.astype(np.uint64) << np.uint64(48) ^ futexes["args"][:, 0]
        _, first = np.unique(keys, return_index=True)
        for row in futexes[first]:
            address, operation = int(row["args"][0]), int(row["args"][1])
            self._word(int(row["pid"]), address, bool(operation & FUTEX_PRIVATE), int(row["time"]))

    def _word(self, pid: int, address: int, private: bool, time_ns: int) -> None:
        image = self._image_at(pid, time_ns)
        if address in image.words:
            return
        if private:
            image.private_words += 1
            if image.private_words > PRIVATE_WORDS:
                return
        mapping = image.maps.at(address)
        if mapping is None:
            maps = self._mappings(pid, image)
            image.maps = maps if maps.text else image.maps
            mapping = image.maps.at(address)
        if not image.maps.text:
            return
        image.words.add(address)
        self._sink("words", (time_ns, pid, address, *word_object(mapping, pid, address, private)))

    def _image_at(self, pid: int, time_ns: int) -> _Image:
        for image in self._images.get(pid, []).copy():
            if image.end_ns is not None and time_ns <= image.end_ns:
                return image
        return self._image(pid)

    @staticmethod
    def _mappings(pid: int, image: _Image) -> procfs.Maps:
        if image.last_look is not None:
            return image.last_look
        if image.end_ns is not None:
            return procfs.NO_MAPS
        try:
            return procfs.maps_of(pid)
        except OSError:
            return procfs.NO_MAPS

    def _drop_old(self, horizon_ns: int) -> None:
        for pid, images in self._images.copy().items():
            kept = [image for image in images if image.end_ns is None or horizon_ns - image.end_ns < _KEPT_NS]
            if not kept:
                self._images.pop(pid, None)  # another thread may have been here, too
            elif len(kept) < len(images):
                images[:] = kept


class AttachedHooks(PerfHooks):
    """The looking up where no call stops at all: what is closed is known by the records alone."""

    def __init__(self, sink: RowSink, machine: Architecture, placement: Placement) -> None:
        """See `CallHooks`."""
        super().__init__(sink, machine, placement)
        self._closing = {number_of(name, machine): place for name, place in (("close", 0), ("dup2", 1), ("dup3", 1))}
        self._close_range = number_of("close_range", machine)
        self._any_closing = [number for number in (*self._closing, self._close_range) if number is not None]

    def forked(self, parent: int, child: int) -> None:
        """A new process begins with what its parent knew, and with its mappings."""
        super().forked(parent, child)
        self._image(child).maps = self._image(parent).maps

    def look_up(self, entered: Array, horizon_ns: int) -> None:
        """See `PerfHooks`; then forget the descriptors that were closed or replaced."""
        import numpy as np

        super().look_up(entered, horizon_ns)
        for row in entered[np.isin(entered["nr"], self._any_closing)]:
            known = self._known.get(int(row["pid"]))
            if known is None:
                continue
            first, second = (int(row["args"][place]) & 0xFFFFFFFF for place in (0, 1))
            if int(row["nr"]) == self._close_range:
                for fd in [fd for fd in known.fds if first <= fd <= second]:
                    del known.fds[fd]
            else:
                known.fds.pop((first, second)[self._closing[int(row["nr"])]], None)
