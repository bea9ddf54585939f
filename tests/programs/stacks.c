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
