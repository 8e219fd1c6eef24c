# cause:   an asyncio client and its server, in two processes, both wait for the other's first line
# verdict: deadlock (cycle of two event loops)
# chain:   main -poll (epoll: the connection)-> server ; server -poll (epoll: the connection ...)-> main
# fix:     the server greets first, as its protocol says
# expect:  verdict=deadlock|external pattern=both-ends-empty|- chain=poll/socket-empty>poll/socket-empty
import asyncio
import multiprocessing
import socket


async def talk(connection):
    reader, writer = await asyncio.open_connection(sock=connection)
    line = await reader.readline()
    writer.write(line)


def endpoint(connection):
    asyncio.run(talk(connection))  # link 1 2


if __name__ == "__main__":
    client, server = socket.socketpair()
    process = multiprocessing.get_context("fork").Process(target=endpoint, args=(server,), daemon=True)
    process.start()
    server.close()
    endpoint(client)
