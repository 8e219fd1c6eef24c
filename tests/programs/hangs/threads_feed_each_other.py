# cause:   two stages with bounded queue.Queue in both directions (work and feedback) fill each other
# verdict: deadlock (cycle of two threads)
# chain:   main -futex(join)-> A -futex(not_full)-> B -futex(not_full)-> A
# fix:     unbounded feedback
# expect:  verdict=deadlock pattern=both-ends-full chain=thread-join>condition>condition
import queue, threading

forward, back = queue.Queue(2), queue.Queue(2)

def a():
    for i in range(50): forward.put(i)
    for i in range(50): back.get()

def b():
    for i in range(50): back.put(("ack", i))
    for i in range(50): forward.get()

ts = [threading.Thread(target=f, name=f.__name__) for f in (a, b)]
for t in ts: t.start()
for t in ts: t.join()
