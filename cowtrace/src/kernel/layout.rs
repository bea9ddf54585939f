//! Where the running kernel keeps what the eBPF programs read.

use std::path::{Path, PathBuf};

use cowtrace_abi::Config;

use super::btf::KernelTypes;

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
         before 6.2): what a fault was cannot be told exactly; this version of cowtrace needs Linux 6.2 or later"
    )]
    LateCounters,
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
#[derive(Clone, Debug)]
pub struct KernelLayout {
    /// What goes into the programs' read-only data; `regions` is left to the caller.
    pub config: Config,
    /// Whether page descriptors can be found (see `probe::calibration`).
    pub has_page_fields: bool,
}

impl KernelLayout {
    /// Reads the running kernel's layout.
    pub fn of_running_kernel() -> Result<KernelLayout, LayoutError> {
        Self::from_btf(Path::new(VMLINUX_BTF))
    }

    /// Reads a layout from a BTF file.
    pub fn from_btf(path: &Path) -> Result<KernelLayout, LayoutError> {
        let types = KernelTypes::open(path)?;
        let task = types.structure("task_struct")?;
        // Cached per thread until 6.2 (SPLIT_RSS_COUNTING): `kmem:rss_stat` comes once in some 64 faults.
        if task.offset("rss_stat").is_ok() {
            return Err(LayoutError::LateCounters);
        }
        let mm = types.structure("mm_struct")?;
        let regs = types.structure("pt_regs")?;
        let page = types.structure("page")?;
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
        let [hugetlb] = types.enumerators("pagetype", ["PGTY_hugetlb"]);
        let mut config = Config {
            page_shift: page_size().trailing_zeros().into(),
            // The bits are an enum since 6.9; before, they were macros with these values.
            gfp_movable: 1 << movable.unwrap_or(3),
            gfp_zero: 1 << zero.unwrap_or(8),
            mm_filepages: filepages.unwrap_or(0),
            mm_anonpages: anonpages.unwrap_or(1),
            mm_swapents: swapents.unwrap_or(2),
            mm_shmempages: shmempages.unwrap_or(3),
            task_pid: task.offset("pid")?,
            task_tgid: task.offset("tgid")?,
            task_real_parent: task.offset("real_parent")?,
            task_mm: task.offset("mm")?,
            task_exit_code: task.offset("exit_code")?,
            mm_pgd: mm.offset("pgd")?,
            mm_pgtables_bytes: mm.offset("pgtables_bytes")?,
            mm_flags: mm.offset("flags")?,
            mm_lock_seq: mm.offset("mm_lock_seq").unwrap_or(0),
            mm_arg_start: mm.offset("arg_start")?,
            mm_arg_end: mm.offset("arg_end")?,
            regs_ip: regs.offset("ip")?,
            regs_di: regs.offset("di")?,
            regs_orig_ax: regs.offset("orig_ax")?,
            siginfo_si_code: types.structure("kernel_siginfo")?.offset("si_code")?,
            page_struct_size: page.size(),
            pgty_hugetlb: hugetlb.unwrap_or(0),
            ..Config::ZERO
        };
        // Only what the page descriptors and the virtually mapped stacks give may be missing: without them, some
        // kinds are unknown, but copies are still counted.
        let mut optional = || -> Result<(), LayoutError> {
            config.page_compound_head = page.offset_of_any(&["compound_head", "compound_info"])?;
            config.page_mapping = page.offset("mapping")?;
            // The programs read them both in one go, as the first words of the descriptor.
            if config.page_compound_head.max(config.page_mapping) >= 32 {
                return Err(LayoutError::NoField {
                    structure: "page",
                    field: "mapping among its first words",
                });
            }
            config.page_index = page.offset_of_any(&["__folio_index", "index"])?;
            config.page_type = page.offset("page_type")?;
            config.task_stack_vm_area = task.offset("stack_vm_area")?;
            config.vm_struct_pages = types.structure("vm_struct")?.offset("pages")?;
            Ok(())
        };
        let has_page_fields = match optional() {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!("page descriptors cannot be read ({error}): some kinds will be unknown");
                false
            }
        };
        Ok(KernelLayout { config, has_page_fields })
    }
}

/// Bytes per page of the running kernel.
pub fn page_size() -> u64 {
    // SAFETY: sysconf has no preconditions.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    u64::try_from(size).unwrap_or(4096)
}
