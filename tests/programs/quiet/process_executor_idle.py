# cause:   an executor of processes has done a task and waits for the next; the main thread sleeps meanwhile
# expect:  verdict=timed pattern=-
import time
from concurrent.futures import ProcessPoolExecutor

if __name__ == "__main__":
    with ProcessPoolExecutor(2) as executor:
        while True:
            print(executor.submit(pow, 2, 10).result(), flush=True)
            time.sleep(75)
