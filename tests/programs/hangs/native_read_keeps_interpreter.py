# cause:   native code reads a pipe without giving the interpreter lock away; the thread that would write cannot run
# verdict: deadlock (the reader waits for the writer, the writer for the interpreter lock)
# chain:   main -pipe-empty (holding the GIL)-> writer ; writer -gil-> main
# fix:     release the interpreter lock around blocking native calls
# expect:  verdict=deadlock|livelock pattern=- chain=pipe-empty>gil
import ctypes
import os
import threading
import time

native = ctypes.PyDLL(None)
inlet, outlet = os.pipe()


def write_later():
    time.sleep(0.3)
    os.write(outlet, b"ready")


threading.Thread(target=write_later, name="writer").start()
answer = ctypes.create_string_buffer(16)
native.read(inlet, answer, 16)  # link 1
