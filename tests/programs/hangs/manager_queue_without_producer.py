# cause:   main takes from a manager's queue, whose only producer raised before its first put
# verdict: orphaned (the producer has ended)
# chain:   main -socket-empty-> the manager's thread ; that thread -condition (not empty)-> the producer, which has ended
# fix:     get(timeout=...) and look at the producer's exitcode
# expect:  verdict=orphaned|deadlock pattern=producer-gone|- chain=socket-empty>condition/lock
import multiprocessing
import sys


def produce(results):
    sys.exit("no input file")
    results.put(1)


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    with context.Manager() as manager:
        results = manager.Queue()
        producer = context.Process(target=produce, args=(results,), name="producer")
        producer.start()
        producer.join()
        print(results.get())  # link 1
