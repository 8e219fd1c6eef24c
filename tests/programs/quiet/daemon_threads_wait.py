# cause:   daemon threads wait for work on two queues; main waits for its next period in a timed join
# expect:  verdict=timed pattern=-
import queue
import threading

urgent, normal = queue.Queue(), queue.SimpleQueue()
for source in (urgent, normal):
    thread = threading.Thread(target=source.get, daemon=True)
    thread.start()
while thread.is_alive():
    thread.join(timeout=33)
    print("nothing yet", flush=True)
