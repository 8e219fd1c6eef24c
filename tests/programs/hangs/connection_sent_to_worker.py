# cause:   a connection is sent through another connection to a spawned worker, which waits on it for work; the parent waits for the worker
# verdict: deadlock (the parent waits for the worker's end, the worker for the parent's message)
# chain:   main -child-exit-> worker ; worker -socket-empty (the connection it was sent)-> main
# fix:     close the parent's end before join(): the worker then sees the end
# expect:  verdict=deadlock pattern=missing-sentinel|inherited-write-end|- chain=child-exit>socket-empty
import multiprocessing


def worker(channel):
    jobs = channel.recv()
    while True:
        try:
            print(jobs.recv(), flush=True)  # link 2
        except EOFError:
            return


if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    channel, far = context.Pipe()
    process = context.Process(target=worker, args=(far,), name="worker")
    process.start()
    far.close()
    jobs, far_jobs = context.Pipe()
    channel.send(far_jobs)
    jobs.send("first job")
    process.join()  # link 1
