# cause:   two spawned processes transfer between two accounts, each with a lock, in opposite directions
# verdict: deadlock (cycle of two)
# chain:   main -child-exit-> a transfer ; transfer -lock-> the other ; the other -lock-> the first
# fix:     lock the account with the lower number first
# expect:  verdict=deadlock pattern=lock-order chain=child-exit>lock/semaphore>lock/semaphore
import multiprocessing


def transfer(source, target, met):
    with source:
        met.wait()
        with target:  # link 2 3
            source.value -= 1
            target.value += 1


if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    met = context.Barrier(2)
    savings, current = context.Value("d", 100.0), context.Value("d", 5.0)
    transfers = [context.Process(target=transfer, args=(*pair, met)) for pair in ((savings, current), (current, savings))]
    for process in transfers:
        process.start()
    for process in transfers:
        process.join()  # link 1
