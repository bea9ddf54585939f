//! An array in .bss, of which a child changes the beginning.

use core::{cell::UnsafeCell, ffi::c_int, hint::black_box};

use crate::{
    checkpoint::Checkpoints,
    sys::{self, Args, Forked},
};

const ELEMENTS: usize = 1 << 20;
/// Elements that the child changes, from the first on.
const CHANGED: usize = 10;
/// An element that the child leaves alone, and that the article asks about.
const ASKED: usize = 1000;

/// 4 MiB that are nothing but addresses until this step writes to them. They begin on a page, also one of 64 KiB,
/// so that it does not depend on the linker which elements share one.
#[repr(C, align(65536))]
struct Array(UnsafeCell<[i32; ELEMENTS]>);

// SAFETY: used by one thread only.
unsafe impl Sync for Array {}

static BIG_ARRAY: Array = Array(UnsafeCell::new([0; ELEMENTS]));

/// Every element gets its index; the child changes the first ten, and the parent writes one of these anew, with the
/// value that it has. Reports samples: elements that are changed, those
/// that are not, and the one that the article asks about; first the child's, then the parent's.
pub fn global_array(args: &Args) -> Option<c_int> {
    let mut checkpoints = Checkpoints::new(args);
    // A page that waits in another CPU's batch for the LRU lists has one reference more, and would be copied.
    sys::stay_on_one_cpu();
    checkpoints.stop();
    let array: *mut i32 = BIG_ARRAY.0.get().cast();
    sys::no_huge_pages(array.cast(), size_of::<Array>());
    checkpoints.buffer(array.cast(), size_of::<Array>());
    for index in 0..ELEMENTS {
        set(array, index, value(index));
    }
    checkpoints.stop();
    match sys::fork() {
        Forked::Child => {
            checkpoints.become_child();
            checkpoints.stop();
            for index in 0..CHANGED {
                set(array, index, -1);
            }
            checkpoints.sample(seen(array));
            checkpoints.stop();
            sys::exit_now(0)
        }
        Forked::Parent(child) => {
            checkpoints.stop();
            set(array, 0, value(0));
            checkpoints.stop();
            let status = sys::wait(child);
            checkpoints.sample(seen(array));
            checkpoints.stop();
            Some(status)
        }
    }
}

fn value(index: usize) -> i32 {
    i32::try_from(index).unwrap_or(i32::MAX)
}

fn set(array: *mut i32, index: usize, value: i32) {
    // SAFETY: callers stay below ELEMENTS; volatile, because it is the access that counts.
    unsafe { array.add(index).write_volatile(value) };
}

fn get(array: *mut i32, index: usize) -> i32 {
    // SAFETY: as above.
    unsafe { array.add(index).read_volatile() }
}

/// What the calling process sees of the array.
fn seen(array: *mut i32) -> [u64; 4] {
    let count = |is: fn(i32, usize) -> bool| (0..ELEMENTS).filter(|&i| is(get(array, i), i)).count() as u64;
    let asked = black_box(get(array, ASKED));
    [
        count(|element, _| element == -1),
        count(|element, index| element == value(index)),
        u64::try_from(asked).unwrap_or(u64::MAX),
        0,
    ]
}
