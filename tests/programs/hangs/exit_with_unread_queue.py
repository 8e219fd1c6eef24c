# cause:   the program fills a queue, finds that its only reader has left, and ends: the interpreter's exit joins the feeder, which nobody will ever drain
# verdict: deadlock (main waits for its feeder, the feeder for a reader, and main holds the last read end)
# chain:   main (at exit) -thread-join-> feeder ; feeder -pipe-full-> main itself
# fix:     queue.cancel_join_thread() where the data may be lost, or drain it before the exit
# expect:  verdict=deadlock|orphaned pattern=exit-before-drain chain=thread-join>pipe-full
import multiprocessing


def reader(lines):
    print("first line:", lines.get()[:8])


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    lines = context.Queue()
    only_reader = context.Process(target=reader, args=(lines,))
    only_reader.start()
    lines.put("hello, reader")
    only_reader.join()
    for number in range(3_000):
        lines.put(f"{number:>60}")
