// SPDX-License-Identifier: Apache-2.0
//! Narrow storage: the bits of C calls, every field once.

use std::ptr::{null, null_mut};

use steepest::sys::*;
use steepest::*;

const COUNT: usize = 300;

#[derive(Clone, PartialEq, Debug)]
struct Arrays {
    param: Vec<Bf16>,
    copy: Vec<F16>,
    residual: Vec<i8>,
    m: Vec<u8>,
    m_scales: Vec<f32>,
    v: Vec<u8>,
    v_scales: Vec<u16>,
}

fn arrays() -> (Arrays, Vec<f32>) {
    let arrays = Arrays {
        param: vec![Bf16::from_f32(1.0); COUNT],
        copy: vec![F16::default(); COUNT],
        residual: vec![3; COUNT],
        m: vec![0; COUNT],
        m_scales: vec![0.0; q8_scales(Q8::Dynamic, COUNT).unwrap()],
        v: vec![0; COUNT],
        v_scales: vec![0; q8_scales(Q8::Companded, COUNT).unwrap()],
    };
    (arrays, (0..COUNT).map(|i| 0.01 * i as f32 - 1.0).collect())
}

#[test]
fn adamw_is_the_c_call() {
    let ((mut a, g), (mut b, _)) = (arrays(), arrays());
    let config = AdamWConfig::new().stochastic_rounding(true).seed(9);
    let tensor = AdamWTensor::with_states(
        &mut a.param,
        &g,
        State::Dynamic { codes: &mut a.m, scales: &mut a.m_scales },
        State::Companded { codes: &mut a.v, scales: &mut a.v_scales },
    )
    .and_then(|tensor| tensor.residual(Residual::Nearest8(&mut a.residual)))
    .and_then(|tensor| tensor.param_copy(&mut a.copy))
    .unwrap()
    .random_stream(4, 100);
    adamw_step(&Context::default(), &config, &mut [tensor]).unwrap();

    let config = steepest_adamw_config {
        flags: STEEPEST_ADAMW_STOCHASTIC_ROUNDING,
        seed: 9,
        ..STEEPEST_ADAMW_CONFIG_INIT
    };
    let tensor = steepest_adamw_tensor {
        count: COUNT as i64,
        param: b.param.as_mut_ptr().cast(),
        grad: g.as_ptr().cast(),
        exp_avg: b.m.as_mut_ptr().cast(),
        exp_avg_sq: b.v.as_mut_ptr().cast(),
        param_dtype: STEEPEST_BF16,
        exp_avg_dtype: STEEPEST_Q8_DYNAMIC,
        exp_avg_sq_dtype: STEEPEST_Q8_COMPANDED,
        exp_avg_scales: b.m_scales.as_mut_ptr().cast(),
        exp_avg_sq_scales: b.v_scales.as_mut_ptr().cast(),
        residual_kind: STEEPEST_RESIDUAL_NEAREST8,
        residual: b.residual.as_mut_ptr().cast(),
        param_copy: b.copy.as_mut_ptr().cast(),
        param_copy_dtype: STEEPEST_F16,
        random_stream: 4,
        first_index: 100,
        ..STEEPEST_ADAMW_TENSOR_INIT
    };
    let status = unsafe { steepest_adamw_step(null_mut(), &config, &tensor, 1, null_mut()) };
    assert_eq!(status, STEEPEST_OK);
    assert_eq!(a, b);
    assert_ne!(a, arrays().0);
}

#[test]
fn muon_is_the_c_call() {
    let ((mut a, g), (mut b, _)) = (arrays(), arrays());
    let config = MuonConfig::new().stochastic_rounding(true).seed(9);
    let tensor = MuonTensor::with_state(
        MatrixMut::new(&mut a.param, 15, 20).unwrap(),
        MatrixRef::new(&g, 15, 20).unwrap(),
        State::Dynamic { codes: &mut a.m, scales: &mut a.m_scales },
    )
    .and_then(|tensor| tensor.residual(Residual::Nearest8(&mut a.residual)))
    .and_then(|tensor| tensor.param_copy(MatrixMut::new(&mut a.copy, 15, 20)?))
    .unwrap()
    .random_stream(4, 100);
    muon_step(&Context::default(), &config, &mut [tensor]).unwrap();

    let config = steepest_muon_config {
        flags: STEEPEST_MUON_NESTEROV | STEEPEST_MUON_STOCHASTIC_ROUNDING,
        seed: 9,
        ..STEEPEST_MUON_CONFIG_INIT
    };
    let tensor = steepest_muon_tensor {
        rows: 15,
        cols: 20,
        param: b.param.as_mut_ptr().cast(),
        grad: g.as_ptr().cast(),
        momentum: b.m.as_mut_ptr().cast(),
        param_dtype: STEEPEST_BF16,
        momentum_dtype: STEEPEST_Q8_DYNAMIC,
        momentum_scales: b.m_scales.as_mut_ptr().cast(),
        residual_kind: STEEPEST_RESIDUAL_NEAREST8,
        residual: b.residual.as_mut_ptr().cast(),
        param_copy: b.copy.as_mut_ptr().cast(),
        param_copy_dtype: STEEPEST_F16,
        random_stream: 4,
        first_index: 100,
        ..STEEPEST_MUON_TENSOR_INIT
    };
    let status = unsafe { steepest_muon_step(null_mut(), &config, &tensor, 1, null(), null_mut()) };
    assert_eq!(status, STEEPEST_OK);
    assert_eq!(a, b);
    assert_ne!(a, arrays().0);
}

#[test]
fn lengths_and_types_are_checked() {
    let (mut a, g) = arrays();
    let short = State::Dynamic { codes: &mut a.m, scales: &mut a.m_scales[..1] };
    let v = State::Companded { codes: &mut a.v, scales: &mut a.v_scales };
    assert!(AdamWTensor::with_states(&mut a.param, &g, short, v).is_err());
    let (mut param, mut m, mut v) = (vec![0f32; 3], vec![0f32; 3], vec![0f32; 3]);
    let tensor =
        AdamWTensor::with_states(&mut param, &g[..3], State::F32(&mut m), State::F32(&mut v));
    assert!(tensor.unwrap().residual(Residual::Low16(&mut [0; 3])).is_err());
}

#[test]
fn codes_and_back() {
    let context = Context::default();
    let values = [4f32, 1.0, 0.0, 0.25];
    let (mut codes, mut scales, mut back) = ([0; 4], [0u16; 1], [9f32; 4]);
    let state = State::Companded { codes: &mut codes, scales: &mut scales };
    q8_encode(&context, false, &values, state).unwrap();
    let state = State::Companded { codes: &mut codes, scales: &mut scales };
    q8_decode(&context, false, state, &mut back).unwrap();
    for (value, wanted) in back.iter().zip(values) {
        assert!((value - wanted).abs() < 0.05, "{value} is not {wanted}");
    }

    let state = State::Companded { codes: &mut codes, scales: &mut scales };
    let error = q8_decode(&context, false, state, &mut back[1..]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Shape);
    let mut plain = values;
    assert!(q8_encode(&context, true, &values, State::F32(&mut plain)).is_err());
}
