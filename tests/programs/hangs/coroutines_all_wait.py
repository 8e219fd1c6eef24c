# cause:   every coroutine waits for an item of a queue, and none of them puts: the event loop has nothing to wake it
# verdict: orphaned (epoll watches only the loop's own wake-up socket)
# chain:   main -poll (epoll)-> nobody
# fix:     put the final marks; wait with a timeout
# expect:  verdict=orphaned pattern=- chain=poll/socket-empty
import asyncio


async def relay(source, target):
    while True:
        await target.put(await source.get())


async def main():
    ring = [asyncio.Queue() for _ in range(3)]
    await asyncio.gather(*(relay(ring[i], ring[i - 1]) for i in range(3)))


asyncio.run(main())  # link 1
