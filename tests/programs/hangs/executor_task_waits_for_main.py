# cause:   a task in another process waits for an event that main sets only after it has the task's result
# verdict: deadlock (main waits for the task, the task for main)
# chain:   main -condition (future)-> the executor's manager thread -poll-> worker -condition (event)-> main
# fix:     set the event before waiting for the result
# expect:  verdict=deadlock pattern=- chain=condition/lock>poll/pipe-empty>condition/semaphore/lock
import multiprocessing
from concurrent.futures import ProcessPoolExecutor


def prepare(event):
    global go
    go = event


def crunch(number):
    go.wait()  # link 3
    return number * number


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    go = context.Event()
    with ProcessPoolExecutor(1, mp_context=context, initializer=prepare, initargs=(go,)) as executor:
        result = executor.submit(crunch, 12).result()  # link 1
        go.set()
        print(result)
