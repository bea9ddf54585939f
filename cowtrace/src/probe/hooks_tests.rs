//! The hooks of each backend on frozen kernels.

use std::fmt::Write as _;

use super::{
    Backend,
    hooks::{Point, hooks},
};
use crate::kernel::{KernelLayout, fixtures};

const BACKENDS: [Backend; 3] = [Backend::Fentry, Backend::Kprobe, Backend::Tracepoint];

#[test]
fn hooks_of_each_backend() {
    for kernel in fixtures::all() {
        let layout = KernelLayout::from_btf(&kernel.btf()).unwrap();
        let mut text = String::new();
        for backend in BACKENDS {
            writeln!(text, "{}", backend.name()).unwrap();
            match hooks(backend, &layout) {
                Err(reason) => writeln!(text, "  {reason}").unwrap(),
                Ok(hooks) => {
                    for hook in hooks {
                        let need = if hook.is_required() { "required" } else { "optional" };
                        let point = hook.point.to_string();
                        writeln!(text, "  {need} {point:<36} {}", hook.programs.join(" or ")).unwrap();
                        if let Some((programs, point)) = hook.instead {
                            let point = point.to_string();
                            writeln!(text, "   instead {point:<36} {}", programs.join(" or ")).unwrap();
                        }
                    }
                }
            }
        }
        kernel.assert_snapshot("hooks", &text);
    }
}

#[test]
fn hooks_are_on_what_the_kernel_has() {
    for kernel in fixtures::all() {
        let layout = KernelLayout::from_btf(&kernel.btf()).unwrap();
        for hook in BACKENDS.into_iter().filter_map(|backend| hooks(backend, &layout).ok()).flatten() {
            let there = match hook.point {
                // A kernel that does not tell what ftrace reaches is taken to reach all of its functions.
                Point::Fentry(name) => kernel
                    .traceable()
                    .map_or(kernel.has_symbol(name), |list| list.iter().any(|function| function == name)),
                Point::Kprobe(name) => kernel.has_symbol(name),
                Point::Tracepoint(category, name) => kernel.format(&format!("{category}/{name}")).is_some(),
                Point::BtfTracepoint(name) => kernel.has_tracepoint(name),
            };
            assert!(there, "{} on {}", hook.point, kernel.release);
        }
    }
}

/// Before 6.6, fentry programs take no function that has more than six arguments.
#[test]
fn functions_with_many_arguments_have_a_second_hook() {
    for kernel in fixtures::all().into_iter().filter(|kernel| kernel.version() < (6, 6)) {
        let layout = KernelLayout::from_btf(&kernel.btf()).unwrap();
        for hook in hooks(Backend::Fentry, &layout).unwrap() {
            if let Point::Fentry(name) = hook.point {
                let takes = kernel.parameters(name).unwrap().len();
                assert!(takes <= 6 || hook.instead.is_some(), "{name} of {}", kernel.release);
            }
        }
    }
}
