# cause:   two processes take two locks of a manager in opposite order
# verdict: deadlock (cycle over two processes and two threads of the manager)
# chain:   main -child-exit-> a trader -socket-empty-> the manager's thread for it -lock-> the other trader -socket-empty-> its thread -lock-> the first
# fix:     one order for both locks
# expect:  verdict=deadlock|orphaned pattern=lock-order|- chain=child-exit>socket-empty>lock
import multiprocessing


def trade(mine, theirs, met):
    with mine:
        met.wait()
        theirs.acquire()  # link 2
        theirs.release()


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    with context.Manager() as manager:
        gold, silver, met = manager.Lock(), manager.Lock(), context.Barrier(2)
        traders = [
            context.Process(target=trade, args=(gold, silver, met), name="seller"),
            context.Process(target=trade, args=(silver, gold, met), name="buyer"),
        ]
        for trader in traders:
            trader.start()
        for trader in traders:
            trader.join()  # link 1
