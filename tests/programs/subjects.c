/* subjects: processes with unusual lives or faults, for the live tests. Each argument list is a program; see main(). */
#include "subjects.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

size_t page;

void check(int ok, const char *what) {
	if (!ok) {
		perror(what);
		_exit(99);
	}
}

/* Memory between two pages that nobody may use, so that it is a mapping of its own: its faults are known exactly. */
volatile char *mapped(int pages) {
	char *whole = mmap(0, (pages + 2) * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check(whole != MAP_FAILED, "mmap");
	check(mprotect(whole + page, pages * page, PROT_READ | PROT_WRITE) == 0, "mprotect");
	madvise(whole + page, pages * page, MADV_NOHUGEPAGE);
	return whole + page;
}

volatile char *touched(int pages) {
	volatile char *memory = mapped(pages);
	for (int i = 0; i < pages; i++)
		memory[i * page] = 1;
	return memory;
}

void write_pages(volatile char *memory, int pages) {
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

static struct {
	volatile char *memory;
	int pages;
} work;

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

static int go[2];

static void *write_when_told(void *index) {
	char word;
	check(read(go[0], &word, 1) == 1, "read");
	write_pages(work.memory + (long)index * work.pages * page, work.pages);
	return 0;
}

/* Threads of the child write their shares of the pages once the parent gets SIGUSR1. */
static int write_on_signal(int count, int pages) {
	sigset_t signals;
	sigemptyset(&signals);
	sigaddset(&signals, SIGUSR1);
	sigprocmask(SIG_BLOCK, &signals, 0);
	work.memory = touched(count * pages);
	work.pages = pages;
	check(pipe(go) == 0, "pipe");
	pid_t child = fork();
	check(child >= 0, "fork");
	if (child == 0) {
		pthread_t threads[64];
		for (long i = 0; i < count; i++)
			check(i < 64 && pthread_create(&threads[i], 0, write_when_told, (void *)i) == 0, "pthread_create");
		for (int i = 0; i < count; i++)
			pthread_join(threads[i], 0);
		_exit(0);
	}
	int signal;
	sigwait(&signals, &signal);
	for (int i = 0; i < count; i++)
		check(write(go[1], "", 1) == 1, "write");
	int status;
	waitpid(child, &status, 0);
	return status != 0;
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

/* The parent copies the pages and exits, while its child is there. */
static int leave_first(int pages) {
	volatile char *memory = touched(pages);
	pid_t self = getpid();
	pid_t child = fork();
	check(child >= 0, "fork");
	if (child == 0) {
		while (getppid() == self)
			usleep(1000);
		usleep(20000);
		_exit(0);
	}
	write_pages(memory, pages);
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

/* Becomes a command to whose bpf(2) the kernel answers with this errno, as sandboxes and container runtimes have it. */
static int refuse_bpf(int answer, char **command) {
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_bpf, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | answer),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
	check(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0, "no_new_privs");
	check(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0, "seccomp");
	execvp(command[0], command);
	check(0, command[0]);
	return 1;
}

int main(int count, char **words) {
	page = sysconf(_SC_PAGESIZE);
	const char *name = count > 1 ? words[1] : "";
	int number = count > 2 ? atoi(words[2]) : 0;
	if (!strcmp(name, "reuse-pid"))
		return reuse_pid();
	if (!strcmp(name, "exec-by-thread"))
		return exec_by_thread(words[0]);
	if (!strcmp(name, "write-on-signal"))
		return write_on_signal(number, count > 3 ? atoi(words[3]) : 0);
	if (!strcmp(name, "leader-leaves"))
		return leader_leaves(number);
	if (!strcmp(name, "vfork-exec"))
		return vfork_exec(number);
	if (!strcmp(name, "daemonise"))
		return daemonise(number, count > 3 ? atoi(words[3]) : 0);
	if (!strcmp(name, "zombie"))
		return zombie(number);
	if (!strcmp(name, "thread-storm"))
		return thread_storm(number);
	if (!strcmp(name, "wait-for-signal"))
		return wait_for_signal();
	if (!strcmp(name, "leave-first"))
		return leave_first(number);
	if (!strcmp(name, "write-on-line"))
		return write_on_line(number);
	if (!strcmp(name, "fork-stacks"))
		return fork_stacks();
	if (!strcmp(name, "stacks") && count > 3)
		return stacks(number, atoi(words[3]));
	if (!strcmp(name, "pages-by-parent") && count > 3)
		return pages_by_parent(number, atoi(words[3]));
	if (!strcmp(name, "pages-by-threads") && count > 3)
		return pages_by_threads(number, atoi(words[3]));
	if (!strcmp(name, "made-code"))
		return made_code(number);
	if (!strcmp(name, "refuse-bpf") && count > 3)
		return refuse_bpf(number, words + 3);
	int status = fault_program(name, number, count > 3 ? atoi(words[3]) : 0);
	if (status >= 0)
		return status;
	fprintf(stderr, "subjects: no program %s\n", name);
	return 2;
}
