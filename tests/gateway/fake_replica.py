"""A replica process with the fake engine: the real worker, another `make_engine`."""

from fakes import make_engine

from firefront.engine import worker

if __name__ == "__main__":
    worker.main(make_engine=make_engine)
