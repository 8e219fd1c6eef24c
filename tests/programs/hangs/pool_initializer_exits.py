# cause:   each worker of a pool ends in its initializer; the pool makes new ones for ever, and no task is run
# verdict: livelock (processes come and go, nothing is done)
# chain:   main -condition (result)-> the pool's result handler -pipe-empty-> workers that die at once
# fix:     catch the error in the initializer
# expect:  verdict=livelock pattern=pool-respawn-storm load=yes
import multiprocessing
import os


def prepare(threshold):
    if len(os.listdir("/proc/self/fd")) > threshold:
        os._exit(9)


if __name__ == "__main__":
    pool = multiprocessing.get_context("fork").Pool(2, prepare, (0,))
    print(pool.apply_async(pow, (2, 8)).get())  # link 1
