//! Starting a command so that it is traced from its first instruction, and copies nothing before.
//!
//! A forked child of ours would copy pages of *our* memory until it execs, and the kernel's own counters (taskstats)
//! would count them as the command's. So the child shares our memory until then (`CLONE_VM | CLONE_VFORK`, as
//! posix_spawn does), on a stack that is already touched, and waits for a word before it execs.

use std::{
    cell::Cell,
    ffi::{CString, OsStr, OsString},
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
        unix::ffi::{OsStrExt as _, OsStringExt as _},
    },
    path::Path,
    thread::JoinHandle,
};

use nix::{
    errno::Errno,
    sched::CloneFlags,
    sys::signal::{SigSet, SigmaskHow},
    unistd::Pid,
};

/// Why a command did not start.
#[derive(Debug, thiserror::Error)]
pub enum LaunchError {
    /// No such program.
    #[error("{program}: command not found")]
    NotFound {
        /// As given.
        program: String,
    },
    /// The program cannot be run.
    #[error("{program}: cannot be executed: {answer}")]
    NotExecutable {
        /// As given.
        program: String,
        /// The kernel's answer.
        answer: io::Error,
    },
    /// No process could be made.
    #[error("cannot {action} for {program}: {answer}")]
    Spawn {
        /// What was tried.
        action: &'static str,
        /// As given.
        program: String,
        /// The kernel's answer.
        answer: io::Error,
    },
}

/// How to start a command.
#[derive(Clone, Debug, Default)]
pub struct Launch {
    /// Program and arguments.
    pub command: Vec<OsString>,
    /// File descriptors to give to it: ours, and its number there.
    pub inherit: Vec<(RawFd, RawFd)>,
}

/// A process that waits to become the command.
pub(super) struct Waiting {
    /// Its process id.
    pub(super) pid: u32,
    program: String,
    go: OwnedFd,
    thread: JoinHandle<Result<Pid, Errno>>,
    exec_errno: std::sync::Arc<std::sync::atomic::AtomicI32>,
}

/// Descriptors for the command have lower numbers than this.
const OUT_OF_THE_WAY: RawFd = 64;

/// Bytes of the child's stack; execvp keeps the whole argument vector on it when it runs a script without `#!`.
const STACK_BYTES: usize = 1 << 20;

/// Everything the child needs, made before it exists: it must not allocate, as it shares our heap.
struct Child {
    program: CString,
    argv: Vec<*const libc::c_char>,
    _arguments: Vec<CString>,
    inherit: Vec<(RawFd, RawFd)>,
    copies: Vec<Cell<RawFd>>,
    mask: SigSet,
    go: RawFd,
    pid: RawFd,
    errno: std::sync::Arc<std::sync::atomic::AtomicI32>,
}

// SAFETY: the pointers in `argv` point into `_arguments`, which moves along with them (its heap buffers do not move).
unsafe impl Send for Child {}

impl Launch {
    /// Makes the process; it waits.
    pub(super) fn start(&self) -> Result<Waiting, LaunchError> {
        let name = self.command.first().map(OsString::as_os_str).unwrap_or_default();
        let program = name.to_string_lossy().into_owned();
        let failed = |action| {
            let program = program.clone();
            move |errno: Errno| LaunchError::Spawn { action, program, answer: errno.into() }
        };
        let (go_read, go_write) = pipe().map_err(failed("make a pipe"))?;
        let (pid_read, pid_write) = pipe().map_err(failed("make a pipe"))?;
        let exec_errno = std::sync::Arc::<std::sync::atomic::AtomicI32>::default();
        let c_string = |text: &OsStr| {
            CString::new(text.as_bytes()).map_err(|_| LaunchError::NotFound { program: program.clone() })
        };
        let arguments = self.command.iter().map(|a| c_string(a)).collect::<Result<Vec<_>, _>>()?;
        let mut child = Child {
            program: c_string(name)?,
            argv: arguments.iter().map(|a| a.as_ptr()).chain([std::ptr::null()]).collect(),
            _arguments: arguments,
            inherit: self.inherit.clone(),
            copies: vec![Cell::new(-1); self.inherit.len()],
            mask: SigSet::empty(),
            go: go_read.as_raw_fd(),
            pid: pid_write.as_raw_fd(),
            errno: exec_errno.clone(),
        };
        let thread = std::thread::Builder::new()
            .name("launch".to_owned())
            .spawn(move || {
                // The thread is suspended until the child has exec'ed; no signal handler may run in between.
                let all = SigSet::all();
                nix::sys::signal::pthread_sigmask(
                    SigmaskHow::SIG_SETMASK,
                    Some(&all),
                    Some(&mut child.mask),
                )?;
                child.mask = inherited_mask(child.mask);
                let pid = clone_child(&mut child);
                drop((go_read, pid_write));
                pid
            })
            .map_err(|answer| LaunchError::Spawn {
                action: "start a thread",
                program: program.clone(),
                answer,
            })?;
        let mut bytes = [0; 4];
        let got = nix::unistd::read(&pid_read, &mut bytes).map_err(failed("learn the process id"))?;
        if got != bytes.len() {
            let errno = thread.join().ok().and_then(Result::err).unwrap_or(Errno::EAGAIN);
            return Err(failed("make a process")(errno));
        }
        Ok(Waiting { pid: u32::from_ne_bytes(bytes), program, go: go_write, thread, exec_errno })
    }
}

/// The command gets the signals that we got: those that cowtrace reads from a descriptor are blocked for us only.
fn inherited_mask(mut mask: SigSet) -> SigSet {
    for signal in super::signals::WATCHED {
        mask.remove(signal);
    }
    mask
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Errno> {
    let mut fds = [0; 2];
    // SAFETY: an array of two.
    Errno::result(unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) })?;
    // SAFETY: new descriptors that nobody else owns.
    Ok(unsafe { (OwnedFd::from_raw_fd(fds[0]), OwnedFd::from_raw_fd(fds[1])) })
}

fn clone_child(child: &mut Child) -> Result<Pid, Errno> {
    // Written through, so that the child does not touch any of it first: those faults would be its own.
    let mut stack = vec![0xa5_u8; STACK_BYTES];
    let flags = CloneFlags::CLONE_VM | CloneFlags::CLONE_VFORK;
    let body = Box::new(|| child.exec());
    // SAFETY: the parent's thread is suspended until the child execs or exits, so that everything borrowed lives on,
    // and the child's use of this thread's errno disturbs nobody.
    unsafe { nix::sched::clone(body, &mut stack, flags, Some(libc::SIGCHLD)) }
}

impl Child {
    /// Runs in the child, with our memory: only system calls, no allocation.
    fn exec(&self) -> isize {
        // SAFETY: plain system calls on memory that outlives them; the arguments end with a null pointer.
        unsafe {
            // Rust's start-up ignores it; dispositions are the child's own.
            libc::signal(libc::SIGPIPE, libc::SIG_DFL);
            let pid = (libc::getpid() as u32).to_ne_bytes();
            libc::write(self.pid, pid.as_ptr().cast(), pid.len());
            let mut go = 0u8;
            if libc::read(self.go, (&raw mut go).cast(), 1) != 1 {
                libc::_exit(127);
            }
            // First out of the way of all wanted numbers: one's source may be another's goal.
            for (copy, &(ours, _)) in self.copies.iter().zip(&self.inherit) {
                copy.set(libc::fcntl(ours, libc::F_DUPFD_CLOEXEC, OUT_OF_THE_WAY));
            }
            for (copy, &(_, theirs)) in self.copies.iter().zip(&self.inherit) {
                libc::dup2(copy.get(), theirs);
            }
            libc::pthread_sigmask(libc::SIG_SETMASK, self.mask.as_ref(), std::ptr::null_mut());
            libc::execvp(self.program.as_ptr(), self.argv.as_ptr());
            self.errno.store(*libc::__errno_location(), std::sync::atomic::Ordering::SeqCst);
            libc::_exit(127)
        }
    }
}

impl Waiting {
    /// Lets the process become the command. An error means that it has exited instead, and is reaped.
    pub(super) fn release(self) -> Result<(), LaunchError> {
        let Waiting { pid, program, go, thread, exec_errno } = self;
        let pid = Pid::from_raw(pid as i32);
        let told = nix::unistd::write(&go, &[1]);
        drop(go);
        // The thread comes back once the child has exec'ed or exited.
        let _ = thread.join();
        let errno = exec_errno.load(std::sync::atomic::Ordering::SeqCst);
        if errno == 0 && told.is_ok() {
            return Ok(());
        }
        let _ = nix::sys::wait::waitpid(pid, None);
        Err(match Errno::from_raw(errno) {
            Errno::ENOENT => missing(program),
            other => LaunchError::NotExecutable { program, answer: other.into() },
        })
    }
}

/// ENOENT is also what a script gets whose interpreter is missing; a shell calls that "not found" as well.
fn missing(program: String) -> LaunchError {
    if Path::new(&OsString::from_vec(program.clone().into_bytes())).is_file() {
        let answer = io::Error::new(io::ErrorKind::NotFound, "its interpreter is missing");
        return LaunchError::NotExecutable { program, answer };
    }
    LaunchError::NotFound { program }
}
