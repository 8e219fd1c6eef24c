# cause:   main has ended; the interpreter waits for a thread that sleeps
# expect:  verdict=timed pattern=-
import threading
import time

threading.Thread(target=time.sleep, args=(64,), name="cleaner").start()
print("main is done", flush=True)
