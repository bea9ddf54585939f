"""How gunicorn serves it: four workers, and gc.freeze() before they are forked if FREEZE is set."""
import gc
import os

bind = "unix:socket"
pidfile = "pid"
workers = 4
preload_app = True


def when_ready(server):
    if os.environ.get("FREEZE"):
        gc.collect()
        gc.freeze()


def worker_exit(server, worker):
    # An interpreter that takes down what it has writes to all of it, and copies it.
    os._exit(0)
