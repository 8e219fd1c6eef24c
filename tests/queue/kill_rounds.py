"""Kill producers and consumers of one queue at random moments, and count what becomes of the items.

    python -m tests.queue.kill_rounds KIND [--kills 200] [--seed N] [--stall 20]

KIND is robust, default or standard. Four producers and four consumers share a bounded queue;
again and again one of them is killed (SIGKILL) and replaced. After KILLS_A_QUEUE kills the
producers finish, the consumers empty the queue, and the books are compared; then comes a new
queue. Prints one JSON object and exits with 0, or 3 if nothing moved for `--stall` seconds.

Items are (producer, number, padding), numbered by each producer. What a consumer has got it
writes to a pipe of its own, one short line for each, which a kill does not tear.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import random
import select
import signal
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from multiprocessing.process import BaseProcess
from typing import Any

import qtrace.queue
from qtrace.queue import TruncatedMessage

PRODUCERS = CONSUMERS = 4
KILLS_A_QUEUE = 5
ITEMS = 400
MAXSIZE = 64
MAX_PAUSE_S = 0.03
# Bodies in one write, in two, and larger than the pipe.
PADDINGS = (0, 0, 10, 200, 3000, 17_000, 90_000)
STALLED = 3

context = multiprocessing.get_context("fork")


class Stalled(Exception):
    """Nobody got anything for too long."""


@dataclass
class Books:
    """Sums over all queues."""

    kind: str
    seed: int
    kills: int = 0
    killed_producers: int = 0
    killed_consumers: int = 0
    put_by_living: int = 0
    got: int = 0
    twice: int = 0
    out_of_order: int = 0
    torn: int = 0
    lost_said: int = 0
    missing_of_living: int = 0
    missing_unexplained: int = 0
    longest_silence_s: float = 0.0
    stalled: bool = False


def produce(queue: Any, name: int, count: int, seed: int) -> None:
    choose = random.Random(seed).choice
    for number in range(count):
        queue.put((name, number, bytes(choose(PADDINGS))))


def consume(queue: Any, report: int) -> None:
    while True:
        try:
            received = queue.get()
        except TruncatedMessage as error:
            os.write(report, f"torn {error.pid}\n".encode())
            continue
        if received is None:
            return
        os.write(report, f"{received[0]} {received[1]}\n".encode())


class Round:
    """One queue with its processes."""

    def __init__(self, queue: Any, random_source: random.Random, stall_s: float) -> None:
        self.queue = queue
        self.random = random_source
        self.stall_s = stall_s
        self.producers: dict[int, BaseProcess] = {}
        self.consumers: list[BaseProcess] = []
        # Report pipe of each consumer that ever was, with what came through it.
        self.reports: dict[int, list[str]] = {}
        self.rests: dict[int, bytes] = {}
        self.dead_producers: set[int] = set()
        self.names = 0
        self.moved_s = time.monotonic()
        self.longest_silence_s = 0.0

    def add_producer(self) -> None:
        name, self.names = self.names, self.names + 1
        seed = self.random.getrandbits(32)
        process = context.Process(target=produce, args=(self.queue, name, ITEMS, seed))
        process.start()
        self.producers[name] = process

    def add_consumer(self) -> None:
        reader, writer = os.pipe()
        process = context.Process(target=consume, args=(self.queue, writer))
        process.start()
        os.close(writer)
        os.set_blocking(reader, False)
        self.reports[reader], self.rests[reader] = [], b""
        self.consumers.append(process)

    def kill_one(self) -> str:
        """Kill one process that runs, start another like it, and return what it was."""
        running = [name for name, process in self.producers.items() if process.is_alive()]
        victim = self.random.randrange(len(running) + len(self.consumers))
        if victim < len(running):
            name = running[victim]
            self.end(self.producers.pop(name))
            self.dead_producers.add(name)
            self.add_producer()
            return "producer"
        self.end(self.consumers.pop(victim - len(running)))
        self.add_consumer()
        return "consumer"

    @staticmethod
    def end(process: BaseProcess) -> None:
        if process.pid is not None and process.is_alive():
            os.kill(process.pid, signal.SIGKILL)
        process.join()

    def collect(self, wait_s: float) -> None:
        """Take what consumers report; raise Stalled if they have been silent for too long."""
        poller = select.poll()
        for reader in self.reports:
            poller.register(reader, select.POLLIN)
        ready = poller.poll(wait_s * 1000)
        silence_s = time.monotonic() - self.moved_s
        self.longest_silence_s = max(self.longest_silence_s, silence_s)
        for reader, events in ready:
            if not events & select.POLLIN:
                continue
            lines = (self.rests[reader] + os.read(reader, 65536)).split(b"\n")
            self.rests[reader] = lines.pop()
            self.reports[reader] += [line.decode() for line in lines]
            self.moved_s = time.monotonic()
        if time.monotonic() - self.moved_s > self.stall_s:
            raise Stalled

    def work(self, wanted: list[BaseProcess]) -> None:
        """Collect until the wanted processes have ended."""
        while any(process.is_alive() for process in wanted):
            # Report pipes at end of file are always ready: sleep a little beside them.
            self.collect(0.0)
            time.sleep(0.002)

    def finish(self) -> None:
        """Let the producers end, then the consumers."""
        self.work(list(self.producers.values()))
        for _ in self.consumers:
            self.queue.put(None)
        self.work(self.consumers)
        self.collect(0.0)

    def leave(self) -> None:
        """End everything that still runs."""
        for process in (*self.producers.values(), *self.consumers):
            self.end(process)
        for reader in self.reports:
            os.close(reader)
        self.queue.cancel_join_thread()
        self.queue.close()


def make_queue(kind: str) -> Any:
    if kind == "standard":
        return context.Queue(MAXSIZE)
    return qtrace.queue.Queue(MAXSIZE, ctx=context, robust=kind == "robust")


def check(round_: Round, killed_consumers: int, books: Books) -> None:
    """Add one finished queue to the books."""
    seen: Counter[tuple[int, int]] = Counter()
    for lines in round_.reports.values():
        last: dict[int, int] = {}
        for line in lines:
            if line.startswith("torn"):
                books.torn += 1
                continue
            name, number = map(int, line.split())
            seen[name, number] += 1
            books.out_of_order += number <= last.get(name, -1)
            last[name] = number
    expected = {(name, number) for name in round_.producers for number in range(ITEMS)}
    missing = len(expected - set(seen))
    books.got += len(seen)
    books.twice += sum(count - 1 for count in seen.values())
    books.put_by_living += len(expected)
    books.missing_of_living += missing
    # A killed consumer may take with it the one item that it had in its hands.
    books.missing_unexplained += max(0, missing - killed_consumers)
    if hasattr(round_.queue, "stats"):
        books.lost_said += round_.queue.stats().lost or 0


def run(books: Books, kills: int, stall_s: float) -> None:
    """Go on until `kills` processes were killed, or nothing moves any more."""
    source = random.Random(books.seed)
    while books.kills < kills:
        round_ = Round(make_queue(books.kind), source, stall_s)
        killed_consumers = 0
        try:
            for _ in range(PRODUCERS):
                round_.add_producer()
            for _ in range(CONSUMERS):
                round_.add_consumer()
            for _ in range(min(KILLS_A_QUEUE, kills - books.kills)):
                until_s = time.monotonic() + source.random() * MAX_PAUSE_S
                while time.monotonic() < until_s:
                    round_.collect(0.0)
                    time.sleep(0.001)
                victim = round_.kill_one()
                books.kills += 1
                books.killed_producers += victim == "producer"
                books.killed_consumers += victim == "consumer"
                killed_consumers += victim == "consumer"
            round_.finish()
            check(round_, killed_consumers, books)
        except Stalled:
            books.stalled = True
            return
        finally:
            books.longest_silence_s = max(books.longest_silence_s, round(round_.longest_silence_s, 3))
            round_.leave()


def main() -> int:
    """Run, print the books, return the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kind", choices=["robust", "default", "standard"])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(32))
    parser.add_argument("--stall", type=float, default=20.0)
    options = parser.parse_args()
    books = Books(options.kind, options.seed)
    run(books, options.kills, options.stall)
    print(json.dumps(asdict(books)))
    return STALLED if books.stalled else 0


if __name__ == "__main__":
    sys.exit(main())
