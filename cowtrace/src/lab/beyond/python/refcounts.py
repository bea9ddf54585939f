"""Lists of objects, and children that read them: what reference counts and the garbage collector copy.

A program of the lab: it reports and waits as bin/cowtrace-workload/protocol.rs says. Its argument is the number of
objects in each list.
"""

import gc
import os
import struct
import sys
from array import array

STATUS = 3
RECORD = struct.Struct("=4s3I6Q")
SAMPLE = 0xFFFF_FFFF

# What the pages in a sample hold: the first of its four figures. python/memory.rs has the same list.
TEXTS, HEADERS, NUMBERS = range(3)

PAGE = os.sysconf("SC_PAGE_SIZE")
# An object that the collector looks at has two pointers for it in front; id() is the address behind them.
HEADER = 2 * struct.calcsize("P")


class Lab:
    """This process, as the lab knows it."""

    def __init__(self):
        self.role = 0
        self.children = 0
        self.checkpoint = 0
        self.buffer = 0, 0

    def report(self, checkpoint, values):
        os.write(STATUS, RECORD.pack(b"cow1", os.getpid(), self.role, checkpoint, *self.buffer, *values))

    def sample(self, *values):
        self.report(SAMPLE, values)

    def stop(self):
        self.report(self.checkpoint, (0, 0, 0, 0))
        self.checkpoint += 1
        if not os.read(STATUS + 1 + self.role, 1):
            # The lab is gone: nothing may be left behind.
            os._exit(1)

    def child(self, *steps, leave=os._exit):
        """A child that takes one step after the other, and stops before, between and after them."""
        self.children += 1
        pid = os.fork()
        if pid:
            self.stop()
            os.waitpid(pid, 0)
            return
        self.role = self.children
        self.stop()
        for step, *arguments in steps:
            step(*arguments)
            self.stop()
        leave(0)


class Item:
    """An object that may hold others, so that the collector has to look at it."""

    __slots__ = ("other",)


def read(objects):
    for _ in objects:
        pass


def runs(pages):
    """First page and length of each run of neighbours."""
    pages = sorted(pages)
    first = pages[0]
    for page, following in zip(pages, pages[1:] + [None]):
        if following != page + 1:
            yield first, page + 1 - first
            first = following


def main():
    # Two that write to one page at the same time may both copy it; on one CPU they take turns.
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    count = int(sys.argv[1])
    lab = Lab()
    lab.stop()

    gc.disable()
    # One kind of objects after the other, so that each has pages of its own.
    texts, items = [None] * count, [None] * count
    for index in range(count):
        texts[index] = f"text {index:07}"
    for index in range(count):
        items[index] = Item()
    numbers = array("q", bytes(8 * count))
    same = [object()] * count
    gc.enable()
    gc.collect()

    text_pages = {id(text) // PAGE for text in texts}
    header_pages = {(id(item) - HEADER) // PAGE for item in items}
    address, length = numbers.buffer_info()
    number_pages = range(address // PAGE, (address + length * numbers.itemsize - 1) // PAGE + 1)
    for kind, pages in (TEXTS, text_pages), (HEADERS, header_pages), (NUMBERS, number_pages):
        for first, size in runs(pages):
            lab.sample(kind, first, size, 0)
    lab.buffer = min(text_pages) * PAGE, (max(text_pages) + 1 - min(text_pages)) * PAGE
    lab.stop()

    lab.child((sum, numbers), (read, same), (read, texts))
    lab.child((gc.collect,))
    gc.disable()
    lab.child((read, texts))
    gc.enable()
    gc.freeze()
    lab.child((read, texts))
    lab.child((gc.collect,))
    lab.child(leave=sys.exit)


main()
