# cause:   the notifier is done before the waiter comes to its shared condition, and the waiter looks at no predicate
# verdict: orphaned (nobody is left who would notify)
# chain:   main -child-exit-> waiter ; waiter -condition-> the notifier, which has ended
# fix:     condition.wait_for(predicate)
# expect:  verdict=orphaned|deadlock pattern=missing-participant chain=child-exit>condition/semaphore/lock
import multiprocessing
import time


def notifier(changed):
    with changed:
        changed.notify_all()


def waiter(changed):
    time.sleep(0.6)
    with changed:
        changed.wait()  # link 2


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    changed = context.Condition()
    late = context.Process(target=waiter, args=(changed,), name="late")
    early = context.Process(target=notifier, args=(changed,), name="early")
    late.start()
    early.start()
    early.join()
    late.join()  # link 1
