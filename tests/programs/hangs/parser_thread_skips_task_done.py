# cause:   queue.Queue.join() waits for a task_done() that a worker thread leaves out for one kind of item
# verdict: deadlock (main waits for the worker's task_done, the idle worker for main's put)
# chain:   main -condition (all tasks done)-> parser thread ; parser -condition (not empty)-> main
# fix:     task_done() in a finally block
# expect:  verdict=deadlock|orphaned pattern=task-done-missing chain=condition/lock>condition/lock
import queue
import threading

lines = queue.Queue()


def parse():
    while True:
        line = lines.get()  # link 2
        if line.startswith("#"):
            continue
        print(line.split("="))
        lines.task_done()


threading.Thread(target=parse, name="parser", daemon=True).start()
for line in ("a=1", "# a comment", "b=2"):
    lines.put(line)
lines.join()  # link 1
