# cause:   main returns with a child that is not a daemon and still waits for work on a pipe that main keeps open
# verdict: deadlock (at its exit main joins the child, the child waits for main)
# chain:   main (at exit) -child-exit-> child ; child -socket-empty-> main
# fix:     send the last message, or daemon=True
# expect:  verdict=deadlock pattern=missing-sentinel|- chain=child-exit>socket-empty
import multiprocessing


def listen(connection):
    while connection.recv() is not None:  # link 2
        pass


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    talk, hear = context.Pipe()
    child = context.Process(target=listen, args=(hear,), name="listener")
    child.start()
    hear.close()
    talk.send("a message")
    print("main is done", flush=True)
