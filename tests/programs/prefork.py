"""What gunicorn serves in the tests: records in memory, loaded before the workers are forked."""
import gc
import os

RECORDS = [{"name": f"customer {n}", "orders": [n, n + 1]} for n in range(100_000)]


def read():
    return sum(len(record["name"]) for record in RECORDS)


def app(environ, start_response):
    answer = {"/read": read, "/collect": gc.collect}[environ["PATH_INFO"]]()
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [f"{os.getpid()} {answer}".encode()]
