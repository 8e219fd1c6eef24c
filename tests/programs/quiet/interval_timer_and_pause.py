# cause:   a program does its work in the handler of an interval timer and pauses between
# expect:  verdict=external|timed pattern=-
import signal

signal.signal(signal.SIGALRM, lambda *_: print("beat", flush=True))
signal.setitimer(signal.ITIMER_REAL, 0.5, 45)
while True:
    signal.pause()
