# cause:   concurrent.futures.wait() on two tasks in processes, of which one sleeps for long
# expect:  verdict=timed pattern=-
import time
from concurrent.futures import ProcessPoolExecutor, wait

if __name__ == "__main__":
    with ProcessPoolExecutor(2) as executor:
        tasks = [executor.submit(time.sleep, seconds) for seconds in (0, 75)]
        print(wait(tasks))
