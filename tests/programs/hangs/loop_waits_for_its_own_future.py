# cause:   a coroutine blocks its event loop in result() of a future that only the same loop could complete
# verdict: orphaned (the loop waits for itself)
# chain:   main (the loop) -condition (future)-> main
# fix:     await asyncio.wrap_future(future)
# expect:  verdict=orphaned|deadlock pattern=event-loop-blocked chain=condition/lock
import asyncio


async def fetch(key):
    await asyncio.sleep(0.01)
    return key.upper()


def cached(loop, key):
    return asyncio.run_coroutine_threadsafe(fetch(key), loop).result()  # link 1


async def main():
    print(cached(asyncio.get_running_loop(), "answer"))


asyncio.run(main())
