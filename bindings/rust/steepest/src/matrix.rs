// SPDX-License-Identifier: Apache-2.0
use std::os::raw::c_void;

use crate::error::size;
use crate::{Dtype, Error, Result};

/// A row-major matrix in a slice, to read: element (i, j) is `data[i * ld + j]`, with ld ≥ cols.
#[derive(Clone, Copy, Debug)]
pub struct MatrixRef<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    ld: usize,
}

/// A row-major matrix in a slice, to write; the elements between the rows are not touched.
#[derive(Debug)]
pub struct MatrixMut<'a, T> {
    data: &'a mut [T],
    rows: usize,
    cols: usize,
    ld: usize,
}

fn check_fits(length: usize, rows: usize, cols: usize, ld: usize) -> Result<()> {
    if ld < cols {
        return Error::shape(format!("matrix: ld is {} and smaller than cols = {}", ld, cols));
    }
    let needed = match rows {
        0 => Some(0),
        _ => (rows - 1).checked_mul(ld).and_then(|before| before.checked_add(cols)),
    };
    if needed.map_or(true, |needed| needed > length) {
        return Error::shape(format!(
            "matrix: {} x {} with ld = {} does not fit into a slice of {} elements",
            rows, cols, ld, length
        ));
    }
    Ok(())
}

impl<'a, T: Dtype> MatrixRef<'a, T> {
    /// Rows one after the other. The slice may be longer.
    pub fn new(data: &'a [T], rows: usize, cols: usize) -> Result<Self> {
        Self::with_ld(data, rows, cols, cols)
    }

    /// Rows `ld` elements apart.
    ///
    /// ```
    /// let data = [1.0f32, 2.0, 0.0, 3.0, 4.0];
    /// assert!(steepest::MatrixRef::with_ld(&data, 2, 2, 3).is_ok());
    /// assert!(steepest::MatrixRef::with_ld(&data, 2, 3, 3).is_err());
    /// ```
    pub fn with_ld(data: &'a [T], rows: usize, cols: usize, ld: usize) -> Result<Self> {
        check_fits(data.len(), rows, cols, ld)?;
        Ok(MatrixRef { data, rows, cols, ld })
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn cols(&self) -> usize {
        self.cols
    }

    pub fn ld(&self) -> usize {
        self.ld
    }

    pub(crate) fn shape(&self) -> (i64, i64) {
        (size(self.rows), size(self.cols))
    }

    pub(crate) fn c_ld(&self) -> i64 {
        size(self.ld)
    }

    pub(crate) fn as_ptr(&self) -> *const c_void {
        self.data.as_ptr().cast()
    }
}

impl<'a, T: Dtype> MatrixMut<'a, T> {
    /// Rows one after the other. The slice may be longer.
    pub fn new(data: &'a mut [T], rows: usize, cols: usize) -> Result<Self> {
        Self::with_ld(data, rows, cols, cols)
    }

    /// Rows `ld` elements apart.
    pub fn with_ld(data: &'a mut [T], rows: usize, cols: usize, ld: usize) -> Result<Self> {
        check_fits(data.len(), rows, cols, ld)?;
        Ok(MatrixMut { data, rows, cols, ld })
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn cols(&self) -> usize {
        self.cols
    }

    pub fn ld(&self) -> usize {
        self.ld
    }

    /// The same matrix, to read.
    pub fn as_ref(&self) -> MatrixRef<'_, T> {
        MatrixRef { data: self.data, rows: self.rows, cols: self.cols, ld: self.ld }
    }

    pub(crate) fn shape(&self) -> (i64, i64) {
        (size(self.rows), size(self.cols))
    }

    pub(crate) fn c_ld(&self) -> i64 {
        size(self.ld)
    }

    pub(crate) fn as_mut_ptr(&mut self) -> *mut c_void {
        self.data.as_mut_ptr().cast()
    }
}
