# cause:   three workers put thousands of small results; the parent joins them before it takes any
# verdict: deadlock (cycle)
# chain:   parent main -child-exit-> a renderer ; its main -thread-join-> its feeder ; feeder -pipe-full (or, behind another renderer's feeder, the queue's write lock)-> get() by parent main
# fix:     take all results first, then join
# expect:  verdict=deadlock pattern=join-before-drain chain=child-exit>thread-join>lock/semaphore?>pipe-full
import multiprocessing


class Renderer(multiprocessing.get_context("fork").Process):
    def __init__(self, tiles, row):
        super().__init__(name=f"renderer-{row}")
        self.tiles, self.row = tiles, row

    def run(self):
        for column in range(9_000):
            self.tiles.put((self.row, column))


if __name__ == "__main__":
    tiles = multiprocessing.get_context("fork").Queue()
    renderers = [Renderer(tiles, row) for row in range(3)]
    for renderer in renderers:
        renderer.start()
    for renderer in renderers:
        renderer.join()  # link 1
    print(tiles.get())
