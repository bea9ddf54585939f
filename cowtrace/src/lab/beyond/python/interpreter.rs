//! Which Python there is, and whether it counts references as the experiment expects.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::lab::beyond::installed;

const NAME: &str = "python3";
/// Apart from the user's settings, without the packages of the site, and without files of its own.
pub(super) const OPTIONS: [&str; 3] = ["-I", "-S", "-B"];
const QUESTION: &str = "\
import sys, sysconfig
print(sys.implementation.name, sys.hexversion, int(bool(sysconfig.get_config_var('Py_GIL_DISABLED'))))
";
/// Python 3.7, with `gc.freeze`.
const LEAST: u64 = 0x0307_0000;

/// A Python that the experiment can be made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Interpreter {
    pub program: PathBuf,
    hexversion: u64,
    /// Built for threads without a common lock: counts and collector are other ones.
    free_threaded: bool,
}

impl Interpreter {
    /// The one on PATH, or what is wrong with it.
    pub fn find() -> Result<Interpreter, String> {
        let program = installed::find(&[NAME]).ok_or("there is no python3 on PATH")?;
        let answer = Command::new(&program)
            .args(OPTIONS)
            .args(["-c", QUESTION])
            .stdin(Stdio::null())
            .output()
            .map_err(|error| format!("{} cannot be started: {error}", program.display()))?;
        let text = String::from_utf8_lossy(&answer.stdout).into_owned();
        Interpreter::new(program, &text)
    }

    fn new(program: PathBuf, answer: &str) -> Result<Interpreter, String> {
        let words: Vec<&str> = answer.split_whitespace().collect();
        let name = program.display();
        let &[implementation, hexversion, free_threaded] = words.as_slice() else {
            return Err(format!("{name} does not say which Python it is"));
        };
        if implementation != "cpython" {
            return Err(format!("{name} is not CPython but {implementation}, which may count no references"));
        }
        let hexversion = hexversion.parse().unwrap_or(0);
        let interpreter = Interpreter { program, hexversion, free_threaded: free_threaded != "0" };
        if hexversion < LEAST {
            return Err(format!("{interpreter} has no gc.freeze(); 3.7 and later have"));
        }
        Ok(interpreter)
    }

    /// What is special about it, if its counts or its collector are not the usual ones.
    pub fn setting(&self) -> Option<String> {
        self.free_threaded.then(|| {
            format!(
                "this is the free-threaded build of {self}: its collector keeps no list of objects, and its \
                 reference counts are others"
            )
        })
    }
}

impl std::fmt::Display for Interpreter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let part = |shift: u32| self.hexversion >> shift & 0xff;
        write!(f, "Python {}.{}.{}", part(24), part(16), part(8))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(text: &str) -> Result<Interpreter, String> {
        Interpreter::new("/usr/bin/python3".into(), text)
    }

    #[test]
    fn a_usual_python_has_a_version_and_no_special_setting() {
        let python = answered("cpython 51054576 0\n").unwrap();
        assert_eq!(python.to_string(), "Python 3.11.7");
        assert_eq!(python.setting(), None);
        let free = answered("cpython 51184368 1\n").unwrap();
        assert!(free.setting().unwrap().contains("free-threaded build of Python 3.13.2"));
    }

    #[test]
    fn others_are_refused_with_the_reason() {
        for (answer, reason) in [
            ("", "does not say"),
            ("pypy 51054576 0\n", "not CPython but pypy"),
            ("cpython 50727152 0\n", "Python 3.6.8 has no gc.freeze()"),
        ] {
            let error = answered(answer).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }
}
