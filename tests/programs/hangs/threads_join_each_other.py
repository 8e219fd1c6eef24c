# cause:   two threads each wait for the end of the other
# verdict: deadlock (cycle of two)
# chain:   main -thread-join-> ping -thread-join-> pong -thread-join-> ping
# fix:     one of them waits, or a third one for both
# expect:  verdict=deadlock pattern=- chain=thread-join>thread-join>thread-join
import threading

everyone = threading.Barrier(2)


def wait_for(name):
    everyone.wait()
    threads[name].join()  # link 2 3


threads = {
    "ping": threading.Thread(target=wait_for, args=("pong",), name="ping"),
    "pong": threading.Thread(target=wait_for, args=("ping",), name="pong"),
}
for thread in threads.values():
    thread.start()
threads["ping"].join()  # link 1
