//! Groups of users by name, as `getgrnam_r(3)` finds them: in files, and wherever else the host has
//! them.

use std::ffi::CString;
use std::io;

/// The number of the group `name`; `None` if there is none of that name.
///
/// # Errors
/// What the system says.
pub fn gid_of(name: &str) -> io::Result<Option<u32>> {
    const BUFFER_BYTES_MAX: usize = 1 << 20;
    let name = CString::new(name)?;
    let mut buffer = vec![0; 1024];
    loop {
        // SAFETY: an all-zero `group` is a valid one: null pointers and a number.
        let mut group: libc::group = unsafe { std::mem::zeroed() };
        let mut found: *mut libc::group = std::ptr::null_mut();
        // SAFETY: the name ends in NUL; `group`, `buffer` (over the length given) and `found` are
        // writable for the length of the call.
        let error = unsafe {
            libc::getgrnam_r(
                name.as_ptr(),
                &raw mut group,
                buffer.as_mut_ptr(),
                buffer.len(),
                &raw mut found,
            )
        };
        match error {
            0 if found.is_null() => return Ok(None),
            0 => return Ok(Some(group.gr_gid)),
            libc::ERANGE if buffer.len() < BUFFER_BYTES_MAX => buffer.resize(buffer.len() * 4, 0),
            libc::EINTR => {}
            // What getgrnam(3) lists for a name that is not there.
            libc::ENOENT | libc::ESRCH => return Ok(None),
            _ => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::gid_of;

    #[test]
    #[cfg_attr(miri, ignore = "Miri has none of the system calls")]
    fn names_have_numbers() {
        assert_eq!(gid_of("root").unwrap(), Some(0));
        assert_eq!(gid_of("no such group").unwrap(), None);
        assert!(gid_of("a\0b").is_err());
    }
}
