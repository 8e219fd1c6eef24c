# cause:   a forked reader reads to the end of file, but never closed its own copy of the write end
# verdict: orphaned (the reader waits for itself to close)
# chain:   main -child-exit-> reader ; reader -pipe-empty-> its own write end alone
# fix:     close the write end in the child first
# expect:  verdict=orphaned|deadlock pattern=own-write-end chain=child-exit>pipe-empty
import multiprocessing


def collect(inlet, outlet):
    pages = []
    while True:
        try:
            pages.append(inlet.recv())  # link 2
        except EOFError:
            break
    print(len(pages), "pages")


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    inlet, outlet = context.Pipe(duplex=False)
    collector = context.Process(target=collect, args=(inlet, outlet), name="collector")
    collector.start()
    inlet.close()
    for page in range(5):
        outlet.send(f"page {page}")
    outlet.close()
    collector.join()  # link 1
