# cause:   main looks at an event five times a second; the thread that sets it lives and is slow
# expect:  verdict=timed pattern=-
import threading
import time

connected = threading.Event()


def connect():
    time.sleep(60)
    connected.set()


threading.Thread(target=connect, name="connector").start()
while not connected.wait(0.2):
    print("not yet", flush=True)
