// SPDX-License-Identifier: Apache-2.0
use steepest_sys as sys;

mod private {
    pub trait Sealed {}
}

/// An element type of parameters, gradients and optimizer state: `f32`, `f64`, [`Bf16`], [`F16`].
///
/// # Safety
///
/// Sealed: `DTYPE` is what the library takes the type's bytes for.
pub unsafe trait Dtype: private::Sealed + Copy + Default + Send + Sync + 'static {
    /// The constant `STEEPEST_F32`, `_F64`, `_BF16` or `_F16`.
    const DTYPE: i32;

    fn from_f64(value: f64) -> Self;
    fn to_f64(self) -> f64;
}

macro_rules! dtype {
    ($type:ty, $constant:expr, $from:expr, $to:expr) => {
        impl private::Sealed for $type {}
        unsafe impl Dtype for $type {
            const DTYPE: i32 = $constant;
            fn from_f64(value: f64) -> Self {
                $from(value)
            }
            fn to_f64(self) -> f64 {
                $to(self)
            }
        }
    };
}

dtype!(f32, sys::STEEPEST_F32, |x| x as f32, f64::from);
dtype!(f64, sys::STEEPEST_F64, |x| x, |x| x);
dtype!(Bf16, sys::STEEPEST_BF16, Bf16::from_f64, |x: Bf16| f64::from(x.to_f32()));
dtype!(F16, sys::STEEPEST_F16, F16::from_f64, |x: F16| f64::from(x.to_f32()));

/// bfloat16: the upper half of an f32. Slices of any other bfloat16 type of two bytes (that of the
/// crate `half`, say) can be viewed as slices of this one: see `optional/steepest-half`.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Bf16(u16);

/// IEEE half precision.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct F16(u16);

impl Bf16 {
    pub const fn from_bits(bits: u16) -> Bf16 {
        Bf16(bits)
    }

    pub const fn to_bits(self) -> u16 {
        self.0
    }

    /// Rounds to nearest, ties to even; NaN stays NaN.
    ///
    /// ```
    /// assert_eq!(steepest::Bf16::from_f32(1.0).to_bits(), 0x3f80);
    /// assert_eq!(steepest::Bf16::from_f32(1.00390625).to_f32(), 1.0); // a tie
    /// ```
    pub fn from_f32(value: f32) -> Bf16 {
        Bf16(narrow(f64::from(value), 8, 127))
    }

    pub fn from_f64(value: f64) -> Bf16 {
        Bf16(narrow(value, 8, 127))
    }

    pub fn to_f32(self) -> f32 {
        f32::from_bits(u32::from(self.0) << 16)
    }
}

impl F16 {
    pub const fn from_bits(bits: u16) -> F16 {
        F16(bits)
    }

    pub const fn to_bits(self) -> u16 {
        self.0
    }

    /// Rounds to nearest, ties to even; NaN stays NaN, what is too large becomes infinite.
    ///
    /// ```
    /// assert_eq!(steepest::F16::from_f32(1.0).to_bits(), 0x3c00);
    /// assert_eq!(steepest::F16::from_f32(65504.0).to_f32(), 65504.0);
    /// assert!(steepest::F16::from_f32(65520.0).to_f32().is_infinite());
    /// ```
    pub fn from_f32(value: f32) -> F16 {
        F16(narrow(f64::from(value), 11, 15))
    }

    pub fn from_f64(value: f64) -> F16 {
        F16(narrow(value, 11, 15))
    }

    pub fn to_f32(self) -> f32 {
        let sign = if self.0 & 0x8000 != 0 { -1.0 } else { 1.0 };
        let (exponent, fraction) = (i32::from(self.0 >> 10 & 0x1f), f32::from(self.0 & 0x3ff));
        match exponent {
            0 => sign * fraction * (-24f32).exp2(),
            31 if fraction == 0.0 => sign * f32::INFINITY,
            31 => f32::from_bits(u32::from(self.0 & 0x8000) << 16 | 0x7fc0_0000),
            _ => sign * (1024.0 + fraction) * ((exponent - 25) as f32).exp2(),
        }
    }
}

/// The bits of a 16-bit type with so many digits of precision and this exponent bias.
fn narrow(value: f64, digits: i32, bias: i32) -> u16 {
    let sign = if value.is_sign_negative() { 0x8000 } else { 0 };
    let fraction_bits = digits - 1;
    let infinity = ((2 * bias + 1) as u16) << fraction_bits;
    if value.is_nan() {
        return sign | infinity | 1 << (fraction_bits - 1);
    }
    let size = value.abs();
    // The place of the last digit: of denormals it is fixed. A double's own denormals are zero
    // here.
    let exponent = ((size.to_bits() >> 52) as i32 - 1023).max(1 - bias);
    if exponent > bias {
        return sign | infinity;
    }
    // Exact, since powers of two within the range of doubles; then to the nearest integer.
    let units = size * 2f64.powi(fraction_bits - exponent);
    let whole = units.trunc();
    let rest = units - whole;
    let up = rest > 0.5 || rest == 0.5 && whole % 2.0 == 1.0;
    let rounded = whole as u32 + u32::from(up);
    // With the leading digit as one unit of the exponent; carries run into it by themselves.
    let bits = ((exponent + bias - 1) as u32) << fraction_bits;
    sign | (bits + rounded).min(u32::from(infinity)) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_16_bit_number_comes_back() {
        for bits in 0..=u16::MAX {
            let (bf16, f16) = (Bf16::from_bits(bits), F16::from_bits(bits));
            if bf16.to_f32().is_nan() {
                assert!(Bf16::from_f32(bf16.to_f32()).to_f32().is_nan());
            } else {
                assert_eq!(Bf16::from_f32(bf16.to_f32()), bf16);
            }
            if f16.to_f32().is_nan() {
                assert!(F16::from_f32(f16.to_f32()).to_f32().is_nan());
            } else {
                assert_eq!(F16::from_f32(f16.to_f32()), f16);
            }
        }
    }

    /// Between neighbours: the nearer one, and at a tie the even one.
    #[test]
    fn rounding_to_nearest_even() {
        for bits in 0..0x7c00u16 {
            let low = f64::from(F16::from_bits(bits).to_f32());
            let high = match bits {
                0x7bff => 65536.0,
                _ => f64::from(F16::from_bits(bits + 1).to_f32()),
            };
            let middle = (low + high) / 2.0;
            let even = if bits % 2 == 0 { bits } else { bits + 1 };
            assert_eq!(F16::from_f64(middle).to_bits(), even);
            assert_eq!(F16::from_f64(middle + (high - low) / 64.0).to_bits(), bits + 1);
            assert_eq!(F16::from_f64(middle - (high - low) / 64.0).to_bits(), bits);
        }
        let tie = f32::from_bits(0x3f81_8000);
        assert_eq!(Bf16::from_f32(tie).to_bits(), 0x3f82);
        assert_eq!(Bf16::from_f32(f32::MAX).to_f32(), f32::INFINITY);
        assert_eq!(Bf16::from_f64(-1e-320).to_bits(), 0x8000);
    }
}
