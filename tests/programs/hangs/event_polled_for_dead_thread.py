# cause:   main looks at an event twice a second; the thread that would set it has raised
# verdict: livelock (it moves, and nobody is left who would set the event)
# chain:   main -condition (500 ms, again and again)-> the thread that has ended
# fix:     look whether the thread is alive between two looks
# expect:  verdict=livelock|timed pattern=producer-gone|missing-participant|-
import threading

threading.excepthook = lambda arguments: None
connected = threading.Event()


def connect(address):
    host, port = address.split(":")
    connected.set()


threading.Thread(target=connect, args=("localhost",), name="connector").start()
while not connected.wait(0.5):
    print("not yet", flush=True)
