/* What all subjects need. */
#ifndef SUBJECTS_H
#define SUBJECTS_H
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

extern size_t page;

/* Ends the process, with what failed, unless it is so. */
void check(int ok, const char *what);
/* Memory between two pages that nobody may use, so that it is a mapping of its own: its faults are known exactly. */
volatile char *mapped(int pages);
/* The same, each page written once. */
volatile char *touched(int pages);
void write_pages(volatile char *memory, int pages);

/* Programs about faults: the exit status, or -1 if there is none of this name. */
int fault_program(const char *name, int number, int second);

/* A child copies pages in two functions. */
int stacks(int first, int second);
/* A child copies pages in code that was made at run time. */
int fork_stacks(void);
int write_on_line(int pages);
int made_code(int pages);

/* Pages at an address that is printed, copied after each of some forks, or by threads at the same time. */
int pages_by_parent(int pages, int forks);
int pages_by_threads(int pages, int threads);

#endif
