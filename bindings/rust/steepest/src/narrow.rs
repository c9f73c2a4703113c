// SPDX-License-Identifier: Apache-2.0
//! Narrow storage: state of fewer bits, and what keeps the bits that parameters lose.
use std::os::raw::c_void;
use std::ptr::null_mut;

use steepest_sys as sys;

use crate::error::{check, size};
use crate::{Bf16, Context, Dtype, Error, Result, F16};

/// Optimizer state in one of its storage types.
///
/// The 8-bit ones have a code per element and a scale per block, all zeros before step 1; see
/// "8-bit state" in steepest.h. [`q8_scales`] says how many scales there are.
#[derive(Debug)]
pub enum State<'a> {
    F32(&'a mut [f32]),
    F64(&'a mut [f64]),
    Bf16(&'a mut [Bf16]),
    F16(&'a mut [F16]),
    /// The map of bitsandbytes' 8-bit optimizers, blocks of 256.
    Dynamic {
        codes: &'a mut [u8],
        scales: &'a mut [f32],
    },
    /// Companded codes, blocks of 32 with 16-bit scales.
    Companded {
        codes: &'a mut [u8],
        scales: &'a mut [u16],
    },
}

impl State<'_> {
    /// Elements, their address, type and scales; of as many as the codes need.
    pub(crate) fn parts(self, name: &str) -> Result<(usize, *mut c_void, i32, *mut c_void)> {
        fn plain<T: Dtype>(x: &mut [T]) -> (usize, *mut c_void, i32, *mut c_void) {
            (x.len(), x.as_mut_ptr().cast(), T::DTYPE, null_mut())
        }
        let (codes, dtype, scales, number) = match self {
            State::F32(x) => return Ok(plain(x)),
            State::F64(x) => return Ok(plain(x)),
            State::Bf16(x) => return Ok(plain(x)),
            State::F16(x) => return Ok(plain(x)),
            State::Dynamic { codes, scales } => {
                (codes, sys::STEEPEST_Q8_DYNAMIC, scales.as_mut_ptr().cast(), scales.len())
            }
            State::Companded { codes, scales } => {
                (codes, sys::STEEPEST_Q8_COMPANDED, scales.as_mut_ptr().cast(), scales.len())
            }
        };
        let needed = scales_of(dtype, codes.len())?;
        if number != needed {
            return Error::shape(format!(
                "{}: {} codes need {} scales, not {}",
                name,
                codes.len(),
                needed,
                number
            ));
        }
        Ok((codes.len(), codes.as_mut_ptr().cast(), dtype, scales))
    }
}

/// The two kinds of 8-bit state.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Q8 {
    Dynamic = sys::STEEPEST_Q8_DYNAMIC,
    Companded = sys::STEEPEST_Q8_COMPANDED,
}

/// How many scales so many elements have.
///
/// ```
/// use steepest::{q8_scales, Q8};
/// assert_eq!((q8_scales(Q8::Dynamic, 257)?, q8_scales(Q8::Companded, 257)?), (2, 9));
/// # Ok::<(), steepest::Error>(())
/// ```
pub fn q8_scales(kind: Q8, count: usize) -> Result<usize> {
    scales_of(kind as i32, count)
}

fn scales_of(dtype: i32, count: usize) -> Result<usize> {
    let mut scales = 0;
    check(unsafe { sys::steepest_q8_scales(dtype, size(count), &mut scales, null_mut()) })?;
    Ok(scales as usize)
}

/// Codes and scales from values, each rounded to nearest. `signed`: of first moments; second ones
/// are not negative. `state` has one of the 8-bit types, and as many codes as there are values.
///
/// ```
/// use steepest::{q8_decode, q8_encode, Context, State};
///
/// let (context, values) = (Context::default(), [2f32, -2.0, 0.0]);
/// let (mut codes, mut scales, mut back) = ([0; 3], [0f32; 1], [9f32; 3]);
/// let state = State::Dynamic { codes: &mut codes, scales: &mut scales };
/// q8_encode(&context, true, &values, state)?;
/// let state = State::Dynamic { codes: &mut codes, scales: &mut scales };
/// q8_decode(&context, true, state, &mut back)?;
/// assert_eq!((scales[0], back[0], back[2]), (2.0, 2.0, 0.0));
/// # Ok::<(), steepest::Error>(())
/// ```
pub fn q8_encode(context: &Context, signed: bool, values: &[f32], state: State<'_>) -> Result<()> {
    let (count, codes, dtype, scales) = state.parts("q8_encode: state")?;
    as_many("q8_encode", values.len(), count)?;
    let (context, is_signed, count) = (context.as_ptr(), signed as i32, size(count));
    check(unsafe {
        let codes = codes.cast();
        sys::steepest_q8_encode(context, dtype, is_signed, count, values.as_ptr(), codes, scales)
    })
}

/// And back. `state` is only read.
pub fn q8_decode(
    context: &Context,
    signed: bool,
    state: State<'_>,
    values: &mut [f32],
) -> Result<()> {
    let (count, codes, dtype, scales) = state.parts("q8_decode: state")?;
    as_many("q8_decode", values.len(), count)?;
    let (context, is_signed, count) = (context.as_ptr(), signed as i32, size(count));
    check(unsafe {
        let (codes, values) = (codes.cast(), values.as_mut_ptr());
        sys::steepest_q8_decode(context, dtype, is_signed, count, codes, scales, values)
    })
}

fn as_many(function: &str, values: usize, codes: usize) -> Result<()> {
    if values == codes {
        return Ok(());
    }
    Error::shape(format!("{}: {} values for {} codes", function, values, codes))
}

/// The bits of a 16-bit parameter beyond its own; zeros make the parameter as it stands the master.
#[derive(Debug)]
pub enum Residual<'a> {
    /// The lower half of an f32 whose upper half is the bf16 parameter. Exact.
    Low16(&'a mut [u16]),
    /// What to add to the parameter, which is the master rounded to nearest. Exact.
    Nearest16(&'a mut [i16]),
    /// The same in 8 bits.
    Nearest8(&'a mut [i8]),
    /// Kahan's compensation of a bf16 parameter.
    KahanBf16(&'a mut [Bf16]),
    /// And of an f16 one.
    KahanF16(&'a mut [F16]),
}

impl Residual<'_> {
    /// The kind, elements and address; for a parameter of that type.
    pub(crate) fn parts(self, param_dtype: i32) -> Result<(i32, usize, *mut c_void)> {
        fn of<T>(kind: i32, x: &mut [T]) -> (i32, usize, *mut c_void) {
            (kind, x.len(), x.as_mut_ptr().cast())
        }
        let expected = match self {
            Residual::KahanF16(_) => sys::STEEPEST_F16,
            _ => sys::STEEPEST_BF16,
        };
        if param_dtype != expected {
            return Error::invalid("residual: its kind goes with another type of parameter");
        }
        Ok(match self {
            Residual::Low16(x) => of(sys::STEEPEST_RESIDUAL_LOW16, x),
            Residual::Nearest16(x) => of(sys::STEEPEST_RESIDUAL_NEAREST16, x),
            Residual::Nearest8(x) => of(sys::STEEPEST_RESIDUAL_NEAREST8, x),
            Residual::KahanBf16(x) => of(sys::STEEPEST_RESIDUAL_KAHAN, x),
            Residual::KahanF16(x) => of(sys::STEEPEST_RESIDUAL_KAHAN, x),
        })
    }
}
