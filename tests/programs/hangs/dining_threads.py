# cause:   each of three threads holds its left fork (a lock) and wants its right one
# verdict: deadlock (cycle of three inside one process)
# chain:   main -thread-join-> a philosopher ; philosopher -lock-> the next one, all round
# fix:     every thread takes the fork with the lower number first
# expect:  verdict=deadlock pattern=lock-order chain=thread-join>lock>lock>lock
import threading

SEATS = 3
forks = [threading.RLock() for _ in range(SEATS)]
seated = threading.Barrier(SEATS)


def philosopher(seat):
    left, right = forks[seat], forks[(seat + 1) % SEATS]
    with left:
        seated.wait()
        with right:  # link 2 3 4
            print(seat, "eats")


table = [threading.Thread(target=philosopher, args=(seat,), name=f"seat-{seat}") for seat in range(SEATS)]
for thread in table:
    thread.start()
for thread in table:
    thread.join()  # link 1
