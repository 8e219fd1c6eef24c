# cause:   a thread waits for a Future that was made by hand; the thread that should have set it returned early
# verdict: orphaned (nobody is left who would set it)
# chain:   main -condition (future)-> the resolver, which has ended
# fix:     set an exception on every way out, or let an executor make the future
# expect:  verdict=orphaned|deadlock pattern=missing-participant|producer-gone|- chain=condition/lock
import threading
from concurrent.futures import Future

answer = Future()


def resolve(question):
    if "?" not in question:
        return
    answer.set_result(42)


threading.Thread(target=resolve, args=("the answer",), name="resolver").start()
print(answer.result())  # link 1
