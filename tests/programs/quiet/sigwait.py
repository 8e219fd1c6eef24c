# cause:   a daemon waits for a signal from its operator while its helper thread waits for it
# expect:  verdict=external pattern=-
import signal
import threading

SIGNALS = {signal.SIGUSR1, signal.SIGTERM}
signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
stopping = threading.Event()
threading.Thread(target=stopping.wait, name="helper").start()
print(signal.sigwait(SIGNALS))
stopping.set()
