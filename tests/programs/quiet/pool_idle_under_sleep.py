# cause:   a pool is idle between two rounds; its owner sleeps
# expect:  verdict=timed pattern=-
import multiprocessing
import time

if __name__ == "__main__":
    with multiprocessing.get_context("forkserver").Pool(2) as pool:
        for round_number in range(3):
            print(pool.map(abs, range(round_number)), flush=True)
            time.sleep(90)
