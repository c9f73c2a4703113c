// SPDX-License-Identifier: Apache-2.0
//! The cases of the large functions as plain C calls, from the C names to the C structs.
use std::ptr::{null, null_mut};

use steepest::sys::*;

use crate::json::Json;
use crate::{with, Array, Arrays, Buffer, Results};

fn dtype(array: &Array) -> i32 {
    match array.buffer {
        Buffer::F32(_) => STEEPEST_F32,
        Buffer::F64(_) => STEEPEST_F64,
        Buffer::Bf16(_) => STEEPEST_BF16,
        Buffer::F16(_) => STEEPEST_F16,
        _ => 0, // codes: the arguments name their type
    }
}

fn pointer(array: &mut Array) -> *mut std::os::raw::c_void {
    match &mut array.buffer {
        Buffer::U8(data) => data.as_mut_ptr().cast(),
        Buffer::I8(data) => data.as_mut_ptr().cast(),
        Buffer::U16(data) => data.as_mut_ptr().cast(),
        Buffer::I16(data) => data.as_mut_ptr().cast(),
        numbers => with!(numbers, data => data.as_mut_ptr().cast()),
    }
}

/// Sets the fields of these names to what the case has for them.
macro_rules! set {
    ($arguments:expr, $target:expr, $($field:ident)*) => {
        $(if let Some(value) = $arguments.get(stringify!($field)) {
            $target.$field = value.number() as _;
        })*
    };
}

/// Sets the pointer, type and, for matrices, stride of these arrays.
macro_rules! attach {
    ($arrays:expr, $target:expr, $($field:ident $dtype:ident $($ld:ident)?,)*) => {
        $(if let Some(array) = $arrays.get_mut(stringify!($field)) {
            $target.$dtype = dtype(array);
            $($target.$ld = array.ld as i64;)?
            $target.$field = pointer(array);
        })*
    };
}

fn flags(arguments: &Json, default: u64, bits: &[(&str, u64)]) -> u64 {
    let bit = |name: &str| bits.iter().find(|x| x.0 == name).expect("a flag").1;
    let list = arguments.get("flags").map(Json::list);
    list.map_or(default, |list| list.iter().map(|flag| bit(flag.text())).sum())
}

fn constant(arguments: &Json, name: &str, default: i32, values: &[(&str, i32)]) -> i32 {
    let find = |text: &str| values.iter().find(|x| x.0 == text).expect("a constant").1;
    arguments.get(name).map_or(default, |value| find(value.text()))
}

const STATES: [(&str, i32); 2] =
    [("Q8_DYNAMIC", STEEPEST_Q8_DYNAMIC), ("Q8_COMPANDED", STEEPEST_Q8_COMPANDED)];
const RESIDUALS: [(&str, i32); 4] = [
    ("LOW16", STEEPEST_RESIDUAL_LOW16),
    ("NEAREST16", STEEPEST_RESIDUAL_NEAREST16),
    ("NEAREST8", STEEPEST_RESIDUAL_NEAREST8),
    ("KAHAN", STEEPEST_RESIDUAL_KAHAN),
];

/// Sets what both steps have of narrow storage, with these arrays of scales.
macro_rules! narrow {
    ($arguments:expr, $arrays:expr, $tensor:expr, $($state:ident $scales:ident)*) => {
        set!($arguments, $tensor, random_stream first_index);
        $tensor.residual_kind = constant($arguments, "residual_kind", 0, &RESIDUALS);
        $(
            $tensor.$state =
                constant($arguments, stringify!($state), $tensor.$state, &STATES);
            $arrays.get_mut(stringify!($scales)).map(|array| $tensor.$scales = pointer(array));
        )*
        $arrays.get_mut("residual").map(|array| $tensor.residual = pointer(array));
        if let Some(array) = $arrays.get_mut("param_copy") {
            $tensor.param_copy_dtype = dtype(array);
            $tensor.param_copy = pointer(array);
        }
    };
}

fn step_results(stats: &steepest_step_stats, skipped: i32) -> Results {
    let named = [
        ("stats.update_rms", stats.update_rms),
        ("stats.grad_rms", stats.grad_rms),
        ("stats.momentum_rms", stats.momentum_rms),
        ("stats.param_rms", stats.param_rms),
        ("stats.snr_update", stats.snr_update),
        ("stats.snr_momentum", stats.snr_momentum),
        ("stats.nonfinite", stats.nonfinite as f64),
        ("skipped", f64::from(skipped)),
    ];
    named.iter().map(|(name, value)| (name.to_string(), vec![*value])).collect()
}

fn adamw(arguments: &Json, arrays: &mut Arrays) -> Results {
    let (mut skipped, mut stats) = (0, STEEPEST_STEP_STATS_INIT);
    let mut config = STEEPEST_ADAMW_CONFIG_INIT;
    set!(arguments, config, lr beta1 beta2 eps weight_decay grad_scale step seed);
    config.skipped = &mut skipped;
    let names = [
        ("AMSGRAD", STEEPEST_ADAMW_AMSGRAD),
        ("MAXIMIZE", STEEPEST_ADAMW_MAXIMIZE),
        ("COUPLED_L2", STEEPEST_ADAMW_COUPLED_L2),
        ("CAUTIOUS_DECAY", STEEPEST_ADAMW_CAUTIOUS_DECAY),
        ("SKIP_NONFINITE", STEEPEST_ADAMW_SKIP_NONFINITE),
        ("EMIT_DELTA", STEEPEST_ADAMW_EMIT_DELTA),
        ("STOCHASTIC_ROUNDING", STEEPEST_ADAMW_STOCHASTIC_ROUNDING),
    ];
    config.flags = flags(arguments, 0, &names);
    let mut tensor = STEEPEST_ADAMW_TENSOR_INIT;
    set!(arguments, tensor, count);
    attach!(arrays, tensor, param param_dtype, grad grad_dtype, exp_avg exp_avg_dtype,
            exp_avg_sq exp_avg_sq_dtype, delta delta_dtype,);
    if let Some(largest) = arrays.get_mut("max_exp_avg_sq") {
        tensor.max_exp_avg_sq = pointer(largest);
    }
    narrow!(arguments, arrays, tensor, exp_avg_dtype exp_avg_scales
            exp_avg_sq_dtype exp_avg_sq_scales);
    let status = unsafe { steepest_adamw_step(null_mut(), &config, &tensor, 1, &mut stats) };
    assert_eq!(status, STEEPEST_OK);
    step_results(&stats, skipped)
}

fn msign_config(arguments: &Json) -> steepest_msign_config {
    let mut config = STEEPEST_MSIGN_CONFIG_INIT;
    set!(arguments, config, steps);
    let methods = [
        ("NEWTON_SCHULZ", STEEPEST_MSIGN_NEWTON_SCHULZ),
        ("GRAM_NEWTON_SCHULZ", STEEPEST_MSIGN_GRAM_NEWTON_SCHULZ),
        ("RATIONAL", STEEPEST_MSIGN_RATIONAL),
        ("SVD", STEEPEST_MSIGN_SVD),
        ("ACCURATE", STEEPEST_MSIGN_ACCURATE),
    ];
    config.method = constant(arguments, "method", STEEPEST_MSIGN_AUTO, &methods);
    let sets = [
        ("KELLER", STEEPEST_COEF_KELLER),
        ("CLASSIC", STEEPEST_COEF_CLASSIC),
        ("CUBIC", STEEPEST_COEF_CUBIC),
        ("YOU", STEEPEST_COEF_YOU),
    ];
    config.coefficients = constant(arguments, "coefficients", STEEPEST_COEF_POLAR_EXPRESS, &sets);
    let types = [("F32", STEEPEST_F32), ("F64", STEEPEST_F64)];
    config.compute_dtype = constant(arguments, "compute_dtype", 0, &types);
    config
}

fn muon(arguments: &Json, arrays: &mut Arrays) -> Results {
    let (mut skipped, mut stats) = (0, STEEPEST_STEP_STATS_INIT);
    let mut config = STEEPEST_MUON_CONFIG_INIT;
    set!(arguments, config, lr momentum weight_decay scale_value grad_scale step);
    config.skipped = &mut skipped;
    let names = [
        ("NESTEROV", STEEPEST_MUON_NESTEROV),
        ("CAUTIOUS_DECAY", STEEPEST_MUON_CAUTIOUS_DECAY),
        ("EMIT_DELTA", STEEPEST_MUON_EMIT_DELTA),
        ("MAXIMIZE", STEEPEST_MUON_MAXIMIZE),
    ];
    config.flags = flags(arguments, STEEPEST_MUON_NESTEROV, &names);
    config.momentum_kind = constant(arguments, "momentum_kind", 0, &[("CLASSIC", 1)]);
    let modes = [
        ("EXACT_RMS", STEEPEST_SCALE_EXACT_RMS),
        ("SQRT_MAX1_OUT_IN", STEEPEST_SCALE_SQRT_MAX1_OUT_IN),
        ("SQRT_OUT_IN", STEEPEST_SCALE_SQRT_OUT_IN),
    ];
    config.scale_mode = constant(arguments, "scale_mode", STEEPEST_SCALE_MATCH_RMS, &modes);
    let msign = arguments.get("msign").map(msign_config);
    config.msign = msign.as_ref().map_or(null(), |msign| msign);
    let mut tensor = STEEPEST_MUON_TENSOR_INIT;
    set!(arguments, tensor, rows cols fan_out fan_in block_axis);
    let blocks: Option<Vec<i64>> =
        arguments.get("blocks").map(|x| x.numbers().iter().map(|&x| x as i64).collect());
    if let Some(blocks) = &blocks {
        tensor.blocks = blocks.as_ptr();
        tensor.block_count = blocks.len() as i64;
    }
    attach!(arrays, tensor, param param_dtype param_ld, grad grad_dtype grad_ld,
            momentum momentum_dtype momentum_ld, delta delta_dtype delta_ld,);
    narrow!(arguments, arrays, tensor, momentum_dtype momentum_scales);
    let status = unsafe { steepest_muon_step(null_mut(), &config, &tensor, 1, null(), &mut stats) };
    assert_eq!(status, STEEPEST_OK);
    step_results(&stats, skipped)
}

fn msign(arguments: &Json, arrays: &mut Arrays) -> Results {
    let (config, mut stats) = (msign_config(arguments), STEEPEST_MSIGN_STATS_INIT);
    let mut x = arrays["x"].clone();
    let out = arrays.get_mut("out").unwrap();
    let (rows, cols, kind, ldo) = (x.rows as i64, x.cols as i64, dtype(&x), out.ld as i64);
    let (source, ldx, target) = (pointer(&mut x), x.ld as i64, pointer(out));
    let (context, scratch) = (null_mut(), null());
    let status = unsafe {
        steepest_msign(
            context, &config, rows, cols, kind, source, ldx, target, ldo, scratch, &mut stats,
        )
    };
    assert_eq!(status, STEEPEST_OK);
    [("stats.rank".to_string(), vec![stats.rank as f64])].into_iter().collect()
}

/// None: the function is a single C call with the same arguments anyway.
pub fn c_call(function: &str, arguments: &Json, arrays: &mut Arrays) -> Option<Results> {
    match function {
        "adamw_step" => Some(adamw(arguments, arrays)),
        "muon_step" => Some(muon(arguments, arrays)),
        "msign" => Some(msign(arguments, arrays)),
        _ => None,
    }
}
