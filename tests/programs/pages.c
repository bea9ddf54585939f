/* pages: memory at an address that is printed, whose pages are copied known numbers of times. */
#include "subjects.h"

static pid_t child_until_eof(int *holds) {
	int ends[2];
	check(pipe(ends) == 0, "pipe");
	pid_t child = fork();
	check(child >= 0, "fork");
	if (child == 0) {
		char byte;
		close(ends[1]);
		_exit(read(ends[0], &byte, 1) != 0);
	}
	close(ends[0]);
	*holds = ends[1];
	return child;
}

/* Forks one child after the other, and writes the same pages, every third of `pages`, while each of them lives. */
int pages_by_parent(int pages, int forks) {
	volatile char *memory = touched(pages);
	printf("%p\n", (void *)memory);
	fflush(stdout);
	for (int i = 0; i < forks; i++) {
		int holds;
		pid_t child = child_until_eof(&holds);
		for (int number = 0; number < pages; number += 3)
			memory[number * page] = 2;
		close(holds);
		check(waitpid(child, 0, 0) == child, "waitpid");
	}
	return 0;
}

struct work {
	volatile char *memory;
	int pages;
};

static void *write_all(void *argument) {
	struct work *work = argument;
	write_pages(work->memory, work->pages);
	return 0;
}

/* Threads of a child that all write the same pages, at the same time. */
int pages_by_threads(int pages, int threads) {
	struct work work = {touched(pages), pages};
	printf("%p\n", (void *)work.memory);
	fflush(stdout);
	pid_t child = fork();
	check(child >= 0, "fork");
	if (child == 0) {
		pthread_t handles[64];
		check(threads <= 64, "threads");
		for (int i = 0; i < threads; i++)
			check(pthread_create(&handles[i], 0, write_all, &work) == 0, "pthread_create");
		for (int i = 0; i < threads; i++)
			pthread_join(handles[i], 0);
		_exit(0);
	}
	check(waitpid(child, 0, 0) == child, "waitpid");
	return 0;
}
