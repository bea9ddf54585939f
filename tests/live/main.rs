//! The tests that trace the live kernel, as root: one program, one module per subject.

mod attach;
mod contract;
mod cost;
mod doctor;
mod ended;
mod errors;
mod exact;
mod gup;
mod huge;
mod kinds;
mod lab;
mod lab_errors;
mod latency;
mod life;
mod pages;
mod postgresql;
mod prefork_python;
mod recordings;
mod redis;
mod refusals;
mod signals;
mod stacks;
mod together;
mod top;
mod trace;
mod verify;
