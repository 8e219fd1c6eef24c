# cause:   the parent waits for SIGCHLD by sigwait(); the child waits for the end of its input, which the parent keeps open
# verdict: deadlock for who knows that no other signal comes; by the kernel's rules a signal may come from outside
# chain:   main -signal-> (SIGCHLD of) child ; child -pipe-empty-> main
# fix:     close the write end first
# expect:  verdict=deadlock|external|orphaned pattern=-
import os
import signal

signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
inlet, outlet = os.pipe()
child = os.fork()
if child == 0:
    os.close(outlet)
    while os.read(inlet, 10):
        pass
    os._exit(0)
os.write(outlet, b"x")
signal.sigwait({signal.SIGCHLD})
os.waitpid(child, 0)
