//! What is read of frozen kernels.

mod prototypes;

use btf_rs::{Btf, Type};

use super::{
    KernelLayout, LayoutError,
    btf::KernelTypes,
    fixtures,
    symbols::{Symbol, ranges_in},
};

#[test]
fn layouts() {
    for kernel in fixtures::all() {
        let text = match KernelLayout::from_btf(&kernel.btf()) {
            Ok(mut layout) => {
                // BTF does not tell it: it is the running machine's.
                layout.config.page_shift = kernel.facts.page_size.trailing_zeros().into();
                format!("{layout:#?}")
            }
            Err(error) => error.to_string(),
        };
        kernel.assert_snapshot("layout", &text);
    }
}

#[test]
fn counters_are_late_before_6_2() {
    for kernel in fixtures::all() {
        let late = matches!(KernelLayout::from_btf(&kernel.btf()), Err(LayoutError::LateCounters));
        assert_eq!(late, kernel.version() < (6, 2), "{}", kernel.release);
    }
}

/// Whether functions can be attached to, and what their arguments are.
#[test]
fn functions_and_tracepoints() {
    for kernel in fixtures::all() {
        kernel.assert_snapshot("functions", &prototypes::of(&kernel));
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

#[test]
fn wp_page_copy_is_a_function_of_its_own_before_6_12() {
    for kernel in fixtures::all() {
        let early = kernel.version() < (6, 12);
        let [found] = ranges_in(kernel.symbols().as_bytes(), ["wp_page_copy"]);
        assert_eq!(found.is_some(), early, "{}", kernel.release);
        assert_eq!(kernel.has_symbol("wp_page_copy"), early, "{}", kernel.release);
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
fn what_kernels_say_of_themselves() {
    let lines = [
        ("5.10", (5, 10), None),
        ("6.1", (6, 1), Some("voluntary")),
        ("6.12", (6, 12), Some("voluntary")),
        ("7.2", (7, 2), Some("lazy")),
    ];
    for (line, version, preemption) in lines {
        let kernel = fixtures::named(line);
        assert_eq!((kernel.version(), kernel.preemption()), (version, preemption), "{line}");
        assert!(kernel.facts.version.contains("Debian"), "{line}: {}", kernel.facts.version);
    }
}

#[test]
#[should_panic(expected = "was not looked for")]
fn a_function_that_nobody_looked_for_is_not_taken_for_absent() {
    fixtures::named("7.2").has_symbol("a_function_of_no_kernel");
}
