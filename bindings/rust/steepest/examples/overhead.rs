// SPDX-License-Identifier: Apache-2.0
//! What a call costs over the C call, on a tensor of four elements: medians of alternating samples
//! in one process. Prints one line of JSON; `bench/ffi/run.sh` runs it.
use std::cell::RefCell;
use std::ptr::null_mut;
use std::time::Instant;

use steepest::{adamw_step, sys, AdamWConfig, AdamWTensor, Context};

const CALLS: u32 = 20_000;
const ROUNDS: usize = 101;

fn nanoseconds_per_call(f: impl Fn()) -> f64 {
    let start = Instant::now();
    for _ in 0..CALLS {
        f();
    }
    start.elapsed().as_nanos() as f64 / f64::from(CALLS)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(|a, b| a.partial_cmp(b).unwrap());
    values[values.len() / 2]
}

fn main() -> steepest::Result<()> {
    // The C call has the process-wide context here, and so has the safe one.
    let context = Context::default();
    let (mut w, g) = ([1f32; 4], [0.5f32; 4]);
    let (mut m, mut v) = ([0f32; 4], [0f32; 4]);
    let config = AdamWConfig::new().lr(1e-6);
    let raw = sys::steepest_adamw_config { lr: 1e-6, ..sys::STEEPEST_ADAMW_CONFIG_INIT };
    let state = RefCell::new((&mut w, &mut m, &mut v));
    let direct = || {
        let (w, m, v) = &mut *state.borrow_mut();
        let tensor = sys::steepest_adamw_tensor {
            count: w.len() as i64,
            param: w.as_mut_ptr().cast(),
            grad: g.as_ptr().cast(),
            exp_avg: m.as_mut_ptr().cast(),
            exp_avg_sq: v.as_mut_ptr().cast(),
            ..sys::STEEPEST_ADAMW_TENSOR_INIT
        };
        let status = unsafe { sys::steepest_adamw_step(null_mut(), &raw, &tensor, 1, null_mut()) };
        assert_eq!(status, sys::STEEPEST_OK);
    };
    let safe = || {
        let (w, m, v) = &mut *state.borrow_mut();
        let tensor = AdamWTensor::new(&mut w[..], &g, &mut m[..], &mut v[..]).unwrap();
        adamw_step(&context, &config, &mut [tensor]).unwrap();
    };
    let (mut base, mut difference) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let first = if round % 2 == 0 { nanoseconds_per_call(direct) } else { 0.0 };
        let ours = nanoseconds_per_call(safe);
        let theirs = if round % 2 == 0 { first } else { nanoseconds_per_call(direct) };
        base.push(theirs);
        difference.push(ours - theirs);
    }
    println!(
        "{{\"binding\": \"Rust\", \"c_call_ns\": {:.1}, \"overhead_ns\": {:.1}}}",
        median(base),
        median(difference)
    );
    Ok(())
}
