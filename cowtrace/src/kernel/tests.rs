//! What is read of frozen kernels.

use btf_rs::{Btf, Type};

use super::{
    Attempt, KernelLayout, LayoutError,
    btf::KernelTypes,
    fixtures::{self, FrozenKernel},
    symbols::{Symbol, ranges_in},
};

/// The layout of a frozen kernel. What is not in BTF is set to what it was there.
fn layout(kernel: &FrozenKernel) -> KernelLayout {
    let mut layout = KernelLayout::from_btf(&kernel.btf()).unwrap();
    layout.config.page_shift = kernel.facts.page_size.trailing_zeros().into();
    layout
}

#[test]
fn layouts() {
    for kernel in fixtures::all() {
        kernel.assert_snapshot("layout", &format!("{:#?}", layout(&kernel)));
    }
}

#[test]
fn tracepoints_tell_faults_on_x86_since_6_2() {
    for kernel in fixtures::all() {
        let found = layout(&kernel).tracepoints;
        let as_expected = match (kernel.version() >= (6, 2), kernel.is_x86_64()) {
            (true, true) => found.is_ok(),
            (true, false) => matches!(found, Err(LayoutError::NoFaultTracepoints)),
            (false, _) => matches!(found, Err(LayoutError::LateCounters)),
        };
        assert!(as_expected, "{}: {found:?}", kernel.release);
    }
}

#[test]
fn a_copy_is_told_by_its_function_until_that_is_inlined() {
    for kernel in fixtures::all() {
        let attempt = layout(&kernel).functions.unwrap().attempt;
        let inlined = kernel.version() >= (6, 12);
        let alloc = if inlined { "vma_alloc_folio_noprof" } else { "wp_page_copy" };
        let expected = match inlined {
            true => Attempt::Allocation { alloc, mm_fault: "handle_mm_fault" },
            false => Attempt::Copy { wp_copy: "wp_page_copy" },
        };
        assert_eq!(attempt, expected, "{}", kernel.release);
        assert!(kernel.has_symbol(alloc), "{}", kernel.release);
    }
}

/// Which argument is what is compiled into the eBPF programs (`probes/fentry.rs`, `probes/kprobe.rs`), whatever the function
/// is called on this kernel.
#[test]
fn functions_are_given_what_the_programs_read() {
    const FAULT: &str = "struct vm_fault *";
    const MAPPING: &str = "struct vm_area_struct *";
    const ADDRESS: &str = "long unsigned int";
    for kernel in fixtures::all() {
        let functions = layout(&kernel).functions.unwrap();
        let takes = |function: Option<&'static str>, expected: &[(usize, &str)]| {
            let function = function.unwrap();
            let parameters = kernel.parameters(function).unwrap();
            for (position, what) in expected {
                assert_eq!(parameters[*position], *what, "{function} of {}", kernel.release);
            }
            assert!(kernel.has_symbol(function), "{function} of {}", kernel.release);
        };
        takes(Some(functions.wp_page), &[(0, FAULT)]);
        if let Attempt::Allocation { alloc, .. } = functions.attempt {
            takes(Some(alloc), &[(2, MAPPING), (3, ADDRESS)]);
        }
        takes(Some(functions.new_anon), &[(1, MAPPING), (2, ADDRESS)]);
        takes(functions.swap_page, &[(0, FAULT)]);
        match functions.hugetlb_wp_vmf {
            0 => takes(functions.hugetlb_wp, &[(1, MAPPING), (2, ADDRESS)]),
            position => takes(functions.hugetlb_wp, &[(usize::try_from(position).unwrap() - 1, FAULT)]),
        }
        takes(functions.hugetlb_new, &[(1, MAPPING), (2, ADDRESS)]);
        takes(functions.huge_split, &[(0, MAPPING), (2, ADDRESS)]);
        takes(functions.clone, &[(0, "struct kernel_clone_args *")]);
        takes(Some("wake_up_new_task"), &[(0, "struct task_struct *")]);
    }
}

/// Whether functions can be attached to, and what their arguments are.
#[test]
fn functions_and_tracepoints() {
    for kernel in fixtures::all() {
        kernel.assert_snapshot("functions", &kernel.functions());
    }
}

#[test]
fn page_fault_entry_and_do_wp_page_have_a_place() {
    for kernel in fixtures::all() {
        let entry = if kernel.is_x86_64() { "asm_exc_page_fault" } else { "do_mem_abort" };
        let symbols = kernel.symbols();
        for function in [entry, "do_wp_page"] {
            let [found] = ranges_in(symbols.as_bytes(), [function]);
            let place = symbols.lines().position(|line| line.ends_with(&format!(" {function}")));
            let addresses = symbols.lines().skip(place.unwrap()).map(|line| {
                let address = line.split(' ').next().unwrap();
                u64::from_str_radix(address, 16).unwrap()
            });
            let start = addresses.clone().next().unwrap();
            let end = addresses.into_iter().find(|address| *address > start).unwrap();
            assert_eq!(found, Some(Symbol { start, end }), "{function} of {}", kernel.release);
            assert!((16..8192).contains(&(end - start)), "{function} of {}", kernel.release);
        }
    }
}

/// A kernel tells where the fields of a tracepoint's record are twice.
#[test]
fn records_are_laid_out_as_tracefs_describes_them() {
    let records = [
        ("sched/sched_process_exec", "trace_event_raw_sched_process_exec", &["pid", "old_pid"][..]),
        ("signal/signal_generate", "trace_event_raw_signal_generate", &["sig", "code", "pid", "result"]),
        ("task/task_newtask", "trace_event_raw_task_newtask", &["pid", "clone_flags"]),
    ];
    for kernel in fixtures::all() {
        let types = KernelTypes::open(&kernel.btf()).unwrap();
        for (tracepoint, structure, fields) in records {
            let format = kernel.format(tracepoint).unwrap();
            for field in fields {
                let described = field_offset(&format, field);
                let offset = types.structure(structure).unwrap().offset(field).ok();
                assert_eq!(described, offset, "{field} of {tracepoint} of {}", kernel.release);
                assert!(offset.is_some(), "{field} of {tracepoint} of {}", kernel.release);
            }
        }
    }
}

/// From a line such as `field:pid_t pid; offset:12; size:4; signed:1;`, with tabs between its parts.
fn field_offset(format: &str, field: &str) -> Option<u64> {
    let line = format.lines().find(|line| line.contains(&format!(" {field};")))?;
    line.split_once("offset:")?.1.split(';').next()?.parse().ok()
}

#[test]
fn only_x86_has_tracepoints_of_page_faults() {
    for kernel in fixtures::all() {
        for tracepoint in ["exceptions/page_fault_user", "exceptions/page_fault_kernel"] {
            let found = kernel.format(tracepoint).is_some();
            assert_eq!(found, kernel.is_x86_64(), "{tracepoint} of {}", kernel.release);
        }
    }
}

/// An excerpt has no type that refers to one that was left out.
#[test]
fn excerpts_are_whole() {
    for kernel in fixtures::all() {
        let btf = Btf::from_file(kernel.btf()).unwrap();
        let mut types = 0;
        for id in 1.. {
            let Ok(found) = btf.resolve_type_by_id(id) else { break };
            types += 1;
            let members = match &found {
                Type::Struct(found) | Type::Union(found) => found.members.as_slice(),
                _ => &[],
            };
            for member in members {
                btf.resolve_name(member).unwrap();
                btf.resolve_chained_type(member).unwrap();
            }
            let simple = found.as_btf_type().filter(|found| found.get_type_id().is_some());
            if let Some(found) = simple {
                btf.resolve_chained_type(found).unwrap();
            }
        }
        assert!(types > 300, "{} of {}", types, kernel.release);
    }
}

#[test]
fn lines_are_found_by_name() {
    for (line, version) in [("5.10", (5, 10)), ("6.1", (6, 1)), ("6.12", (6, 12)), ("7.2", (7, 2))] {
        let kernel = fixtures::named(line);
        assert_eq!(kernel.version(), version);
        assert!(kernel.facts.version.contains("Debian"), "{line}: {}", kernel.facts.version);
    }
}

#[test]
#[should_panic(expected = "was not looked for")]
fn a_function_that_nobody_looked_for_is_not_taken_for_absent() {
    fixtures::named("7.2").has_symbol("a_function_of_no_kernel");
}
