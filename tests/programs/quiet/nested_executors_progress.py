# cause:   tasks of one executor wait for tasks of another one, which get done one after the other
# expect:  verdict=timed|running pattern=-
import time
from concurrent.futures import ThreadPoolExecutor

outer, inner = ThreadPoolExecutor(4), ThreadPoolExecutor(1)


def read(sector):
    time.sleep(0.2)
    return sector


def read_track(track):
    return sum(inner.submit(read, track * sector).result() for sector in range(40))


print(list(outer.map(read_track, range(12))))
