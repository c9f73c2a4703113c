// SPDX-License-Identifier: Apache-2.0
//! The vectors of tests/conformance: results within their tolerances, and the bits of C calls.
#[path = "support/json.rs"]
mod json;
#[path = "support/narrow.rs"]
mod narrow;
#[path = "support/raw.rs"]
mod raw;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use json::Json;
use steepest::*;

/// A buffer of a case, as it is laid out, and sevens in the gaps between the rows.
#[derive(Clone, Debug, PartialEq)]
pub enum Buffer {
    F32(Vec<f32>),
    F64(Vec<f64>),
    Bf16(Vec<Bf16>),
    F16(Vec<F16>),
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
}

/// Runs an expression with `$data` as the vector in the buffer, of whatever type of numbers.
#[macro_export]
macro_rules! with {
    ($buffer:expr, $data:ident => $body:expr) => {
        match $buffer {
            Buffer::F32($data) => $body,
            Buffer::F64($data) => $body,
            Buffer::Bf16($data) => $body,
            Buffer::F16($data) => $body,
            _ => panic!("integers"),
        }
    };
}

#[derive(Clone, Debug)]
pub struct Array {
    pub buffer: Buffer,
    pub rows: usize,
    pub cols: usize,
    pub ld: usize,
}

impl Array {
    fn new(given: &Json, arguments: &Json) -> Array {
        let size = |name: &str| arguments.get(name).map(|x| x.number() as usize);
        let values = given.get("values").map_or(Vec::new(), Json::numbers);
        let mut cols = size("cols").or_else(|| size("count")).unwrap_or(values.len());
        let mut rows = size("rows").unwrap_or(1);
        if let Some(count) = given.get("count") {
            cols = count.number() as usize;
            rows = 1;
        }
        let ld = given.get("ld").map_or(cols, |ld| ld.number() as usize);
        let mut places: Vec<Option<f64>> = vec![None; rows * ld];
        for (i, value) in values.iter().enumerate() {
            places[i / cols * ld + i % cols] = Some(*value);
        }
        let bits = |from_bits: fn(u16) -> f32| {
            places.iter().map(move |x| x.map_or(7.0, |x| from_bits(x as u16))).collect::<Vec<_>>()
        };
        let floats = || places.iter().map(|x| x.unwrap_or(7.0));
        let buffer = match given.get("dtype").unwrap().text() {
            "F32" => Buffer::F32(floats().map(|x| x as f32).collect()),
            "F64" => Buffer::F64(floats().collect()),
            "BF16" => {
                let values = bits(|x| Bf16::from_bits(x).to_f32());
                Buffer::Bf16(values.into_iter().map(Bf16::from_f32).collect())
            }
            "F16" => {
                let values = bits(|x| F16::from_bits(x).to_f32());
                Buffer::F16(values.into_iter().map(F16::from_f32).collect())
            }
            "U8" => Buffer::U8(floats().map(|x| x as u8).collect()),
            "I8" => Buffer::I8(floats().map(|x| x as i8).collect()),
            "U16" => Buffer::U16(floats().map(|x| x as u16).collect()),
            "I16" => Buffer::I16(floats().map(|x| x as i16).collect()),
            other => panic!("{}", other),
        };
        Array { buffer, rows, cols, ld }
    }

    fn all(&self) -> Vec<f64> {
        match &self.buffer {
            Buffer::U8(x) => x.iter().map(|&x| f64::from(x)).collect(),
            Buffer::I8(x) => x.iter().map(|&x| f64::from(x)).collect(),
            Buffer::U16(x) => x.iter().map(|&x| f64::from(x)).collect(),
            Buffer::I16(x) => x.iter().map(|&x| f64::from(x)).collect(),
            numbers => with!(numbers, x => x.iter().map(|x| x.to_f64()).collect()),
        }
    }

    fn dense(&self) -> Vec<f64> {
        let all = self.all();
        (0..self.rows).flat_map(|i| all[i * self.ld..][..self.cols].to_vec()).collect()
    }

    fn gaps_untouched(&self) -> bool {
        self.all().iter().enumerate().all(|(i, &x)| i % self.ld < self.cols || x == 7.0)
    }
}

pub type Arrays = BTreeMap<String, Array>;
pub type Results = BTreeMap<String, Vec<f64>>;

fn matrix<T: Dtype>(data: &[T], rows: usize, cols: usize, ld: usize) -> MatrixRef<'_, T> {
    MatrixRef::with_ld(data, rows, cols, ld).unwrap()
}

fn matrix_mut<T: Dtype>(data: &mut [T], rows: usize, cols: usize, ld: usize) -> MatrixMut<'_, T> {
    MatrixMut::with_ld(data, rows, cols, ld).unwrap()
}

/// The arguments of a case.
struct Given<'a>(&'a Json);

impl Given<'_> {
    fn number(&self, name: &str) -> Option<f64> {
        self.0.get(name).map(Json::number)
    }
    fn or(&self, name: &str, default: f64) -> f64 {
        self.number(name).unwrap_or(default)
    }
    fn size(&self, name: &str) -> usize {
        self.or(name, 0.0) as usize
    }
    fn text(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(Json::text)
    }
    fn has_flag(&self, name: &str) -> bool {
        self.0.get("flags").map_or(false, |x| x.list().iter().any(|x| x.text() == name))
    }
}

fn adamw(given: &Given<'_>, arrays: &mut Arrays, results: &mut Results) {
    let config = AdamWConfig::new()
        .lr(given.or("lr", 1e-3))
        .beta1(given.or("beta1", 0.9))
        .beta2(given.or("beta2", 0.999))
        .eps(given.or("eps", 1e-8))
        .weight_decay(given.or("weight_decay", 1e-2))
        .grad_scale(given.or("grad_scale", 1.0))
        .step(given.or("step", 1.0) as i64)
        .amsgrad(given.has_flag("AMSGRAD"))
        .maximize(given.has_flag("MAXIMIZE"))
        .coupled_l2(given.has_flag("COUPLED_L2"))
        .cautious_decay(given.has_flag("CAUTIOUS_DECAY"))
        .skip_nonfinite(given.has_flag("SKIP_NONFINITE"))
        .emit_delta(given.has_flag("EMIT_DELTA"))
        .stochastic_rounding(given.has_flag("STOCHASTIC_ROUNDING"))
        .seed(given.or("seed", 0.0) as u64);
    let mut take = |name: &str| arrays.remove(name);
    let mut param = take("param").unwrap();
    let grad = take("grad").unwrap();
    let (mut m, mut v) = (take("exp_avg").unwrap(), take("exp_avg_sq").unwrap());
    let (mut largest, mut delta) = (take("max_exp_avg_sq"), take("delta"));
    let (mut m_scales, mut v_scales) = (take("exp_avg_scales"), take("exp_avg_sq_scales"));
    let (mut residual, mut copy) = (take("residual"), take("param_copy"));
    let mut stats = [StepStats::default()];
    let tensor = match (&mut param.buffer, &grad.buffer, &mut m.buffer, &mut v.buffer, &mut delta) {
        (param, grad, _, _, None) => {
            let (m, v) =
                (narrow::state(&mut m, &mut m_scales), narrow::state(&mut v, &mut v_scales));
            with!(param, p => with!(grad, g => AdamWTensor::with_states(p, g, m, v)))
        }
        (
            Buffer::F32(p),
            Buffer::F32(g),
            Buffer::F32(m),
            Buffer::F32(v),
            Some(Array { buffer: Buffer::F32(delta), .. }),
        ) => AdamWTensor::emit_delta(p, g, m, v, delta),
        _ => panic!("a delta with another mix of types"),
    };
    let place = (given.or("random_stream", 0.0) as u64, given.size("first_index"));
    let mut tensor = tensor.unwrap().random_stream(place.0, place.1);
    if let Some(residual) = &mut residual {
        tensor = tensor.residual(narrow::residual(residual)).unwrap();
    }
    if let Some(copy) = &mut copy {
        tensor = with!(&mut copy.buffer, x => tensor.param_copy(x)).unwrap();
    }
    if let Some(largest) = &mut largest {
        tensor = with!(&mut largest.buffer, x => tensor.max_exp_avg_sq(x)).unwrap();
    }
    let some = Some(&mut stats[..]);
    let outcome = adamw_step_with_stats(&Context::default(), &config, &mut [tensor], some).unwrap();
    for (name, array) in [("param", param), ("grad", grad), ("exp_avg", m), ("exp_avg_sq", v)] {
        arrays.insert(name.into(), array);
    }
    for (name, array) in [
        ("max_exp_avg_sq", largest),
        ("delta", delta),
        ("exp_avg_scales", m_scales),
        ("exp_avg_sq_scales", v_scales),
        ("residual", residual),
        ("param_copy", copy),
    ] {
        array.map(|array| arrays.insert(name.into(), array));
    }
    step_results(results, &stats[0], outcome);
}

fn step_results(results: &mut Results, stats: &StepStats, outcome: Outcome) {
    for (name, value) in [
        ("stats.update_rms", stats.update_rms()),
        ("stats.grad_rms", stats.grad_rms()),
        ("stats.momentum_rms", stats.momentum_rms()),
        ("stats.param_rms", stats.param_rms()),
        ("stats.snr_update", stats.snr_update()),
        ("stats.snr_momentum", stats.snr_momentum()),
        ("stats.nonfinite", stats.nonfinite() as f64),
        ("skipped", f64::from(u8::from(outcome == Outcome::Skipped))),
    ] {
        results.insert(name.into(), vec![value]);
    }
}

fn msign_config(given: &Given<'_>) -> MsignConfig<'static> {
    let mut config = MsignConfig::new().steps(given.size("steps") as i32);
    config = config.method(match given.text("method") {
        None => Method::Auto,
        Some("NEWTON_SCHULZ") => Method::NewtonSchulz,
        Some("GRAM_NEWTON_SCHULZ") => Method::GramNewtonSchulz,
        Some("RATIONAL") => Method::Rational,
        Some("HALLEY") => Method::Halley,
        Some("SVD") => Method::Svd,
        Some("ACCURATE") => Method::Accurate,
        Some(other) => panic!("{}", other),
    });
    config = config.coefficients(match given.text("coefficients") {
        None | Some("POLAR_EXPRESS") => Coefficients::PolarExpress,
        Some("KELLER") => Coefficients::Keller,
        Some("CLASSIC") => Coefficients::Classic,
        Some("CUBIC") => Coefficients::Cubic,
        Some("YOU") => Coefficients::You,
        Some(other) => panic!("{}", other),
    });
    config.compute_dtype(match given.text("compute_dtype") {
        None => ComputeDtype::Auto,
        Some("F32") => ComputeDtype::F32,
        Some("F64") => ComputeDtype::F64,
        Some(other) => panic!("{}", other),
    })
}

fn same_type(x: &Array, out: &mut Array, config: &MsignConfig<'_>) -> MsignStats {
    macro_rules! case {
        ($($kind:ident)*) => {
            match (&x.buffer, &mut out.buffer) {
                $((Buffer::$kind(from), Buffer::$kind(to)) => msign_with_stats(
                    &Context::default(),
                    config,
                    matrix(from, x.rows, x.cols, x.ld),
                    matrix_mut(to, out.rows, out.cols, out.ld),
                ),)*
                _ => panic!("types differ"),
            }
        };
    }
    case!(F32 F64 Bf16 F16).unwrap()
}

fn muon(given: &Given<'_>, arrays: &mut Arrays, results: &mut Results) {
    let msign = given.0.get("msign").map_or(MsignConfig::new(), |x| msign_config(&Given(x)));
    let nesterov = given.0.get("flags").is_none() || given.has_flag("NESTEROV");
    let config = MuonConfig::new()
        .lr(given.or("lr", 1e-3))
        .momentum(given.or("momentum", 0.95))
        .weight_decay(given.or("weight_decay", 1e-2))
        .scale_value(given.or("scale_value", 0.2))
        .grad_scale(given.or("grad_scale", 1.0))
        .step(given.or("step", 1.0) as i64)
        .momentum_kind(match given.text("momentum_kind") {
            Some("CLASSIC") => MomentumKind::Classic,
            _ => MomentumKind::Ema,
        })
        .scale_mode(given.text("scale_mode").map_or(ScaleMode::MatchRms, scale_mode))
        .msign(&msign)
        .nesterov(nesterov)
        .maximize(given.has_flag("MAXIMIZE"))
        .cautious_decay(given.has_flag("CAUTIOUS_DECAY"))
        .emit_delta(given.has_flag("EMIT_DELTA"));
    let blocks: Vec<i64> = given
        .0
        .get("blocks")
        .map_or(Vec::new(), |x| x.numbers().iter().map(|&x| x as i64).collect());
    let axis = if given.size("block_axis") == 0 { BlockAxis::Rows } else { BlockAxis::Cols };
    let mut take = |name: &str| arrays.remove(name);
    let mut param = take("param").unwrap();
    let (grad, mut momentum, mut delta) =
        (take("grad").unwrap(), take("momentum").unwrap(), take("delta"));
    let (mut scales, mut residual) = (take("momentum_scales"), take("residual"));
    let mut copy = take("param_copy");
    let (rows, cols) = (param.rows, param.cols);
    let lds = (param.ld, grad.ld, momentum.ld);
    let mut stats = [StepStats::default()];
    macro_rules! tensor {
        ($($p:ident $g:ident $m:ident,)*) => {
            match (&mut param.buffer, &grad.buffer, &mut momentum.buffer) {
                $((Buffer::$p(p), Buffer::$g(g), Buffer::$m(m)) => {
                    let g = matrix(g, rows, cols, lds.1);
                    let m = matrix_mut(m, rows, cols, lds.2);
                    match &mut delta {
                        None => MuonTensor::new(matrix_mut(p, rows, cols, lds.0), g, m),
                        Some(Array { buffer: Buffer::F32(delta), ld, .. }) => {
                            let p = matrix(p, rows, cols, lds.0);
                            MuonTensor::emit_delta(p, g, m, matrix_mut(delta, rows, cols, *ld))
                        }
                        Some(_) => panic!("a delta of another type"),
                    }
                })*
                _ => panic!("another mix of types"),
            }
        };
    }
    let tensor = if scales.is_some() || residual.is_some() {
        let g = &grad.buffer;
        let momentum = narrow::state(&mut momentum, &mut scales);
        with!(&mut param.buffer, p => with!(g, g => MuonTensor::with_state(
            matrix_mut(p, rows, cols, lds.0), matrix(g, rows, cols, lds.1), momentum)))
    } else {
        tensor! {
            F32 F32 F32, F64 F64 F64, Bf16 Bf16 Bf16, F16 F16 F16, Bf16 Bf16 F32,
        }
    };
    let mut tensor = tensor.unwrap().fans(given.size("fan_out"), given.size("fan_in"));
    if !blocks.is_empty() {
        tensor = tensor.blocks(&blocks, axis);
    }
    if let Some(residual) = &mut residual {
        tensor = tensor.residual(narrow::residual(residual)).unwrap();
    }
    if let Some(copy) = &mut copy {
        let ld = copy.ld;
        tensor =
            with!(&mut copy.buffer, x => tensor.param_copy(matrix_mut(x, rows, cols, ld))).unwrap();
    }
    let some = Some(&mut stats[..]);
    let outcome = muon_step_with_stats(&Context::default(), &config, &mut [tensor], some).unwrap();
    for (name, array) in [("param", param), ("grad", grad), ("momentum", momentum)] {
        arrays.insert(name.into(), array);
    }
    for (name, array) in [
        ("delta", delta),
        ("momentum_scales", scales),
        ("residual", residual),
        ("param_copy", copy),
    ] {
        array.map(|array| arrays.insert(name.into(), array));
    }
    step_results(results, &stats[0], outcome);
}

fn scale_mode(name: &str) -> ScaleMode {
    match name {
        "MATCH_RMS" => ScaleMode::MatchRms,
        "EXACT_RMS" => ScaleMode::ExactRms,
        "NONE" => ScaleMode::None,
        "SQRT_MAX1_OUT_IN" => ScaleMode::SqrtMax1OutIn,
        "SQRT_OUT_IN" => ScaleMode::SqrtOutIn,
        "SQRT_MAX" => ScaleMode::SqrtMax,
        other => panic!("{}", other),
    }
}

fn schedule(given: &Given<'_>) -> Schedule {
    let kind = match given.text("kind").unwrap() {
        "CONSTANT" => ScheduleKind::Constant,
        "LINEAR" => ScheduleKind::Linear,
        "COSINE" => ScheduleKind::Cosine,
        "INVERSE_SQRT" => ScheduleKind::InverseSqrt,
        "INVERSE" => ScheduleKind::Inverse,
        "WARMUP_STABLE_DECAY" => ScheduleKind::WarmupStableDecay,
        other => panic!("{}", other),
    };
    let shape = match given.text("decay_shape") {
        None | Some("LINEAR") => DecayShape::Linear,
        Some("COSINE") => DecayShape::Cosine,
        Some("ONE_MINUS_SQRT") => DecayShape::OneMinusSqrt,
        Some(other) => panic!("{}", other),
    };
    Schedule::new(kind)
        .lr(given.or("lr", 1e-3))
        .final_ratio(given.or("final_ratio", 0.0))
        .warmup_steps(given.size("warmup_steps"))
        .decay_steps(given.size("decay_steps"))
        .decay_shape(shape)
}

fn value(function: &str, given: &Given<'_>, arrays: &Arrays, results: &mut Results) {
    let n = |name: &str| given.or(name, 0.0);
    let list = |name: &str| given.0.get(name).map_or(Vec::new(), Json::numbers);
    let step = n("step") as i64;
    let norms = list("grad_norms");
    let g = if norms.is_empty() { GradNorms::Constant(n("grad_norm")) } else { (&norms).into() };
    let x = arrays.get("x");
    let context = Context::default();
    let mut put = |name: &str, values: Vec<f64>| results.insert(name.into(), values);
    let total = given.size("total_steps");
    match function {
        "scale_factor" => {
            let mode = scale_mode(given.text("mode").unwrap());
            let fans = (given.size("fan_out"), given.size("fan_in"));
            put("out", vec![steepest::scale_factor(mode, n("value"), fans.0, fans.1).unwrap()])
        }
        "schedule_fill" => put("lr", schedule(given).fill(total).unwrap()),
        "schedule_at" => put("lr", vec![schedule(given).at(total, step as usize).unwrap()]),
        "schedule_bound" => {
            put("bound", vec![schedule_bound(&list("lr"), n("distance"), g).unwrap()])
        }
        "schedule_optimal" => {
            let (lr, bound) = schedule_optimal(total, n("distance"), g).unwrap();
            put("lr", lr);
            put("bound", vec![bound])
        }
        "schedule_refine" => {
            let sgd = given.text("kind") == Some("SGD");
            let kind = if sgd { RefineKind::Sgd } else { RefineKind::Adam };
            put("lr", schedule_refine(&norms, kind, n("smoothing"), n("distance")).unwrap())
        }
        "adam_update_rms" => put("rms", vec![adam_update_rms(n("beta1"), n("snr"), step).unwrap()]),
        "adam_update_rms_second_order" => {
            let (b1, b2, snr) = (n("beta1"), n("beta2"), n("snr"));
            let rms = adam_update_rms_second_order(b1, b2, snr, n("kurtosis"), step);
            put("rms", vec![rms.unwrap()])
        }
        "snr_from_update_rms" => {
            put("snr", vec![snr_from_update_rms(n("update_rms"), n("beta1"), step).unwrap()])
        }
        "snr_from_momentum" => {
            let snr = snr_from_momentum(n("momentum_rms"), n("grad_rms"), n("beta"), step);
            put("snr", vec![snr.unwrap()])
        }
        "singular_entropy" => put("entropy", vec![singular_entropy(&list("values")).unwrap()]),
        "singular_values" => {
            let x = x.unwrap();
            let values = with!(&x.buffer, data =>
                singular_values(&context, matrix(data, x.rows, x.cols, x.ld)));
            put("values", values.unwrap())
        }
        "spectral_norm" => {
            let x = x.unwrap();
            let norm = with!(&x.buffer, data =>
                spectral_norm(&context, matrix(data, x.rows, x.cols, x.ld)));
            put("norm", vec![norm.unwrap()])
        }
        "grad_norm" | "rms" => {
            let vectors: Vec<Vector<'_>> =
                arrays.values().map(|x| with!(&x.buffer, data => data.into())).collect();
            let call = if function == "rms" { rms } else { grad_norm };
            let result = call(&context, &vectors).unwrap();
            put("nonfinite", vec![result.nonfinite as f64]);
            put(if function == "rms" { "rms" } else { "norm" }, vec![result.norm])
        }
        other => panic!("{}", other),
    };
}

fn run(function: &str, given: &Given<'_>, arrays: &mut Arrays) -> Results {
    let mut results = Results::new();
    match function {
        "adamw_step" => adamw(given, arrays, &mut results),
        "muon_step" => muon(given, arrays, &mut results),
        "msign" => {
            let x = arrays["x"].clone();
            let stats = same_type(&x, arrays.get_mut("out").unwrap(), &msign_config(given));
            let rank = stats.rank.map_or(-1.0, |rank| rank as f64);
            results.insert("stats.rank".into(), vec![rank]);
        }
        "q8_scales" | "q8_encode" | "q8_decode" => {
            narrow::q8(function, given, arrays, &mut results)
        }
        other => value(other, given, arrays, &mut results),
    }
    results
}

fn agree(what: &str, got: &[f64], expected: &Json) {
    let values = expected.get("values").unwrap().numbers();
    let tolerances = expected.get("tolerance").unwrap().numbers();
    assert_eq!(got.len(), values.len(), "{}", what);
    for (i, (got, value)) in got.iter().zip(&values).enumerate() {
        let tolerance = tolerances[i.min(tolerances.len() - 1)];
        let near = (got - value).abs() <= tolerance || got.is_nan() && value.is_nan();
        assert!(near, "{}[{}]: {} is not {} within {}", what, i, got, value, tolerance);
    }
}

#[test]
fn vectors() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../tests/conformance");
    let (mut cases, mut same_bits) = (0, 0);
    let files = ["adamw", "msign", "muon", "schedule", "diagnostics"];
    let narrow = ["q8_dynamic", "q8_companded", "narrow_masters", "narrow_moments"];
    for name in files.iter().chain(&narrow) {
        let text = fs::read_to_string(directory.join(format!("{}.json", name))).unwrap();
        let file = Json::parse(&text);
        assert_eq!(file.get("version").unwrap().number(), 1.0);
        for case in file.get("cases").unwrap().list() {
            let what = format!("{}: {}", name, case.get("name").unwrap().text());
            let function = case.get("function").unwrap().text();
            let arguments = case.get("arguments").unwrap();
            let mut arrays = Arrays::new();
            for (name, given) in case.get("arrays").map(Json::object).into_iter().flatten() {
                arrays.insert(name.clone(), Array::new(given, arguments));
            }
            let before = arrays.clone();
            let results = run(function, &Given(arguments), &mut arrays);
            for (name, expected) in case.get("expected").unwrap().object() {
                if name == "scale_bytes" {
                    continue; // q8_scales() gives the number alone
                }
                let dense = arrays.get(name).map(Array::dense);
                let got = dense.unwrap_or_else(|| results[name].clone());
                agree(&format!("{}: {}", what, name), &got, expected);
            }
            for (name, array) in &arrays {
                assert!(array.gaps_untouched(), "{}: {}", what, name);
                if name == "grad" || name == "x" {
                    assert_eq!(array.all().len(), before[name].all().len());
                    let same = array.buffer == before[name].buffer;
                    assert!(same || what.contains("infinite"), "{}: {}", what, name);
                }
            }
            let mut theirs = before;
            if let Some(their_results) = raw::c_call(function, arguments, &mut theirs) {
                for (name, array) in &arrays {
                    let same = array.buffer == theirs[name].buffer;
                    assert!(same, "{}: bits of {}", what, name);
                }
                for (name, values) in their_results {
                    let bits = |x: &[f64]| x.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&results[&name]), bits(&values), "{}: bits of {}", what, name);
                }
                same_bits += 1;
            }
            cases += 1;
        }
    }
    println!("{} cases, of {} the bits of C calls", cases, same_bits);
    assert!(cases > 100 && same_bits > 50);
}
