# cause:   four workers share a queue and each ends at a None, but only three are sent
# verdict: deadlock (the parent waits for the last worker, which waits for the parent's put)
# chain:   main -child-exit-> a worker ; worker -pipe-empty-> main
# fix:     one None for each worker
# expect:  verdict=deadlock pattern=missing-sentinel chain=child-exit>pipe-empty
import multiprocessing

WORKERS = 4


def download(urls):
    while urls.get() is not None:  # link 2
        pass


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    urls = context.Queue()
    crew = [context.Process(target=download, args=(urls,)) for _ in range(WORKERS)]
    for member in crew:
        member.start()
    for number in range(20):
        urls.put(f"http://localhost/{number}")
    for _ in range(WORKERS - 1):
        urls.put(None)
    for member in crew:
        member.join()  # link 1
