# cause:   a shared barrier is made for five, but only four processes take part
# verdict: orphaned (nobody else will come)
# chain:   main -child-exit-> a runner ; runner -condition (barrier)-> nobody
# fix:     count the participants once
# expect:  verdict=orphaned|deadlock pattern=missing-participant chain=child-exit>condition/semaphore/lock
import multiprocessing


def run(start, number):
    start.wait()  # link 2
    print("runner", number)


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    start = context.Barrier(5)
    runners = [context.Process(target=run, args=(start, number)) for number in range(4)]
    for runner in runners:
        runner.start()
    for runner in runners:
        runner.join()  # link 1
