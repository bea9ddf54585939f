/* Programs whose faults are known before they run. */
#include "subjects.h"

static int fork_write(int pages) {
	volatile char *memory = touched(pages);
	pid_t child = fork();
	check(child >= 0, "fork");
	if (child == 0) {
		write_pages(memory, pages);
		_exit(0);
	}
	waitpid(child, 0, 0);
	return 0;
}

/* When a line is read: a child that shares the pages, and a parent that copies them one by one, a millisecond each. */
static int write_slowly(int pages) {
	volatile char *memory = touched(pages);
	char line[16];
	check(fgets(line, sizeof line, stdin) != 0, "fgets");
	pid_t child = fork();
	check(child >= 0, "fork");
	if (child == 0) {
		while (fgets(line, sizeof line, stdin) != 0) {
		}
		_exit(0);
	}
	for (int i = 0; i < pages; i++) {
		memory[i * page] = 2;
		usleep(1000);
	}
	check(waitpid(child, 0, 0) == child, "waitpid");
	return 0;
}

/* Reads each page, which maps the zero page, then writes it. */
static int zero(int pages) {
	volatile char *memory = mapped(pages);
	int sum = 0;
	for (int i = 0; i < pages; i++)
		sum += memory[i * page];
	write_pages(memory, pages);
	return sum;
}

/* Reads a byte of each huge page, which maps the huge zero page there, then writes it. */
static int huge_zero(int blocks) {
	size_t huge = 2 << 20;
	char *whole = mmap(0, (blocks + 1) * huge, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(whole != MAP_FAILED, "mmap");
	char *start = (char *)(((size_t)whole + huge - 1) & -huge);
	volatile char *memory = start;
	/* Neighbours that merge with it would be the same region. */
	if (start != whole)
		check(munmap(whole, start - whole) == 0, "munmap");
	check(mprotect(start + blocks * huge, page, PROT_NONE) == 0, "mprotect");
	madvise(start, blocks * huge, MADV_HUGEPAGE);
	int sum = 0;
	for (int i = 0; i < blocks; i++)
		sum += memory[i * huge];
	for (int i = 0; i < blocks; i++)
		memory[i * huge] = 2;
	return sum;
}

/* Writes each page again when the child is gone. */
static int reuse(int pages) {
	/* A page that waits in another CPU's batch for the LRU lists has one reference more, and would be copied. */
	cpu_set_t one;
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	sched_setaffinity(0, sizeof one, &one);
	volatile char *memory = touched(pages);
	pid_t child = fork();
	check(child >= 0, "fork");
	if (child == 0)
		_exit(0);
	waitpid(child, 0, 0);
	write_pages(memory, pages);
	return 0;
}

/* The kernel writes the child's pages, in one system call. */
static int kernel_write(int pages) {
	volatile char *memory = touched(pages);
	int zeros = open("/dev/zero", O_RDONLY);
	pid_t child = fork();
	check(child >= 0, "fork");
	if (child == 0)
		_exit(read(zeros, (void *)memory, pages * page) != (ssize_t)(pages * page));
	int status;
	waitpid(child, &status, 0);
	return status != 0;
}

static struct {
	volatile char *memory;
	int pages;
} work;

static void *write_share(void *share) {
	write_pages(work.memory + (long)share * work.pages * page, work.pages);
	return 0;
}

/* Threads of the child write their own share of the pages each. */
static int threads_write(int count, int pages) {
	work.memory = touched(count * pages);
	work.pages = pages;
	pid_t child = fork();
	check(child >= 0, "fork");
	if (child == 0) {
		pthread_t threads[64];
		for (long i = 0; i < count; i++)
			check(i < 64 && pthread_create(&threads[i], 0, write_share, (void *)i) == 0, "pthread_create");
		for (int i = 0; i < count; i++)
			pthread_join(threads[i], 0);
		_exit(0);
	}
	int status;
	waitpid(child, &status, 0);
	return status != 0;
}

/* Writes through another's eyes: the parent writes into the child's memory, which raises no page fault. */
static int foreign_write(int pages) {
	volatile char *memory = touched(pages);
	int ready[2];
	check(pipe(ready) == 0, "pipe");
	pid_t child = fork();
	check(child >= 0, "fork");
	if (child == 0) {
		char word;
		close(ready[1]);
		check(read(ready[0], &word, 1) == 0, "read");
		_exit(memory[0] == 7 ? 0 : 1);
	}
	char byte = 7;
	struct iovec from = {&byte, 1};
	for (int i = 0; i < pages; i++) {
		struct iovec to = {(void *)(memory + i * page), 1};
		check(process_vm_writev(child, &from, 1, &to, 1, 0) == 1, "process_vm_writev");
	}
	close(ready[1]);
	int status;
	waitpid(child, &status, 0);
	return status != 0;
}

/* Each time a fault in kernel mode that copies nothing, then a write to the child's memory without any fault. */
static int call_then_foreign_write(int pages) {
	cpu_set_t one;
	CPU_ZERO(&one);
	CPU_SET(sched_getcpu(), &one);
	sched_setaffinity(0, sizeof one, &one);
	volatile char *theirs = touched(pages);
	int ready[2];
	check(pipe(ready) == 0, "pipe");
	pid_t child = fork();
	check(child >= 0, "fork");
	if (child == 0) {
		char word;
		close(ready[1]);
		_exit(read(ready[0], &word, 1) != 0);
	}
	volatile char *ours = touched(pages);
	pid_t second = fork();
	check(second >= 0, "fork");
	if (second == 0)
		_exit(0);
	waitpid(second, 0, 0);
	int zeros = open("/dev/zero", O_RDONLY);
	char byte = 7;
	struct iovec from = {&byte, 1};
	for (int i = 0; i < pages; i++) {
		struct iovec to = {(void *)(theirs + i * page), 1};
		check(read(zeros, (void *)(ours + i * page), 1) == 1, "read");
		check(process_vm_writev(child, &from, 1, &to, 1, 0) == 1, "process_vm_writev");
	}
	close(ready[1]);
	waitpid(child, 0, 0);
	return 0;
}

/* Each time a fault in kernel mode on a shared page, then memory that is brought in without any fault. */
static int call_then_populate(int pages) {
	volatile char *shared = mmap(0, pages * page, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	check(shared != MAP_FAILED, "mmap");
	pid_t child = fork();
	check(child >= 0, "fork");
	if (child == 0) {
		/* So that the pages are there, but not in the parent's page tables. */
		write_pages(shared, pages);
		_exit(0);
	}
	waitpid(child, 0, 0);
	int zeros = open("/dev/zero", O_RDONLY);
	for (int i = 0; i < pages; i++) {
		check(read(zeros, (void *)(shared + i * page), 1) == 1, "read");
		int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE;
		check(mmap(0, page, PROT_READ | PROT_WRITE, flags, -1, 0) != MAP_FAILED, "mmap");
	}
	return 0;
}

/* Writes read-only memory through a system call, which answers EFAULT and raises no signal. */
static int fault_in_call(int pages) {
	volatile char *memory = touched(pages);
	mprotect((void *)memory, pages * page, PROT_READ);
	int zeros = open("/dev/zero", O_RDONLY);
	for (int i = 0; i < pages; i++)
		check(read(zeros, (void *)(memory + i * page), 1) == -1 && errno == EFAULT, "read should fail");
	return 0;
}

/* Pages that were swapped out, or at least asked to be, then written by a child. Prints how many were out. */
static int swap_write(int pages) {
	volatile char *memory = touched(pages);
	madvise((void *)memory, pages * page, MADV_PAGEOUT);
	unsigned char *resident = malloc(pages);
	check(mincore((void *)memory, pages * page, resident) == 0, "mincore");
	int out = 0;
	for (int i = 0; i < pages; i++)
		out += !(resident[i] & 1);
	printf("%d\n", out);
	fflush(stdout);
	pid_t child = fork();
	if (child == 0) {
		write_pages(memory, pages);
		_exit(0);
	}
	waitpid(child, 0, 0);
	return 0;
}

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif

/* The kernel makes pages writable on request, without a page fault: zero pages, then shared ones in a child, twice. */
static int populate(int pages) {
	size_t size = pages * page;
	volatile char *memory = mapped(pages);
	for (int i = 0; i < pages; i++)
		(void)memory[i * page];
	check(!madvise((void *)memory, size, MADV_POPULATE_WRITE), "MADV_POPULATE_WRITE");
	for (int round = 0; round < 2; round++) {
		pid_t child = fork();
		check(child >= 0, "fork");
		if (child == 0) {
			if (round == 0)
				check(!madvise((void *)memory, size, MADV_POPULATE_WRITE), "MADV_POPULATE_WRITE");
			else
				check(!mlock((void *)memory, size), "mlock");
			_exit(0);
		}
		int status;
		waitpid(child, &status, 0);
		check(status == 0, "child");
	}
	return 0;
}

/* Bytes of a huge page, of the size that the kernel takes if none is named. */
static size_t huge_page(void) {
	FILE *meminfo = fopen("/proc/meminfo", "r");
	check(meminfo != 0, "/proc/meminfo");
	char line[128];
	size_t kb = 0;
	while (!kb && fgets(line, sizeof line, meminfo))
		sscanf(line, "Hugepagesize: %zu kB", &kb);
	fclose(meminfo);
	check(kb != 0, "Hugepagesize in /proc/meminfo");
	return kb << 10;
}

/* Huge pages from the pool: the child copies them all, then the parent, alone again, writes them without a copy. */
static int hugetlb(int pages, int sharing) {
	size_t size = huge_page();
	int flags = sharing | MAP_ANONYMOUS | MAP_HUGETLB;
	volatile char *memory = mmap(0, pages * size, PROT_READ | PROT_WRITE, flags, -1, 0);
	check(memory != MAP_FAILED, "mmap of huge pages");
	for (int i = 0; i < pages; i++)
		memory[i * size] = 1;
	pid_t child = fork();
	check(child >= 0, "fork");
	if (child == 0) {
		for (int i = 0; i < pages; i++)
			memory[i * size] = 2;
		_exit(0);
	}
	int status;
	waitpid(child, &status, 0);
	for (int i = 0; i < pages; i++)
		memory[i * size] = 3;
	return status != 0;
}

/* The page frames of memory, as /proc/self/pagemap tells them. */
static void frames_of(volatile char *memory, int pages, unsigned long *frames) {
	int pagemap = open("/proc/self/pagemap", O_RDONLY);
	ssize_t bytes = pages * sizeof *frames;
	check(pread(pagemap, frames, bytes, (size_t)memory / page * sizeof *frames) == bytes, "pagemap");
	close(pagemap);
	for (int i = 0; i < pages; i++)
		frames[i] &= (1ul << 55) - 1;
}

/* Pages that are pinned when the process forks, as buffers are that are registered for input and output. Prints how many
   of them the child has in frames of its own, or -1 if they could not be pinned. */
static int pinned(int pages) {
	volatile char *memory = touched(pages);
	struct iovec buffer = {(void *)memory, pages * page};
	struct io_uring_params parameters = {0};
	int ring = syscall(SYS_io_uring_setup, 1, &parameters);
	if (ring < 0 || syscall(SYS_io_uring_register, ring, IORING_REGISTER_BUFFERS, &buffer, 1)) {
		puts("-1");
		return 0;
	}
	unsigned long *ours = calloc(pages, sizeof *ours), *theirs = calloc(pages, sizeof *theirs);
	frames_of(memory, pages, ours);
	pid_t child = fork();
	check(child >= 0, "fork");
	if (child == 0) {
		int own = 0;
		frames_of(memory, pages, theirs);
		for (int i = 0; i < pages; i++)
			own += ours[i] && theirs[i] && ours[i] != theirs[i];
		printf("%d\n", own);
		fflush(stdout);
		_exit(0);
	}
	int status;
	waitpid(child, &status, 0);
	return status != 0;
}

int fault_program(const char *name, int number, int second) {
	if (!strcmp(name, "fork-write"))
		return fork_write(number);
	if (!strcmp(name, "write-slowly"))
		return write_slowly(number);
	if (!strcmp(name, "huge-zero"))
		return huge_zero(number);
	if (!strcmp(name, "zero"))
		return zero(number);
	if (!strcmp(name, "reuse"))
		return reuse(number);
	if (!strcmp(name, "kernel-write"))
		return kernel_write(number);
	if (!strcmp(name, "threads-write"))
		return threads_write(number, second);
	if (!strcmp(name, "foreign-write"))
		return foreign_write(number);
	if (!strcmp(name, "call-then-foreign-write"))
		return call_then_foreign_write(number);
	if (!strcmp(name, "call-then-populate"))
		return call_then_populate(number);
	if (!strcmp(name, "fault-in-call"))
		return fault_in_call(number);
	if (!strcmp(name, "populate"))
		return populate(number);
	if (!strcmp(name, "hugetlb"))
		return hugetlb(number, MAP_PRIVATE);
	if (!strcmp(name, "hugetlb-shared"))
		return hugetlb(number, MAP_SHARED);
	if (!strcmp(name, "pinned"))
		return pinned(number);
	if (!strcmp(name, "swap-write"))
		return swap_write(number);
	return -1;
}
