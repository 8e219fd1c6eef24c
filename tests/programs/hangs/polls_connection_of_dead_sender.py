# cause:   a loop polls a connection with a timeout; its only sender was killed, and the loop's own copy of the write end hides that
# verdict: livelock (it moves, and nothing will ever come)
# chain:   main -poll (250 ms, again and again)-> nobody
# fix:     close the write end in the reader: poll() then returns and recv() raises EOFError
# expect:  verdict=livelock pattern=producer-gone|own-write-end
import multiprocessing
import os


def sense(outlet):
    for reading in range(3):
        outlet.send(reading)
    os.abort()


if __name__ == "__main__":
    context = multiprocessing.get_context("fork")
    inlet, outlet = context.Pipe(duplex=False)
    sensor = context.Process(target=sense, args=(outlet,))
    sensor.start()
    sensor.join()
    readings = []
    while len(readings) < 10:
        if inlet.poll(0.25):
            readings.append(inlet.recv())
