# cause:   a pool is ready; its owner asks the user for a job
# expect:  verdict=external pattern=- stdin=pipe
import multiprocessing

if __name__ == "__main__":
    with multiprocessing.get_context("fork").Pool(2) as pool:
        while True:
            print(pool.map(len, [input("job> ")]))
