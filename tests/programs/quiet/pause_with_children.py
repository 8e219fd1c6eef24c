# cause:   a supervisor pauses until a signal tells it what to do; its children wait for its orders
# expect:  verdict=external pattern=-
import multiprocessing
import signal


def child(orders):
    while orders.recv() != "stop":
        pass


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    signal.signal(signal.SIGHUP, lambda *_: print("reload"))
    inlet, outlet = context.Pipe(duplex=False)
    for _ in range(2):
        context.Process(target=child, args=(inlet,), daemon=True).start()
    while True:
        signal.pause()
