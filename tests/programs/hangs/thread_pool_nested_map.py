# cause:   every thread of a pool runs a task that maps over the same pool: nobody is left to run the inner tasks
# verdict: deadlock (the tasks wait for tasks behind them)
# chain:   main -condition (map's result)-> ... -> pool thread -condition (inner result)-> a free pool thread
# fix:     another pool for the inner level
# expect:  verdict=deadlock|orphaned pattern=pool-exhausted
from multiprocessing.pool import ThreadPool

pool = ThreadPool(2)


def chapter(number):
    return sum(pool.map(page, range(number)))


def page(number):
    return number


print(pool.map(chapter, [3, 4, 5]))  # link 1
