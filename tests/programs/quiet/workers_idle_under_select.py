# cause:   spawned workers wait on a queue for what the user will type
# expect:  verdict=external pattern=- stdin=pipe
import multiprocessing
import select
import sys


def work(lines):
    for line in iter(lines.get, ""):
        print(line.upper())


if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    lines = context.Queue()
    workers = [context.Process(target=work, args=(lines,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    while select.select([sys.stdin], [], [])[0]:
        lines.put(sys.stdin.readline())
