# cause:   a log listener's thread has nothing to write while its program sleeps
# expect:  verdict=timed pattern=-
import logging
import logging.handlers
import multiprocessing
import time

if __name__ == "__main__":
    records = multiprocessing.get_context("fork").Queue()
    listener = logging.handlers.QueueListener(records, logging.StreamHandler())
    listener.start()
    logger = logging.getLogger("service")
    logger.propagate = False
    logger.addHandler(logging.handlers.QueueHandler(records))
    try:
        while True:
            logger.warning("still here")
            time.sleep(55)
    finally:
        listener.stop()
