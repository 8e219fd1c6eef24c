# cause:   coroutines that sleep for different, long times
# expect:  verdict=timed pattern=-
import asyncio


async def tick(period):
    while True:
        await asyncio.sleep(period)
        print("tick", period)


async def main():
    await asyncio.gather(tick(45), tick(70))


asyncio.run(main())
