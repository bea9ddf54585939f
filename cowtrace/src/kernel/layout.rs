//! Where the running kernel keeps what the eBPF programs read.

use std::path::{Path, PathBuf};

use cowtrace_abi::Config;

use super::{KernelFunctions, btf::KernelTypes};

/// Where a kernel with `CONFIG_DEBUG_INFO_BTF` shows its types.
const VMLINUX_BTF: &str = "/sys/kernel/btf/vmlinux";

/// Why the kernel's layout could not be read.
#[derive(Debug, thiserror::Error)]
pub enum LayoutError {
    /// No BTF.
    #[error(
        "cannot read the kernel's type information {}: {reason}; cowtrace needs a kernel built with \
         CONFIG_DEBUG_INFO_BTF=y (all big distributions are)", path.display()
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// The answer.
        reason: String,
    },
    /// A kernel before 6.2.
    #[error(
        "this kernel gathers changes of its memory counters in each thread, and reports them late (Linux does so \
         before 6.2): tracepoints cannot tell exactly what a fault was"
    )]
    LateCounters,
    /// Not x86-64.
    #[error("this processor's page faults have no tracepoints that tell the instruction and the access")]
    NoFaultTracepoints,
    /// Functions are of no use here.
    #[error("no hook can be put on the kernel's functions, so they were not looked for")]
    NotLookedFor,
    /// A function is missing.
    #[error("the kernel's type information has no function {name}: it is inlined, or not in this kernel")]
    NoFunction {
        /// Its name.
        name: &'static str,
    },
    /// A struct is missing.
    #[error("the kernel's type information has no struct {name}: this kernel is not supported")]
    NoStruct {
        /// Its name.
        name: &'static str,
    },
    /// A field is missing.
    #[error("the kernel's struct {structure} has no field {field}: this kernel is not supported")]
    NoField {
        /// The struct.
        structure: &'static str,
        /// The field.
        field: &'static str,
    },
}

/// Everything about the kernel that the programs are told.
#[derive(Debug)]
pub struct KernelLayout {
    /// What goes into the programs' read-only data; switches are left to the caller.
    pub config: Config,
    /// Whether page descriptors can be found by address (see `probe::calibration`).
    pub has_page_fields: bool,
    /// The number of `do_wp_page`, which every function backend hooks, among the kernel's types.
    pub main_function: Option<u32>,
    /// Whether faults can be told by tracepoints.
    pub tracepoints: Result<(), LayoutError>,
    /// The functions by which faults can be told.
    pub functions: Result<KernelFunctions, LayoutError>,
}

impl KernelLayout {
    /// Reads the running kernel's layout, without the functions, which take as long as the rest.
    pub fn of_running_kernel() -> Result<KernelLayout, LayoutError> {
        Self::without_functions(&KernelTypes::open(Path::new(VMLINUX_BTF))?)
    }

    /// Looks for the running kernel's functions as well.
    pub fn look_for_functions(&mut self) {
        self.functions =
            KernelTypes::open(Path::new(VMLINUX_BTF)).and_then(|types| functions(&types, &mut self.config));
    }

    /// Reads a whole layout from a BTF file.
    pub fn from_btf(path: &Path) -> Result<KernelLayout, LayoutError> {
        let types = KernelTypes::open(path)?;
        let mut layout = Self::without_functions(&types)?;
        layout.functions = functions(&types, &mut layout.config);
        Ok(layout)
    }

    fn without_functions(types: &KernelTypes) -> Result<KernelLayout, LayoutError> {
        let mut config = Config { page_shift: page_size().trailing_zeros().into(), ..Config::ZERO };
        processes(types, &mut config)?;
        // Without what the page descriptors and the virtually mapped stacks give, some kinds are unknown, but copies are
        // still counted.
        let has_page_fields = match page_fields(types, &mut config) {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!("page descriptors cannot be read ({error}): some kinds will be unknown");
                false
            }
        };
        let tracepoints = tracepoints(types, &mut config);
        let functions = Err(LayoutError::NotLookedFor);
        let main_function = types.function_id("do_wp_page");
        Ok(KernelLayout { config, has_page_fields, main_function, tracepoints, functions })
    }
}

/// What every backend needs, to follow processes.
fn processes(types: &KernelTypes, config: &mut Config) -> Result<(), LayoutError> {
    let task = types.structure("task_struct")?;
    let mm = types.structure("mm_struct")?;
    config.task_pid = task.offset("pid")?;
    config.task_tgid = task.offset("tgid")?;
    config.task_real_parent = task.offset("real_parent")?;
    config.task_group_leader = task.offset("group_leader")?;
    config.task_vfork_done = task.offset("vfork_done")?;
    config.task_mm = task.offset("mm")?;
    config.task_exit_code = task.offset("exit_code")?;
    config.mm_pgtables_bytes = mm.offset("pgtables_bytes")?;
    config.mm_arg_start = mm.offset("arg_start")?;
    config.mm_arg_end = mm.offset("arg_end")?;
    namespaces(types, config);
    config.siginfo_si_code = types.structure("kernel_siginfo")?.offset("si_code")?;
    Ok(())
}

/// How a process is called in its own PID namespace, which only reports show: a kernel without it is no error.
fn namespaces(types: &KernelTypes, config: &mut Config) {
    let fields = || -> Result<[u64; 4], LayoutError> {
        let pid = types.structure("pid")?;
        Ok([
            types.structure("task_struct")?.offset("thread_pid")?,
            pid.offset("level")?,
            pid.offset("numbers")?,
            types.structure("upid")?.size(),
        ])
    };
    if let Ok(fields) = fields() {
        [config.task_thread_pid, config.pid_level, config.pid_numbers, config.upid_size] = fields;
    }
}

fn page_fields(types: &KernelTypes, config: &mut Config) -> Result<(), LayoutError> {
    let page = types.structure("page")?;
    config.page_struct_size = page.size();
    config.page_flags = page.offset("flags")?;
    config.page_compound_head = page.offset_of_any(&["compound_head", "compound_info"])?;
    config.page_mapping = page.offset("mapping")?;
    // The programs read them both in one go, as the first words of the descriptor.
    if config.page_compound_head.max(config.page_mapping) >= 32 {
        return Err(LayoutError::NoField { structure: "page", field: "mapping among its first words" });
    }
    let [hugetlb] = types.enumerators("pagetype", ["PGTY_hugetlb"]);
    config.pgty_hugetlb = hugetlb.unwrap_or(0);
    config.page_index = page.offset_of_any(&["__folio_index", "index"])?;
    config.page_type = page.offset("page_type")?;
    let stack = types.structure("task_struct")?.offset("stack_vm_area")?;
    config.task_stack_vm_area = stack;
    config.vm_struct_pages = types.structure("vm_struct")?.offset("pages")?;
    Ok(())
}

/// What the tracepoint backend reads.
fn tracepoints(types: &KernelTypes, config: &mut Config) -> Result<(), LayoutError> {
    let task = types.structure("task_struct")?;
    // Cached per thread until 6.2 (SPLIT_RSS_COUNTING): `kmem:rss_stat` comes once in some 64 faults.
    if task.offset("rss_stat").is_ok() {
        return Err(LayoutError::LateCounters);
    }
    let regs = types.structure("pt_regs")?;
    let (Ok(ip), Ok(di), Ok(orig_ax)) = (regs.offset("ip"), regs.offset("di"), regs.offset("orig_ax")) else {
        return Err(LayoutError::NoFaultTracepoints);
    };
    (config.regs_ip, config.regs_di, config.regs_orig_ax) = (ip, di, orig_ax);
    (config.regs_sp, config.regs_bp) = (regs.offset("sp")?, regs.offset("bp")?);
    let [movable, zero, filepages, anonpages, swapents, shmempages] = types.enumerators(
        "",
        [
            "___GFP_MOVABLE_BIT",
            "___GFP_ZERO_BIT",
            "MM_FILEPAGES",
            "MM_ANONPAGES",
            "MM_SWAPENTS",
            "MM_SHMEMPAGES",
        ],
    );
    // The bits are an enum since 6.9; before, they were macros with these values.
    config.gfp_movable = 1 << movable.unwrap_or(3);
    config.gfp_zero = 1 << zero.unwrap_or(8);
    config.mm_filepages = filepages.unwrap_or(0);
    config.mm_anonpages = anonpages.unwrap_or(1);
    config.mm_swapents = swapents.unwrap_or(2);
    config.mm_shmempages = shmempages.unwrap_or(3);
    let mm = types.structure("mm_struct")?;
    config.mm_pgd = mm.offset("pgd")?;
    config.mm_flags = mm.offset("flags")?;
    config.mm_lock_seq = mm.offset("mm_lock_seq").unwrap_or(0);
    Ok(())
}

/// What the function backends read.
fn functions(types: &KernelTypes, config: &mut Config) -> Result<KernelFunctions, LayoutError> {
    let functions = KernelFunctions::find(types)?;
    config.hugetlb_wp_vmf = functions.hugetlb_wp_vmf;
    let fault = types.structure("vm_fault")?;
    config.vmf_vma = fault.offset("vma")?;
    config.vmf_address = fault.offset("address")?;
    config.vmf_flags = fault.offset("flags")?;
    config.vmf_page = fault.offset("page")?;
    // The programs read them in one go, as the first words of the struct.
    if config.vmf_vma.max(config.vmf_address).max(config.vmf_flags) >= 64 {
        return Err(LayoutError::NoField { structure: "vm_fault", field: "flags among its first words" });
    }
    let vma = types.structure("vm_area_struct")?;
    config.vma_start = vma.offset("vm_start")?;
    config.vma_end = vma.offset("vm_end")?;
    config.vma_flags = vma.offset("vm_flags")?;
    config.vma_mm = vma.offset("vm_mm")?;
    config.vma_ops = vma.offset("vm_ops")?;
    let [head] = types.enumerators("pageflags", ["PG_head"]);
    config.page_head_flag = head.map_or(0, |bit| 1 << bit);
    // A byte of its own before 6.6, in the descriptor after the first; then the low byte of a word.
    config.folio_order = match types.structure("folio").and_then(|folio| folio.offset("_flags_1")) {
        Ok(offset) if types.structure("page")?.offset("compound_order").is_err() => offset,
        _ => config.page_struct_size + types.structure("page")?.offset("compound_order")?,
    };
    let thread = types.structure("task_struct")?.offset("thread")?;
    let fields = types.structure("thread_struct")?;
    // x86: bit 1 of the page-fault error code; arm64: WnR, bit 6 of ESR_ELx for data aborts.
    let (code, address, write) = match fields.offset("error_code") {
        Ok(code) => (code, fields.offset("cr2")?, 1 << 1),
        Err(_) => (fields.offset("fault_code")?, fields.offset("fault_address")?, 1 << 6),
    };
    (config.task_error_code, config.task_fault_address) = (thread + code, thread + address);
    config.error_write = write;
    let exec = types.structure("trace_event_raw_sched_process_exec")?;
    config.exec_old_pid = exec.offset("old_pid")?;
    let signal = types.structure("trace_event_raw_signal_generate")?;
    config.signal_sig = signal.offset("sig")?;
    config.signal_code = signal.offset("code")?;
    config.signal_pid = signal.offset("pid")?;
    Ok(functions)
}

/// Bytes per page of the running kernel.
pub fn page_size() -> u64 {
    // SAFETY: sysconf has no preconditions.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).unwrap_or(4096)
}
