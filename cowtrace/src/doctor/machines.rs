//! Three machines as they answered once, for tests of what users see. Only their hooks are made up: a few for each
//! backend, which answer as these kernels do or might.

use std::io;

use super::*;
use crate::{
    kernel::{Lockdown, symbols_in},
    model::KernelFacts,
    probe::{Backend, HookTrial, MappingError},
    proc::ProcError,
};

/// What a machine answers.
struct Answers {
    release: &'static str,
    version: &'static str,
    status: &'static str,
    kallsyms: String,
    described: [bool; FUNCTIONS.len()],
    btf_bytes: u64,
    lockdown: io::Result<Option<Lockdown>>,
    bpf: BpfAnswer,
    settings: &'static [(&'static str, &'static str)],
    mountinfo: &'static str,
    pagemap_entry: u64,
    mappings: Result<(), MappingError>,
    wpcopy_count: Result<Option<u64>, ProcError>,
    preflight: Result<(), ProbeError>,
    backends: Vec<BackendTrial>,
    chosen: Option<Backend>,
}

impl Answers {
    fn checkup(self) -> Checkup {
        let kernel = KernelFact {
            kernel: KernelFacts {
                release: self.release.to_owned(),
                arch: "x86_64".to_owned(),
                page_size: 4096,
            },
            version: self.version.to_owned(),
            cpus: 2,
            preemption: Preemption::from_texts(self.version, None),
        };
        let privileges = Privileges::from_parts(self.status, Some(0xefff_fffc), Some(0xefff_fffd));
        let symbols = symbols_in(self.kallsyms.as_bytes(), &FUNCTIONS);
        let text = |name: &str| {
            let found = self.settings.iter().find(|(setting, _)| *setting == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        let facts = Facts {
            btf: BtfFact::from_parts(Some(self.btf_bytes), Ok(())),
            lockdown: LockdownFact::from_parts(self.lockdown, self.bpf.reads_kernel_memory),
            privileges: PrivilegesFact::from_parts(&privileges),
            bpf: BpfFact::from_parts(&self.bpf, &privileges),
            settings: SettingsFact::from_texts(text),
            tracefs: TracefsFact::from_mountinfo(Some(self.mountinfo)),
            kallsyms: KallsymsFact::from_parts(&symbols),
            pagemap: PagemapFact::from_entry(Ok(self.pagemap_entry)),
            mappings: MappingsFact::from_outcome(self.mappings),
            accounting: AccountingFact::from_parts(self.wpcopy_count, Some("0\n")),
            memlock: MemlockFact::from_parts(8 << 20, self.release, privileges.capabilities),
        };
        let functions = functions::facts(symbols.as_ref().ok(), Some(&self.described));
        let examination = Examination { backends: self.backends, chosen: self.chosen };
        let mut checkup = Checkup::new(kernel, facts, functions, self.preflight, examination);
        // A release must not change the frozen text.
        checkup.cowtrace.version = "0.1.0";
        checkup
    }
}

fn absent() -> io::Error {
    io::Error::from_raw_os_error(libc::ENOENT)
}

fn refused() -> io::Error {
    io::Error::from_raw_os_error(libc::EPERM)
}

fn hook(hook: &str, target: Option<&str>, answer: Option<&str>, gives: &'static str) -> HookTrial {
    HookTrial {
        hook: hook.to_owned(),
        required: matches!(gives, "copies" | "faults"),
        target: target.map(str::to_owned),
        answer: answer.map(str::to_owned),
        gives,
    }
}

const EPERM: &str = "Operation not permitted (os error 1)";

fn tracepoint(answer: Option<&str>) -> BackendTrial {
    let names = ["page_fault_user", "page_fault_kernel", "mm_page_alloc"];
    let hook =
        |name: &&str| hook(&format!("tp_btf {name}"), answer.is_none().then_some(*name), answer, "faults");
    BackendTrial {
        backend: Backend::Tracepoint,
        works: answer.is_none(),
        refusal: answer.map(|answer| format!("loading tp_btf page_fault_user: {answer}")),
        blind_to: vec!["gup", "pinned"],
        hooks: names.iter().map(hook).collect(),
    }
}

/// fentry or kprobe, with one answer to all.
fn functions_refused(backend: Backend, answer: &str) -> BackendTrial {
    let name = backend.name();
    let hook = |function: &&str| hook(&format!("{name} {function}"), None, Some(answer), "copies");
    BackendTrial {
        backend,
        works: false,
        refusal: Some(format!("attaching {name} do_wp_page: {answer}")),
        blind_to: Vec::new(),
        hooks: ["do_wp_page", "folio_add_new_anon_rmap", "hugetlb_wp"].iter().map(hook).collect(),
    }
}

const KALLSYMS_6_18: &str = "ffffffff81356590 T kernel_clone\nffffffff813a7ff0 T wake_up_new_task\n\
    ffffffff815de6a0 t wp_page_reuse\nffffffff815e2f50 t do_wp_page\nffffffff815ea4a0 T do_swap_page\n\
    ffffffff815ffa50 T folio_add_new_anon_rmap\nffffffff816031e0 T hugetlb_add_new_anon_rmap\n\
    ffffffff81652f90 t hugetlb_wp\nffffffff81678350 T __split_huge_pmd\n";

const KALLSYMS_6_12: &str = "ffffffffac2bc8d0 T kernel_clone\nffffffffac30cd60 T wake_up_new_task\n\
    ffffffffac56aa10 t wp_page_reuse\nffffffffac56f2d0 t do_wp_page\nffffffffac575e80 T do_swap_page\n\
    ffffffffac58bf00 T folio_add_new_anon_rmap\nffffffffac58e7d0 T hugetlb_add_new_anon_rmap\n\
    ffffffffac5d1af0 t hugetlb_wp\nffffffffac5f7c30 T __split_huge_pmd\n";

/// As it is shown to those who may not see addresses.
fn hidden(kallsyms: &str) -> String {
    let lines = kallsyms.lines().filter_map(|line| line.split_once(' '));
    lines.map(|(_, symbol)| format!("0000000000000000 {symbol}\n")).collect()
}

/// In the order of [`FUNCTIONS`].
const DESCRIBED_SINCE_6_12: [bool; FUNCTIONS.len()] =
    [true, false, true, false, true, true, false, true, false, true, false, true, true, true];

const MOUNTINFO: &str = "24 1 0:21 / /sys rw,relatime - sysfs sysfs rw\n";
const ROOT: &str = "CapEff:\t000001ffffffffff\nSeccomp:\t0\n";

/// A virtual machine without kprobes, whose kernel refuses fentry.
fn without_function_hooks() -> Answers {
    Answers {
        release: "6.18.44-fc-v657",
        version: "#1 SMP PREEMPT_DYNAMIC @0",
        status: "CapEff:\t000001fffeffffff\nSeccomp:\t0\n",
        kallsyms: KALLSYMS_6_18.to_owned(),
        described: DESCRIBED_SINCE_6_12,
        btf_bytes: 5_593_088,
        lockdown: Err(absent()),
        bpf: BpfAnswer { refused: None, reads_kernel_memory: Some(true) },
        settings: &[
            ("kernel/unprivileged_bpf_disabled", "2"),
            ("kernel/perf_event_paranoid", "2"),
            ("kernel/kptr_restrict", "0"),
            ("net/core/bpf_jit_enable", "1"),
        ],
        mountinfo: MOUNTINFO,
        pagemap_entry: 1 << 63 | 0x1234,
        mappings: Ok(()),
        wpcopy_count: Ok(Some(0)),
        preflight: Ok(()),
        backends: vec![
            functions_refused(Backend::Fentry, EPERM),
            functions_refused(Backend::Kprobe, "No such file or directory (os error 2)"),
            tracepoint(None),
        ],
        chosen: Some(Backend::Tracepoint),
    }
}

/// The virtual machine, as root.
pub(crate) fn this_machine() -> Checkup {
    without_function_hooks().checkup()
}

/// The same for a user without privileges.
pub(crate) fn unprivileged() -> Checkup {
    let backends = vec![
        functions_refused(Backend::Fentry, EPERM),
        functions_refused(Backend::Kprobe, EPERM),
        tracepoint(Some(EPERM)),
    ];
    Answers {
        status: "CapEff:\t0000000000000000\nSeccomp:\t0\n",
        kallsyms: hidden(KALLSYMS_6_18),
        bpf: BpfAnswer { refused: Some(refused()), reads_kernel_memory: None },
        settings: &[
            ("kernel/unprivileged_bpf_disabled", "2"),
            ("kernel/perf_event_paranoid", "2"),
            ("kernel/kptr_restrict", "0"),
        ],
        pagemap_entry: 1 << 63,
        mappings: Err(MappingError::Open { cpu: 0, source: io::Error::from_raw_os_error(libc::EACCES) }),
        wpcopy_count: Err(ProcError::TaskStats { pid: 4711, source: refused() }),
        preflight: Err(ProbeError::NotPrivileged),
        backends,
        chosen: None,
        ..without_function_hooks()
    }
    .checkup()
}

/// Debian's 6.12, on which everything attaches but one hook.
pub(crate) fn debian_6_12() -> Checkup {
    let fentry = BackendTrial {
        backend: Backend::Fentry,
        works: true,
        refusal: None,
        blind_to: Vec::new(),
        hooks: vec![
            hook("fentry do_wp_page", Some("do_wp_page"), None, "copies"),
            hook("fentry *_add_new_anon_rmap", Some("folio_add_new_anon_rmap"), None, "copies"),
            hook(
                "fexit copy_present_page",
                None,
                Some("no such function in this kernel: inlined"),
                "pinned pages that fork copies",
            ),
        ],
    };
    let kprobe = BackendTrial {
        backend: Backend::Kprobe,
        hooks: vec![hook("kprobe do_wp_page", Some("do_wp_page"), None, "copies")],
        ..fentry.clone()
    };
    Answers {
        release: "6.12.107+deb13-cloud-amd64",
        version: "#1 SMP PREEMPT_DYNAMIC Debian 6.12.107-1 (2026-08-29)",
        status: ROOT,
        kallsyms: KALLSYMS_6_12.to_owned(),
        btf_bytes: 4_729_418,
        lockdown: Ok(Some(Lockdown::Integrity)),
        mountinfo: "31 24 0:12 / /sys/kernel/tracing rw,nosuid shared:11 - tracefs tracefs rw\n",
        backends: vec![fentry, kprobe, tracepoint(None)],
        chosen: Some(Backend::Fentry),
        ..without_function_hooks()
    }
    .checkup()
}
