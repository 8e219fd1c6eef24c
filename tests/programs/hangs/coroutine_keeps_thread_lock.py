# cause:   a coroutine holds a threading.Lock while it awaits a thread of the executor that wants the same lock
# verdict: deadlock (the loop's coroutine waits for the thread, the thread for the loop's coroutine)
# chain:   main (the loop) -poll (epoll: wake-up socket)-> executor thread -lock-> main
# fix:     asyncio.Lock for coroutines; never await under a threading.Lock
# expect:  verdict=deadlock|orphaned pattern=event-loop-blocked|lock-order|- chain=poll/socket-empty>lock
import asyncio
import threading

rates_lock = threading.Lock()
rates = {}


def refresh(currency):
    with rates_lock:  # link 2
        rates[currency] = 1.0


async def main():
    with rates_lock:
        await asyncio.get_running_loop().run_in_executor(None, refresh, "EUR")


asyncio.run(main())  # link 1
