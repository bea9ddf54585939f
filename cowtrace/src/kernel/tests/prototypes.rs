//! The functions of a frozen kernel, as text: which there are, how they can be watched, what they are given.

use std::fmt::Write as _;

use btf_rs::{Btf, BtfType, FuncProto, Type};

use crate::kernel::fixtures::FrozenKernel;

/// Functions that tell of copies, forks and huge pages, in any of the kernels.
const FUNCTIONS: [&str; 23] = [
    "wp_page_copy",
    "alloc_pages_vma",
    "vma_alloc_folio",
    "vma_alloc_folio_noprof",
    "do_wp_page",
    "wp_page_reuse",
    "page_add_new_anon_rmap",
    "folio_add_new_anon_rmap",
    "do_cow_fault",
    "do_anonymous_page",
    "do_swap_page",
    "hugetlb_cow",
    "hugetlb_wp",
    "hugepage_add_new_anon_rmap",
    "hugetlb_add_new_anon_rmap",
    "do_huge_pmd_wp_page",
    "__split_huge_pmd",
    "copy_present_page",
    "copy_page_range",
    "handle_mm_fault",
    "do_mem_abort",
    "kernel_clone",
    "wake_up_new_task",
];

const TRACEPOINTS: [&str; 8] = [
    "page_fault_user",
    "page_fault_kernel",
    "mm_page_alloc",
    "rss_stat",
    "signal_generate",
    "task_newtask",
    "sched_process_exec",
    "sched_process_exit",
];

/// A line for each function and tracepoint.
pub(super) fn of(kernel: &FrozenKernel) -> String {
    let btf = Btf::from_file(kernel.btf()).unwrap();
    let traceable = kernel.traceable();
    let mut text = String::new();
    for name in FUNCTIONS {
        let symbol = if kernel.has_symbol(name) { "symbol" } else { "-" };
        let ftrace = match &traceable {
            None => "?",
            Some(list) if list.iter().any(|function| function == name) => "ftrace",
            Some(_) => "-",
        };
        let prototype = function(&btf, name).map(|found| arguments(&btf, &found));
        let prototype = prototype.unwrap_or_else(|| "not in BTF".to_owned());
        writeln!(text, "{name:<26} {symbol:<6} {ftrace:<6} {prototype}").unwrap();
    }
    for name in TRACEPOINTS {
        let found = tracepoint(&btf, name).map(|found| arguments(&btf, &found));
        writeln!(text, "{name:<26} {}", found.as_deref().unwrap_or("no tracepoint")).unwrap();
    }
    text
}

/// The types of a function's parameters, if BTF has it.
pub(super) fn parameters(kernel: &FrozenKernel, name: &str) -> Option<Vec<String>> {
    let btf = Btf::from_file(kernel.btf()).unwrap();
    let found = function(&btf, name)?;
    Some(found.parameters.iter().map(|parameter| type_name(&btf, parameter)).collect())
}

fn function(btf: &Btf, name: &str) -> Option<FuncProto> {
    btf.resolve_types_by_name(name).ok()?.into_iter().find_map(|found| match found {
        Type::Func(function) => match btf.resolve_chained_type(&function).unwrap() {
            Type::FuncProto(prototype) => Some(prototype),
            other => panic!("{name} is a function of type {}", other.name()),
        },
        _ => None,
    })
}

/// What a `tp_btf` program of it is given, after a pointer that is the kernel's own.
fn tracepoint(btf: &Btf, name: &str) -> Option<FuncProto> {
    let types = btf.resolve_types_by_name(&format!("btf_trace_{name}")).ok()?;
    let [Type::Typedef(typedef)] = types.as_slice() else { return None };
    btf.chained_type_iter(typedef).find_map(|found| match found {
        Type::FuncProto(prototype) => Some(prototype),
        _ => None,
    })
}

fn arguments(btf: &Btf, prototype: &FuncProto) -> String {
    let shown = prototype.parameters.iter().map(|parameter| {
        // Those of tracepoints have none.
        match btf.resolve_name(parameter).unwrap().as_str() {
            "" => type_name(btf, parameter),
            name => format!("{name}: {}", type_name(btf, parameter)),
        }
    });
    format!("({})", shown.collect::<Vec<_>>().join(", "))
}

/// As C writes it, without const and volatile.
fn type_name(btf: &Btf, refers: &dyn BtfType) -> String {
    let named = |found: &dyn BtfType| btf.resolve_name(found).unwrap();
    match btf.resolve_chained_type(refers).unwrap() {
        Type::Void => "void".to_owned(),
        Type::Ptr(pointer) => format!("{} *", type_name(btf, &pointer)),
        Type::Const(inner) | Type::Volatile(inner) => type_name(btf, &inner),
        Type::Struct(found) => format!("struct {}", named(&found)),
        Type::Union(found) => format!("union {}", named(&found)),
        Type::Enum(found) => format!("enum {}", named(&found)),
        Type::Int(found) => named(&found),
        Type::Typedef(found) => named(&found),
        other => panic!("a parameter of type {}", other.name()),
    }
}
