# cause:   QueueHandler on a bounded queue.Queue; the listener thread died of an exception in a formatter; the next log call blocks with the handler's lock held, all other threads behind it
# verdict: orphaned wait (nobody takes from the log queue)
# chain:   main -futex(thread join)-> worker -futex(handler lock)-> first worker -futex(Queue.not_full)-> listener thread (ended)
# fix:     put_nowait (the default enqueue), a listener that survives errors
# expect:  verdict=deadlock|orphaned pattern=bounded-queue-no-consumer chain=thread-join>condition|thread-join>lock>condition
import logging, logging.handlers, queue, threading

class Blocking(logging.handlers.QueueHandler):
    def enqueue(self, record): self.queue.put(record)

threading.excepthook = lambda a: None
q = queue.Queue(10)
log = logging.getLogger("app"); log.propagate = False; log.addHandler(Blocking(q))

def listen():
    while True: print(q.get().extra_field)      # AttributeError at the first record

def work():
    for i in range(100): log.warning("row %d", i)

threading.Thread(target=listen, name="listener", daemon=True).start()
ts = [threading.Thread(target=work) for _ in range(3)]
for t in ts: t.start()
for t in ts: t.join()
