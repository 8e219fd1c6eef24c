# cause:   two workers take a permit of a shared semaphore each and end without giving it back
# verdict: orphaned (nobody is left who could release)
# chain:   main -semaphore-> the workers that have ended
# fix:     `with permits:` in the workers
# expect:  verdict=orphaned|deadlock pattern=dead-lock-holder|missing-participant|- chain=semaphore/lock
import multiprocessing


def use(permits, request):
    permits.acquire()
    if not request:
        return
    print(request)
    permits.release()


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    permits = context.BoundedSemaphore(2)
    users = [context.Process(target=use, args=(permits, "")) for _ in range(2)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    permits.acquire()  # link 1
    print("got a permit")
