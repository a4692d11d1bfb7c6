//! Whether anybody disciplines the kernel's clock: `adjtimex(2)`, reading only.
#![allow(unsafe_code)] // one system call that no safe crate offers

use std::io;
use std::mem::MaybeUninit;

use serde::{Deserialize, Serialize};

/// What the kernel says of its own clock.
///
/// chronyd tells the kernel that the clock is synchronised only with `rtcsync` in its
/// configuration; ntpd and systemd-timesyncd always do. A container sees its host's state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KernelClock {
    /// Whether a time daemon keeps it synchronised.
    pub synchronised: bool,
    /// Largest error in microseconds, growing until the daemon says better.
    pub max_error_us: i64,
    /// Expected error in microseconds.
    pub estimated_error_us: i64,
    /// A leap second is announced: one more (1), one less (-1) or none (0).
    pub leap: i8,
    /// TAI minus UTC in seconds; 0 when nobody told the kernel.
    pub tai_offset: i32,
}

/// Asks the kernel. Needs no privilege.
///
/// # Errors
/// With the kernel's own error; some sandboxes forbid the call.
pub fn read() -> io::Result<KernelClock> {
    let mut state = MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: `timex` is plain integers, for which all zeros is a value. With `modes` 0 the kernel
    // changes nothing and only writes to the structure, which outlives the call.
    let (status, state) = unsafe {
        let status = libc::adjtimex(state.as_mut_ptr());
        (status, state.assume_init())
    };
    if status < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(KernelClock {
        synchronised: status != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0,
        max_error_us: state.maxerror,
        estimated_error_us: state.esterror,
        leap: match status {
            libc::TIME_INS => 1,
            libc::TIME_DEL => -1,
            _ => 0,
        },
        tai_offset: state.tai,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_answers_and_its_error_agrees_with_its_state() {
        let clock = read().unwrap();
        assert!(clock.max_error_us >= 0 && clock.estimated_error_us >= 0);
        // Above 16 s the kernel itself says that it is not synchronised.
        assert!(!clock.synchronised || clock.max_error_us <= 16_000_000);
    }
}
