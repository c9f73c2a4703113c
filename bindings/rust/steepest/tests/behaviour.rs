// SPDX-License-Identifier: Apache-2.0
//! Errors, threads, executors and saved state.
use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;
use std::thread;

use steepest::*;

fn assert_send_sync<T: Send + Sync>() {}

#[test]
fn a_context_is_shared_by_threads() {
    assert_send_sync::<Context>();
    assert_send_sync::<Error>();
    assert_send_sync::<optim::AdamW<f32>>();
    assert_send_sync::<optim::Muon<f32>>();
    let context = Context::builder().num_threads(2).build().unwrap();
    let steps = |context: &Context| {
        let (mut w, g) = (vec![1f32; 5000], vec![0.5f32; 5000]);
        let mut optimizer = optim::AdamW::<f32>::new(AdamWConfig::new(), &[5000]).unwrap();
        for _ in 0..20 {
            optimizer.step(context, &mut [&mut w], &[&g]).unwrap();
        }
        w
    };
    let expected = steps(&context);
    thread::scope(|scope| {
        let all: Vec<_> = (0..4).map(|_| scope.spawn(|| steps(&context))).collect();
        for one in all {
            assert_eq!(one.join().unwrap(), expected);
        }
    });
}

#[test]
fn errors_have_a_kind_and_the_librarys_text() {
    let context = Context::default();
    let (mut w, g, mut m, mut v) = ([1f32; 2], [1f32; 2], [0f32; 2], [0f32; 2]);
    let tensor = AdamWTensor::new(&mut w, &g, &mut m, &mut v).unwrap();
    let config = AdamWConfig::new().beta1(1.5);
    let error = adamw_step(&context, &config, &mut [tensor]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.to_string().contains("beta1"), "{}", error);
    assert_eq!((w, m), ([1.0; 2], [0.0; 2]));

    let mut v64 = [0f64; 2];
    let tensor = AdamWTensor::new(&mut w, &g, &mut m, &mut v64).unwrap();
    let error = adamw_step(&context, &AdamWConfig::new(), &mut [tensor]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Dtype);

    let error = AdamWTensor::new(&mut w, &[1f32], &mut m, &mut v).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Shape);
    assert!(error.message().contains("grad has 1 elements"), "{}", error);

    // What would write parameters that were given to be read.
    let mut delta = [0f32; 2];
    let tensor = AdamWTensor::emit_delta(&w, &g, &mut m, &mut v, &mut delta).unwrap();
    assert!(adamw_step(&context, &AdamWConfig::new(), &mut [tensor]).is_err());

    let x = [f32::NAN; 4];
    let mut out = [7f32; 4];
    let error = msign(
        &context,
        &MsignConfig::new(),
        MatrixRef::new(&x, 2, 2).unwrap(),
        MatrixMut::new(&mut out, 2, 2).unwrap(),
    );
    assert_eq!(error.unwrap_err().kind(), ErrorKind::Nonfinite);
    assert_eq!(out, [7.0; 4]);
    let without_rows = MsignConfig::new().method(Method::NewtonSchulz).custom_coefficients(&[]);
    assert!(msign_band(&without_rows, 0.1).is_err());
    assert!(MatrixRef::with_ld(&x, usize::MAX, 2, 2).is_err());
    assert!(Schedule::new(ScheduleKind::Linear).fill(0).is_err());
    assert!(schedule_bound(&[1.0], 1.0, &vec![1.0, 2.0]).is_err());
}

#[test]
fn a_skipped_step_does_not_count() {
    let mut w = [1f32; 3];
    let config = AdamWConfig::new().skip_nonfinite(true);
    let mut optimizer = optim::AdamW::<f32>::new(config, &[3]).unwrap();
    let (context, bad) = (Context::default(), [1.0, f32::INFINITY, 0.0]);
    let outcome = optimizer.step(&context, &mut [&mut w], &[&bad]).unwrap();
    assert_eq!((outcome, optimizer.steps(), w), (Outcome::Skipped, 0, [1.0; 3]));
}

struct Pool {
    threads: usize,
    calls: Arc<AtomicUsize>,
    twice: bool,
    none: bool,
    panics: bool,
}

impl Executor for Pool {
    fn concurrency(&self) -> usize {
        self.threads
    }
    fn run(&self, jobs: usize, job: &(dyn Fn(usize) + Sync)) {
        self.calls.fetch_add(1, Ordering::Relaxed);
        assert!(!self.panics, "the pool is broken");
        if self.none {
            return;
        }
        thread::scope(|scope| {
            for i in 0..jobs {
                scope.spawn(move || job(i));
                if self.twice {
                    scope.spawn(move || job(i));
                    scope.spawn(move || job(i + jobs));
                }
            }
        });
    }
}

#[test]
fn any_executor_gives_the_same_bits() {
    let size = 1 << 20;
    let grad: Vec<f32> = (0..size).map(|i| (i as f32 * 0.37).sin()).collect();
    let run = |context: &Context| {
        let mut w = vec![0.5f32; size];
        let mut optimizer = optim::AdamW::<f32>::new(AdamWConfig::new(), &[size]).unwrap();
        let result = optimizer.step(context, &mut [&mut w], &[&grad]);
        result.map(|_| w)
    };
    let expected = run(&Context::builder().num_threads(1).build().unwrap()).unwrap();
    for (twice, none) in [(false, false), (true, false), (false, true)] {
        let calls = Arc::new(AtomicUsize::new(0));
        let pool = Pool { threads: 3, calls: calls.clone(), twice, none, panics: false };
        let context = Context::builder().executor(pool).build().unwrap();
        assert!(run(&context).unwrap() == expected);
        assert!(calls.load(Ordering::Relaxed) > 0, "the executor was not used");
    }
    let calls = Arc::new(AtomicUsize::new(0));
    let pool = Pool { threads: 3, calls, twice: false, none: false, panics: true };
    let context = Context::builder().executor(pool).build().unwrap();
    assert_eq!(run(&context).unwrap_err().kind(), ErrorKind::Internal);
}

/// Counts what is allocated and not yet released, in bytes and number.
struct Counting(Arc<(AtomicUsize, AtomicUsize, AtomicUsize)>);

unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        self.0 .0.fetch_add(layout.size(), Ordering::Relaxed);
        self.0 .1.fetch_add(1, Ordering::Relaxed);
        self.0 .2.fetch_max(layout.align(), Ordering::Relaxed);
        System.alloc(layout)
    }
    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        self.0 .0.fetch_sub(layout.size(), Ordering::Relaxed);
        System.dealloc(memory, layout)
    }
}

/// Has none.
struct Empty;

unsafe impl GlobalAlloc for Empty {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        std::ptr::null_mut()
    }
    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

fn msign_of_ramp(context: &Context, workspace: &mut Workspace<'_>) -> Result<Vec<f32>> {
    let x: Vec<f32> = (0..40 * 60).map(|i| (i as f32 * 0.7).sin()).collect();
    let mut out = vec![0f32; x.len()];
    let (from, to) = (MatrixRef::new(&x, 40, 60)?, MatrixMut::new(&mut out, 40, 60)?);
    msign_with_workspace(context, &MsignConfig::new(), from, to, workspace)?;
    Ok(out)
}

#[test]
fn memory_comes_from_an_allocator_and_goes_back() {
    let counts = Arc::new((AtomicUsize::new(0), AtomicUsize::new(0), AtomicUsize::new(0)));
    let context =
        Context::builder().num_threads(2).allocator(Counting(counts.clone())).build().unwrap();
    let out = msign_of_ramp(&context, &mut Workspace::pooled()).unwrap();
    assert_eq!(out, msign_of_ramp(&Context::default(), &mut Workspace::pooled()).unwrap());
    let (held, number) = (&counts.0, &counts.1);
    assert!(held.load(Ordering::Relaxed) > 40 * 60 * 4 && number.load(Ordering::Relaxed) > 0);
    assert!(counts.2.load(Ordering::Relaxed).is_power_of_two());
    let before = held.load(Ordering::Relaxed);
    context.trim().unwrap();
    assert!(held.load(Ordering::Relaxed) < before);
    drop(context);
    assert_eq!(held.load(Ordering::Relaxed), 0);

    let error = Context::builder().allocator(Empty).build().map(|_| ()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::OutOfMemory);
}

#[test]
fn scratch_memory_of_ones_own() {
    let context = Context::default();
    let config = MsignConfig::new();
    let bytes = msign_workspace_size::<f32>(&context, &config, 40, 60, 1).unwrap();
    assert!(bytes > 40 * 60 * 4);
    let expected = msign_of_ramp(&context, &mut Workspace::pooled()).unwrap();
    // At any alignment, and less than it takes is an error.
    let mut memory = vec![0xa5; bytes + 1];
    assert_eq!(msign_of_ramp(&context, &mut Workspace::new(&mut memory[1..])).unwrap(), expected);
    let mut uninit = Vec::with_capacity(bytes);
    let mut workspace = Workspace::from_uninit(uninit.spare_capacity_mut());
    assert_eq!(msign_of_ramp(&context, &mut workspace).unwrap(), expected);
    assert_eq!(msign_of_ramp(&context, &mut workspace).unwrap(), expected);
    let error = msign_of_ramp(&context, &mut Workspace::new(&mut memory[..bytes / 2])).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidArgument);
    assert!(error.message().contains("workspace"), "{}", error);

    let step = |own: bool| {
        let (mut w, g, mut m) = ([1f32; 12], [0.5f32; 12], [0f32; 12]);
        let tensor = MuonTensor::new(
            MatrixMut::new(&mut w, 3, 4)?,
            MatrixRef::new(&g, 3, 4)?,
            MatrixMut::new(&mut m, 3, 4)?,
        )?;
        let config = MuonConfig::new().lr(0.1);
        let mut tensors = [tensor];
        let mut memory = vec![0; muon_workspace_size(&context, &config, &tensors)?];
        let mut own = if own { Workspace::new(&mut memory) } else { Workspace::pooled() };
        muon_step_with_workspace(&context, &config, &mut tensors, None, &mut own)?;
        Ok::<_, Error>((w, m))
    };
    assert_eq!(step(true).unwrap(), step(false).unwrap());
    let x = [1f32, 0.0, 0.0, 2.0];
    let (mut a, mut b) = ([0f32; 4], [0f32; 4]);
    let bytes = msign_workspace_size::<f32>(&context, &config, 2, 2, 2).unwrap();
    let mut memory = vec![0; bytes];
    let matrix = MatrixRef::new(&x, 2, 2).unwrap();
    let mut out = [MatrixMut::new(&mut a, 2, 2).unwrap(), MatrixMut::new(&mut b, 2, 2).unwrap()];
    let mut own = Workspace::new(&mut memory);
    msign_batched_with_workspace(&context, &config, &[matrix, matrix], &mut out, &mut own).unwrap();
    assert_eq!(a, b);
}

#[test]
fn state_and_arrays_of_different_number() {
    let context = Context::default();
    let (mut w, g) = ([1f32; 2], [1f32; 2]);
    let mut adamw = optim::AdamW::<f32>::new(AdamWConfig::new(), &[2, 2]).unwrap();
    let error = adamw.step(&context, &mut [&mut w], &[&g]).unwrap_err();
    assert!(error.message().contains("AdamW: 1 params and 1 grads"), "{}", error);
    let shapes = vec![(1, 2).into()];
    let mut muon = optim::Muon::<f32>::new(MuonConfig::new(), MsignConfig::new(), shapes).unwrap();
    let error = muon.step(&context, &mut [&mut w], &[&g[..], &g]).unwrap_err();
    assert!(error.message().contains("Muon: 1 params and 2 grads"), "{}", error);
}

#[test]
fn saved_state_continues_bit_for_bit() {
    let context = Context::default();
    let grad = |t: usize| (0..12).map(|i| ((i * 7 + t * 3) as f32).sin()).collect::<Vec<f32>>();
    let rows = [[1.5, -0.5, 0.0]];
    let msign = MsignConfig::new().method(Method::NewtonSchulz).custom_coefficients(&rows).steps(8);
    let shape = optim::MuonShape::new(3, 4).blocks(&[1, 2], BlockAxis::Rows);
    let adamw = AdamWConfig::new().amsgrad(true).lr(0.1);
    let mut a = optim::AdamW::<f32>::new(adamw, &[12]).unwrap();
    let mut b = optim::Muon::<f32>::new(MuonConfig::new().lr(0.1), msign, vec![shape]).unwrap();
    let (mut w, mut x) = (vec![1f32; 12], vec![1f32; 12]);
    for t in 0..3 {
        a.step(&context, &mut [&mut w], &[&grad(t)]).unwrap();
        b.step(&context, &mut [&mut x], &[&grad(t)]).unwrap();
    }
    let (bytes_a, bytes_b) = (a.to_bytes(), b.to_bytes());
    let mut a2 = optim::AdamW::<f32>::from_bytes(&bytes_a).unwrap();
    let mut b2 = optim::Muon::<f32>::from_bytes(&bytes_b).unwrap();
    assert_eq!((a2.to_bytes(), b2.to_bytes()), (bytes_a.clone(), bytes_b.clone()));
    let (mut w2, mut x2) = (w.clone(), x.clone());
    for t in 3..6 {
        a.step(&context, &mut [&mut w], &[&grad(t)]).unwrap();
        b.step(&context, &mut [&mut x], &[&grad(t)]).unwrap();
        a2.step(&context, &mut [&mut w2], &[&grad(t)]).unwrap();
        b2.step(&context, &mut [&mut x2], &[&grad(t)]).unwrap();
    }
    assert_eq!((&w, &x), (&w2, &x2));
    assert_eq!((a2.steps(), b2.steps()), (6, 6));

    // Whatever is damaged is refused, and nothing panics.
    for bytes in [&bytes_a, &bytes_b] {
        for end in 0..bytes.len() {
            assert!(optim::AdamW::<f32>::from_bytes(&bytes[..end]).is_err());
            assert!(optim::Muon::<f32>::from_bytes(&bytes[..end]).is_err());
            let mut damaged = bytes.to_vec();
            damaged[end] ^= 0x41;
            assert!(optim::AdamW::<f32>::from_bytes(&damaged).is_err());
            assert!(optim::Muon::<f32>::from_bytes(&damaged).is_err());
        }
    }
    assert!(optim::AdamW::<f64>::from_bytes(&bytes_a).is_err());
    assert!(optim::AdamW::<f32>::from_bytes(&bytes_b).is_err());
}

#[test]
fn batches_and_in_place() {
    let context = Context::default();
    let (x, bad) = ([2f64, 0.0, 0.0, 5.0], [f64::NAN; 4]);
    let (mut out, mut untouched) = ([0f64; 4], [7f64; 4]);
    let config = MsignConfig::new().method(Method::Svd);
    let (stats, error) = msign_batched(
        &context,
        &config,
        &[MatrixRef::new(&x, 2, 2).unwrap(), MatrixRef::new(&bad, 2, 2).unwrap()],
        &mut [
            MatrixMut::new(&mut out, 2, 2).unwrap(),
            MatrixMut::new(&mut untouched, 2, 2).unwrap(),
        ],
    )
    .unwrap();
    assert_eq!((stats[0].status, stats[0].rank), (None, Some(2)));
    assert_eq!(stats[1].status, Some(ErrorKind::Nonfinite));
    assert_eq!(error.unwrap().kind(), ErrorKind::Nonfinite);
    assert_eq!(untouched, [7.0; 4]);
    let mut same = x;
    msign_in_place(&context, &config, MatrixMut::new(&mut same, 2, 2).unwrap()).unwrap();
    assert_eq!(same, out);
    let rows = msign_coefficients(1e-3, 6).unwrap();
    let custom = MsignConfig::new().method(Method::NewtonSchulz).custom_coefficients(&rows);
    let (low, high) = msign_band(&custom.steps(6), 1e-3).unwrap();
    assert!(low > 0.9 && high < 1.1);
    let (lower, upper) =
        spectral_norm_bounds(&context, MatrixRef::new(&x, 2, 2).unwrap(), 0.0).unwrap();
    assert!(lower <= 5.0 && 5.0 <= upper && upper <= 1.01 * lower);
}
