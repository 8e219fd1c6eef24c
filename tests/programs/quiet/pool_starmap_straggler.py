# cause:   one of many tasks of a pool takes a minute; the other workers are idle
# expect:  verdict=timed pattern=-
import multiprocessing
import time


def render(frame, seconds):
    time.sleep(seconds)
    return frame


if __name__ == "__main__":
    with multiprocessing.get_context("spawn").Pool(3) as pool:
        print(pool.starmap(render, [(frame, 60 * (frame == 4)) for frame in range(9)], chunksize=1))
