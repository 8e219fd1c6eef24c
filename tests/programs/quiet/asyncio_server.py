# cause:   an asyncio server without clients, and two idle consumers of its queue
# expect:  verdict=external pattern=-
import asyncio


async def consume(jobs):
    while True:
        await jobs.get()


async def main():
    jobs = asyncio.Queue()

    async def on_client(reader, writer):
        await jobs.put(await reader.readline())
        writer.close()

    consumers = [asyncio.ensure_future(consume(jobs)) for _ in range(2)]
    server = await asyncio.start_server(on_client, "127.0.0.1", 0)
    async with server:
        await server.serve_forever()
    await asyncio.gather(*consumers)


asyncio.run(main())
