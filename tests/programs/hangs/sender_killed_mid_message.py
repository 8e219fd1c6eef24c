# cause:   the sender is killed in the middle of one large message through a Pipe(); the receiver waits for the rest of it
# verdict: orphaned (the only other holder of the write end is the receiver itself)
# chain:   main -pipe-empty (in the middle of a message)-> nobody
# fix:     close the write end in the receiver, so that the sender's death is an EOFError
# expect:  verdict=orphaned pattern=torn-message chain=pipe-empty
import multiprocessing
import os
import signal
import time


def sender(connection):
    connection.send_bytes(bytes(400_000))


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    inlet, outlet = context.Pipe(duplex=False)
    process = context.Process(target=sender, args=(outlet,))
    process.start()
    time.sleep(0.5)
    os.kill(process.pid, signal.SIGKILL)
    process.join()
    print(len(inlet.recv_bytes()))  # link 1
