# cause:   two processes wait for an event that a third one, which crashed while it loaded, would have set
# verdict: orphaned (the setter is gone)
# chain:   main -child-exit-> a server ; server -condition (event)-> the loader, which has ended with an exception
# fix:     wait(timeout) and look at the loader's exitcode, or set the event in a finally block with an error beside it
# expect:  verdict=orphaned|deadlock pattern=missing-participant chain=child-exit>condition/semaphore/lock
import multiprocessing
import sys


def load(loaded):
    sys.stderr = None
    {}["model"]
    loaded.set()


def serve(loaded):
    loaded.wait()  # link 2


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    loaded = context.Event()
    servers = [context.Process(target=serve, args=(loaded,), name=f"server-{n}") for n in range(2)]
    for server in servers:
        server.start()
    loader = context.Process(target=load, args=(loaded,), name="loader")
    loader.start()
    loader.join()
    for server in servers:
        server.join()  # link 1
