/* subjects: processes with unusual lives, for the live tests. Each argument list is a program; see main(). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

static size_t page;

static void check(int ok, const char *what) {
	if (!ok) {
		perror(what);
		_exit(99);
	}
}

/* Memory between two pages that nobody may use, so that it is a mapping of its own: its faults are known exactly. */
static volatile char *mapped(int pages) {
	char *whole = mmap(0, (pages + 2) * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(whole != MAP_FAILED, "mmap");
	check(mprotect(whole + page, pages * page, PROT_READ | PROT_WRITE) == 0, "mprotect");
	madvise(whole + page, pages * page, MADV_NOHUGEPAGE);
	return whole + page;
}

static volatile char *touched(int pages) {
	volatile char *memory = mapped(pages);
	for (int i = 0; i < pages; i++)
		memory[i * page] = 1;
	return memory;
}

static void write_pages(volatile char *memory, int pages) {
	for (int i = 0; i < pages; i++)
		memory[i * page] = 2;
}

/* Two children with one process id: the first writes 300 pages, the second 700. Prints the id, or 0. */
static int reuse_pid(void) {
	volatile char *memory = touched(700);
	for (int attempt = 0; attempt < 200; attempt++) {
		pid_t first = fork();
		check(first >= 0, "fork");
		if (first == 0) {
			write_pages(memory, 300);
			_exit(0);
		}
		waitpid(first, 0, 0);
		int last = open("/proc/sys/kernel/ns_last_pid", O_WRONLY | O_CLOEXEC);
		check(last >= 0, "ns_last_pid");
		char text[16];
		int length = snprintf(text, sizeof text, "%d", first - 1);
		check(write(last, text, length) == length, "ns_last_pid");
		close(last);
		pid_t second = fork();
		check(second >= 0, "fork");
		if (second == 0) {
			write_pages(memory, 700);
			_exit(0);
		}
		waitpid(second, 0, 0);
		if (second == first) {
			printf("%d\n", first);
			return 0;
		}
	}
	printf("0\n");
	return 0;
}

static char **next_program;

static void *become_next(void *unused) {
	execv(next_program[0], next_program);
	check(0, "execv");
	return unused;
}

static void *wait_for_ever(void *unused) {
	for (;;)
		pause();
	return unused;
}

/* A thread that is not the first becomes another program, which forks and writes 100 pages. */
static int exec_by_thread(char *self) {
	static char *arguments[] = {0, "fork-write", "100", 0};
	arguments[0] = self;
	next_program = arguments;
	pthread_t threads[4];
	for (int i = 0; i < 3; i++)
		check(pthread_create(&threads[i], 0, wait_for_ever, 0) == 0, "pthread_create");
	check(pthread_create(&threads[3], 0, become_next, 0) == 0, "pthread_create");
	wait_for_ever(0);
	return 0;
}

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

/* Reads each page, which maps the zero page, then writes it. */
static int zero(int pages) {
	volatile char *memory = mapped(pages);
	int sum = 0;
	for (int i = 0; i < pages; i++)
		sum += memory[i * page];
	write_pages(memory, pages);
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

static void *leave_then_write(void *unused) {
	usleep(50000);
	write_pages(work.memory, work.pages);
	return unused;
}

/* The child's first thread leaves; another one writes the pages afterwards. */
static int leader_leaves(int pages) {
	work.memory = touched(pages);
	work.pages = pages;
	pid_t child = fork();
	check(child >= 0, "fork");
	if (child == 0) {
		pthread_t thread;
		check(pthread_create(&thread, 0, leave_then_write, 0) == 0, "pthread_create");
		pthread_exit(0);
	}
	waitpid(child, 0, 0);
	return 0;
}

/* The child shares the parent's memory, and writes to it, until it becomes true(1). */
static int vfork_exec(int pages) {
	volatile char *memory = touched(pages);
	pid_t child = vfork();
	check(child >= 0, "vfork");
	if (child == 0) {
		write_pages(memory, pages);
		execlp("true", "true", (char *)0);
		_exit(127);
	}
	int status;
	waitpid(child, &status, 0);
	return memory[0] == 2 ? status : 1;
}

/* A grandchild in a session of its own writes the pages after the command is gone. */
static int daemonise(int pages, int delay_ms) {
	volatile char *memory = touched(pages);
	pid_t child = fork();
	check(child >= 0, "fork");
	if (child == 0) {
		setsid();
		if (fork() == 0) {
			close(0), close(1), close(2);
			usleep(delay_ms * 1000);
			write_pages(memory, pages);
		}
		_exit(0);
	}
	waitpid(child, 0, 0);
	return 0;
}

/* A child that has exited and is not waited for, while the parent goes on. */
static int zombie(int pages) {
	volatile char *memory = touched(pages);
	pid_t child = fork();
	check(child >= 0, "fork");
	if (child == 0) {
		write_pages(memory, pages);
		_exit(0);
	}
	usleep(200000);
	return 0;
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

static void *do_nothing(void *unused) { return unused; }

/* Many short threads, one after the other and in flocks. */
static int thread_storm(int count) {
	pthread_t flock[16];
	for (int done = 0; done < count; done += 16) {
		for (int i = 0; i < 16; i++)
			check(pthread_create(&flock[i], 0, do_nothing, 0) == 0, "pthread_create");
		for (int i = 0; i < 16; i++)
			pthread_join(flock[i], 0);
	}
	return 0;
}

static volatile sig_atomic_t interrupted;

static void interrupt(int signal) { interrupted = signal; }

/* Says "ready", then waits for a signal, whose number it prints; exits with 40. */
static int wait_for_signal(void) {
	struct sigaction action = {.sa_handler = interrupt};
	sigset_t all, before;
	sigfillset(&all);
	sigprocmask(SIG_BLOCK, &all, &before);
	sigaction(SIGINT, &action, 0);
	sigaction(SIGTERM, &action, 0);
	fputs("ready\n", stdout);
	fflush(stdout);
	sigsuspend(&before);
	printf("signal %d\n", interrupted);
	return 40;
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

/* Huge pages from the pool: the child copies them all, then the parent, alone again, writes them without a copy. */
static int hugetlb(int pages) {
	size_t size = 2 << 20;
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB;
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

int main(int count, char **words) {
	page = sysconf(_SC_PAGESIZE);
	const char *name = count > 1 ? words[1] : "";
	int number = count > 2 ? atoi(words[2]) : 0;
	if (!strcmp(name, "reuse-pid"))
		return reuse_pid();
	if (!strcmp(name, "exec-by-thread"))
		return exec_by_thread(words[0]);
	if (!strcmp(name, "fork-write"))
		return fork_write(number);
	if (!strcmp(name, "zero"))
		return zero(number);
	if (!strcmp(name, "reuse"))
		return reuse(number);
	if (!strcmp(name, "kernel-write"))
		return kernel_write(number);
	if (!strcmp(name, "threads-write"))
		return threads_write(number, count > 3 ? atoi(words[3]) : 0);
	if (!strcmp(name, "leader-leaves"))
		return leader_leaves(number);
	if (!strcmp(name, "vfork-exec"))
		return vfork_exec(number);
	if (!strcmp(name, "daemonise"))
		return daemonise(number, count > 3 ? atoi(words[3]) : 0);
	if (!strcmp(name, "zombie"))
		return zombie(number);
	if (!strcmp(name, "foreign-write"))
		return foreign_write(number);
	if (!strcmp(name, "thread-storm"))
		return thread_storm(number);
	if (!strcmp(name, "wait-for-signal"))
		return wait_for_signal();
	if (!strcmp(name, "fault-in-call"))
		return fault_in_call(number);
	if (!strcmp(name, "hugetlb"))
		return hugetlb(number);
	if (!strcmp(name, "swap-write"))
		return swap_write(number);
	fprintf(stderr, "subjects: no program %s\n", name);
	return 2;
}
