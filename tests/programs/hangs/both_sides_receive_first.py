# cause:   client and server over a duplex Pipe both wait for the other's greeting
# verdict: deadlock (cycle of two)
# chain:   main -socket-empty-> greeter ; greeter -socket-empty-> main
# fix:     one side speaks first
# expect:  verdict=deadlock pattern=both-ends-empty chain=socket-empty>socket-empty
import multiprocessing


def greeter(connection):
    name = connection.recv()  # link 2
    connection.send(f"hello, {name}")


if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=greeter, args=(there,), name="greeter")
    process.start()
    there.close()
    print(here.recv())  # link 1
    here.send("world")
