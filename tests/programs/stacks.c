/* stacks: code whose user stacks are known. All subjects are built with frame pointers, but a function that calls no other
   has no frame of its own even so, and its caller would not be in the stack. */
#include "subjects.h"

__attribute__((noinline)) static void nothing(void) {
	__asm__ volatile("");
}

__attribute__((noinline)) static void alpha(volatile char *memory, int pages) {
	for (int i = 0; i < pages; i++) {
		nothing();
		memory[i * page] = 2;
	}
}

__attribute__((noinline)) static void beta(volatile char *memory, int pages) {
	for (int i = 0; i < pages; i++) {
		nothing();
		memory[i * page] = 3;
	}
}

__attribute__((noinline)) static void write_from_two_places(volatile char *memory, int first, int second) {
	alpha(memory, first);
	beta(memory + first * page, second);
	/* Not the last thing that is done, so that the calls are no jumps. */
	memory[0] = 4;
}

/* A child copies `first` pages in alpha and `second` in beta, and becomes another program right after the last. */
int stacks(int first, int second) {
	volatile char *memory = touched(first + second);
	pid_t child = fork();
	check(child >= 0, "fork");
	if (child == 0) {
		write_from_two_places(memory, first, second);
		execlp("true", "true", (char *)0);
		check(0, "execlp");
	}
	check(waitpid(child, 0, 0) == child, "waitpid");
	return 0;
}

/* Copies the pages of the stack that functions called from here use: a frame may lie on the next one. */
__attribute__((noinline)) static void use_stack(void) {
	volatile char frames[2 * 4096];
	for (size_t at = 0; at < sizeof frames; at += 1024)
		frames[at] = 1;
}

/* A child that waits for a byte, then copies `pages` in beta, and exits. Returns where to write the byte. */
static int waiting_child(volatile char *memory, int pages, pid_t *child) {
	int ends[2];
	char byte;
	check(pipe2(ends, O_CLOEXEC) == 0, "pipe2");
	*child = fork();
	check(*child >= 0, "fork");
	if (*child == 0) {
		/* Where the parent dies, it ends as well. */
		close(ends[1]);
		check(read(ends[0], &byte, 1) == 1, "read");
		use_stack();
		beta(memory, pages);
		/* Not the last thing that is done, so that the call is no jump. */
		memory[0] = 4;
		_exit(0);
	}
	close(ends[0]);
	use_stack();
	return ends[1];
}

static void let_end(int pipe, pid_t child) {
	/* Of a thread's last fault, hooks inside faults learn at its next one that it is over. */
	touched(1);
	check(write(pipe, "", 1) == 1, "write");
	close(pipe);
	check(waitpid(child, 0, 0) == child, "waitpid");
}

/* With a child that shares the pages: says so, copies them in alpha when a line is read, says so, and exits when there are no more. */
int write_on_line(int pages) {
	volatile char *memory = touched(pages);
	char line[16];
	pid_t child;
	int pipe = waiting_child(memory, 0, &child);
	puts("ready");
	fflush(stdout);
	check(fgets(line, sizeof line, stdin) != 0, "fgets");
	alpha(memory, pages);
	touched(1);
	puts("written");
	fflush(stdout);
	while (fgets(line, sizeof line, stdin) != 0) {
	}
	let_end(pipe, child);
	return 0;
}

/* Two forks that overlap, and what the parent copies before, between and after their begins and ends. Prints both children.
   Of the first: 200 pages in alpha, 300 in beta. Of the second: 300 in beta, 50 in alpha, and 70 by itself in beta. */
int fork_stacks(void) {
	volatile char *memory = touched(600);
	pid_t first, second;
	int first_pipe = waiting_child(memory, 0, &first);
	alpha(memory, 200);
	int second_pipe = waiting_child(memory + 100 * page, 70, &second);
	beta(memory + 200 * page, 300);
	let_end(first_pipe, first);
	alpha(memory, 50);
	let_end(second_pipe, second);
	/* Nobody shares them any more. */
	alpha(memory, 600);
	printf("%d %d\n", first, second);
	return 0;
}

/* Machine code of `void f(char *p) { *p = 1; }`. */
#if defined(__x86_64__)
static const unsigned char code[] = {0xc6, 0x07, 0x01, 0xc3};
#elif defined(__aarch64__)
static const unsigned char code[] = {0x21, 0, 0x80, 0x52, 0x01, 0, 0, 0x39, 0xc0, 0x03, 0x5f, 0xd6};
#endif

/* A child writes pages from code that its parent made at run time, and told of in its file for perf. Waits for SIGUSR1. */
int made_code(int pages) {
	char *made = mmap(0, page, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(made != MAP_FAILED, "mmap");
	memcpy(made, code, sizeof code);
	__builtin___clear_cache(made, made + sizeof code);
	char path[64];
	snprintf(path, sizeof path, "/tmp/perf-%d.map", getpid());
	FILE *map = fopen(path, "wx");
	check(map != 0, "fopen");
	fprintf(map, "%lx %zx made_at_run_time\n", (unsigned long)made, sizeof code);
	fclose(map);
	volatile char *memory = touched(pages);
	sigset_t signals;
	int signal;
	sigemptyset(&signals);
	sigaddset(&signals, SIGUSR1);
	sigprocmask(SIG_BLOCK, &signals, 0);
	pid_t child = fork();
	check(child >= 0, "fork");
	sigwait(&signals, &signal);
	if (child == 0) {
		for (int i = 0; i < pages; i++)
			((void (*)(volatile char *))made)(memory + i * page);
		_exit(0);
	}
	kill(child, SIGUSR1);
	check(waitpid(child, 0, 0) == child, "waitpid");
	/* Read when all that were traced are gone. */
	return 0;
}
