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
