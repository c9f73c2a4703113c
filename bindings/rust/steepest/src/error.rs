// SPDX-License-Identifier: Apache-2.0
use std::ffi::CStr;
use std::fmt;

use steepest_sys as sys;

/// What kind of error a call met; the constants `STEEPEST_E_*`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A value outside its rule, or buffers that overlap.
    InvalidArgument,
    /// Sizes that do not fit each other, or overflow.
    Shape,
    /// A mix of element types that has no kernel.
    Dtype,
    OutOfMemory,
    /// NaN or infinity where the method has no answer.
    Nonfinite,
    NotConverged,
    /// Known to a newer library, or not possible on this CPU.
    Unsupported,
    /// A defect in the library, or an executor that panicked.
    Internal,
    /// A status that this crate does not know.
    Unknown(i32),
}

impl ErrorKind {
    pub(crate) fn from_status(status: sys::steepest_status) -> Option<ErrorKind> {
        Some(match status {
            sys::STEEPEST_OK => return None,
            sys::STEEPEST_E_INVALID_ARGUMENT => ErrorKind::InvalidArgument,
            sys::STEEPEST_E_SHAPE => ErrorKind::Shape,
            sys::STEEPEST_E_DTYPE => ErrorKind::Dtype,
            sys::STEEPEST_E_OUT_OF_MEMORY => ErrorKind::OutOfMemory,
            sys::STEEPEST_E_NONFINITE => ErrorKind::Nonfinite,
            sys::STEEPEST_E_NOT_CONVERGED => ErrorKind::NotConverged,
            sys::STEEPEST_E_UNSUPPORTED => ErrorKind::Unsupported,
            sys::STEEPEST_E_INTERNAL => ErrorKind::Internal,
            other => ErrorKind::Unknown(other),
        })
    }
}

/// Why a call failed. Its text names the argument, its value and the rule that it breaks. Unless a
/// function says otherwise, nothing was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    kind: ErrorKind,
    message: String,
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Error {
        Error { kind, message: message.into() }
    }

    pub(crate) fn shape<T>(message: impl Into<String>) -> Result<T> {
        Err(Error::new(ErrorKind::Shape, message))
    }

    pub(crate) fn invalid<T>(message: impl Into<String>) -> Result<T> {
        Err(Error::new(ErrorKind::InvalidArgument, message))
    }

    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}

/// The status of a call of this thread; on failure with the library's text.
#[inline]
pub(crate) fn check(status: sys::steepest_status) -> Result<()> {
    if status == sys::STEEPEST_OK {
        return Ok(());
    }
    Err(last_error(status))
}

#[cold]
fn last_error(status: sys::steepest_status) -> Error {
    let text = unsafe { CStr::from_ptr(sys::steepest_last_error()) };
    let kind = ErrorKind::from_status(status).unwrap_or(ErrorKind::Unknown(status));
    Error::new(kind, text.to_string_lossy())
}

/// A size or count as the C interface takes it.
#[inline]
pub(crate) fn size(value: usize) -> i64 {
    // No slice is larger than isize::MAX bytes; other numbers of this size are refused by the
    // library.
    i64::try_from(value).unwrap_or(i64::MAX)
}
