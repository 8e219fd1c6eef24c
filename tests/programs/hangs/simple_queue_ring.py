# cause:   three stages in a ring of simple queues each send a large block before they take one
# verdict: deadlock (cycle of three)
# chain:   main -child-exit-> a stage ; stage -pipe-full-> the next, all round
# fix:     one of them takes before it sends
# expect:  verdict=deadlock pattern=both-ends-full chain=child-exit>pipe-full>pipe-full>pipe-full
import multiprocessing


def stage(source, target):
    target.put(bytes(300_000))  # link 2 3 4
    source.get()


if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    queues = [context.SimpleQueue() for _ in range(3)]
    stages = [context.Process(target=stage, args=(queues[i], queues[(i + 1) % 3])) for i in range(3)]
    for process in stages:
        process.start()
    for process in stages:
        process.join()  # link 1
