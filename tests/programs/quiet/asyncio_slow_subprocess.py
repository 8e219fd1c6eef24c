# cause:   a coroutine waits for a command that takes a minute
# expect:  verdict=timed pattern=-
import asyncio


async def main():
    process = await asyncio.create_subprocess_exec("sleep", "60", stdout=asyncio.subprocess.PIPE)
    await process.communicate()


asyncio.run(main())
