// SPDX-License-Identifier: Apache-2.0
//! Narrow storage in the cases: 8-bit codes, and the states and residuals of steps.
use steepest::*;

use crate::{Array, Arrays, Buffer, Given, Results};

/// A moment, with its scales if it has codes.
pub fn state<'a>(array: &'a mut Array, scales: &'a mut Option<Array>) -> State<'a> {
    let codes = match &mut array.buffer {
        Buffer::F32(x) => return State::F32(x),
        Buffer::F64(x) => return State::F64(x),
        Buffer::Bf16(x) => return State::Bf16(x),
        Buffer::F16(x) => return State::F16(x),
        Buffer::U8(x) => &mut x[..],
        // The signed ones are bytes too.
        Buffer::I8(x) => unsafe {
            std::slice::from_raw_parts_mut(x.as_mut_ptr().cast::<u8>(), x.len())
        },
        _ => panic!("no moment"),
    };
    match &mut scales.as_mut().expect("scales").buffer {
        Buffer::F32(scales) => State::Dynamic { codes, scales },
        Buffer::U16(scales) => State::Companded { codes, scales },
        _ => panic!("no scales"),
    }
}

pub fn residual(array: &mut Array) -> Residual<'_> {
    match &mut array.buffer {
        Buffer::U16(x) => Residual::Low16(x),
        Buffer::I16(x) => Residual::Nearest16(x),
        Buffer::I8(x) => Residual::Nearest8(x),
        Buffer::Bf16(x) => Residual::KahanBf16(x),
        Buffer::F16(x) => Residual::KahanF16(x),
        _ => panic!("no residual"),
    }
}

pub fn q8(function: &str, given: &Given<'_>, arrays: &mut Arrays, results: &mut Results) {
    if function == "q8_scales" {
        let dynamic = given.text("dtype") == Some("Q8_DYNAMIC");
        let kind = if dynamic { Q8::Dynamic } else { Q8::Companded };
        let scales = q8_scales(kind, given.size("count")).unwrap();
        results.insert("scales".into(), vec![scales as f64]);
        return;
    }
    let (context, signed) = (Context::default(), given.size("is_signed") == 1);
    let mut codes = arrays.remove("codes").unwrap();
    let mut scales = arrays.remove("scales");
    let values = match &mut arrays.get_mut("values").unwrap().buffer {
        Buffer::F32(values) => values,
        _ => panic!("values are f32"),
    };
    let state = state(&mut codes, &mut scales);
    if function == "q8_encode" {
        q8_encode(&context, signed, values, state).unwrap();
    } else {
        q8_decode(&context, signed, state, values).unwrap();
    }
    arrays.insert("codes".into(), codes);
    arrays.insert("scales".into(), scales.unwrap());
}
