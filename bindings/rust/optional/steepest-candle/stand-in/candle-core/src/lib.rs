// SPDX-License-Identifier: Apache-2.0
//! A stand-in for candle-core 0.9, not candle: dense f32 in CPU memory, the functions that
//! steepest-candle and its test use, with candle's signatures (where versions differ, what both
//! accept), and gradients through `mul`, `add` and `sum_all` alone.
use std::fmt;
use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, RwLock};

pub enum Error {
    Msg(String),
    Wrapped(Box<dyn fmt::Display + Send + Sync>),
}

pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    pub fn wrap(err: impl std::error::Error + Send + Sync + 'static) -> Self {
        Error::Wrapped(Box::new(err))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Msg(text) => f.write_str(text),
            Error::Wrapped(inner) => inner.fmt(f),
        }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for Error {}

#[derive(Clone, Debug)]
pub enum Device {
    Cpu,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shape(Vec<usize>);

impl Shape {
    pub fn elem_count(&self) -> usize {
        self.0.iter().product()
    }
}

impl From<&Shape> for Shape {
    fn from(shape: &Shape) -> Shape {
        shape.clone()
    }
}

impl From<usize> for Shape {
    fn from(size: usize) -> Shape {
        Shape(vec![size])
    }
}

impl From<(usize, usize)> for Shape {
    fn from(sizes: (usize, usize)) -> Shape {
        Shape(vec![sizes.0, sizes.1])
    }
}

/// Element types; f32 alone here.
pub trait WithDType: Copy + 'static {
    #[doc(hidden)]
    fn from_f32(value: f32) -> Self;
    #[doc(hidden)]
    fn to_f32(self) -> f32;
}

impl WithDType for f32 {
    fn from_f32(value: f32) -> f32 {
        value
    }
    fn to_f32(self) -> f32 {
        self
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TensorId(usize);

#[derive(Debug)]
enum Op {
    None,
    Add(Tensor, Tensor),
    Mul(Tensor, Tensor),
    SumAll(Tensor),
}

#[derive(Debug)]
struct Content {
    id: TensorId,
    data: RwLock<Vec<f32>>,
    shape: Shape,
    op: Op,
}

#[derive(Clone, Debug)]
pub struct Tensor(Arc<Content>);

impl Tensor {
    fn with(data: Vec<f32>, shape: Shape, op: Op) -> Tensor {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let id = TensorId(NEXT.fetch_add(1, Ordering::Relaxed));
        Tensor(Arc::new(Content { id, data: RwLock::new(data), shape, op }))
    }

    fn data(&self) -> Vec<f32> {
        self.0.data.read().unwrap().clone()
    }

    pub fn from_vec<S: Into<Shape>, D: WithDType>(
        data: Vec<D>,
        shape: S,
        _device: &Device,
    ) -> Result<Self> {
        let (data, shape): (Vec<_>, Shape) =
            (data.into_iter().map(D::to_f32).collect(), shape.into());
        if data.len() != shape.elem_count() {
            return Err(Error::Msg("shape mismatch".into()));
        }
        Ok(Tensor::with(data, shape, Op::None))
    }

    pub fn id(&self) -> TensorId {
        self.0.id
    }

    pub fn shape(&self) -> &Shape {
        &self.0.shape
    }

    pub fn device(&self) -> &Device {
        &Device::Cpu
    }

    pub fn elem_count(&self) -> usize {
        self.0.shape.elem_count()
    }

    pub fn flatten_all(&self) -> Result<Tensor> {
        Ok(Tensor::with(self.data(), self.elem_count().into(), Op::None))
    }

    pub fn to_vec1<S: WithDType>(&self) -> Result<Vec<S>> {
        if self.0.shape.0.len() != 1 {
            return Err(Error::Msg("unexpected rank".into()));
        }
        Ok(self.data().into_iter().map(S::from_f32).collect())
    }

    fn binary(&self, rhs: &Self, f: fn(f32, f32) -> f32, op: Op) -> Result<Self> {
        if self.shape() != rhs.shape() {
            return Err(Error::Msg("shape mismatch".into()));
        }
        let data = self.data().iter().zip(rhs.data()).map(|(a, b)| f(*a, b)).collect();
        Ok(Tensor::with(data, self.shape().clone(), op))
    }

    pub fn add(&self, rhs: &Self) -> Result<Self> {
        self.binary(rhs, |a, b| a + b, Op::Add(self.clone(), rhs.clone()))
    }

    pub fn mul(&self, rhs: &Self) -> Result<Self> {
        self.binary(rhs, |a, b| a * b, Op::Mul(self.clone(), rhs.clone()))
    }

    pub fn sum_all(&self) -> Result<Tensor> {
        Ok(Tensor::with(vec![self.data().iter().sum()], Shape(vec![]), Op::SumAll(self.clone())))
    }

    pub fn backward(&self) -> Result<backprop::GradStore> {
        let mut grads = backprop::GradStore::default();
        self.push_gradient(vec![1.0; self.elem_count()], &mut grads)?;
        Ok(grads)
    }

    fn push_gradient(&self, grad: Vec<f32>, grads: &mut backprop::GradStore) -> Result<()> {
        match &self.0.op {
            Op::None => {
                let grad = Tensor::with(grad, self.shape().clone(), Op::None);
                let sum = match grads.get(self) {
                    Some(before) => before.add(&grad)?,
                    None => grad,
                };
                grads.insert(self, sum);
                Ok(())
            }
            Op::Add(a, b) => {
                a.push_gradient(grad.clone(), grads)?;
                b.push_gradient(grad, grads)
            }
            Op::Mul(a, b) => {
                let times = |x: &Tensor| x.data().iter().zip(&grad).map(|(x, g)| x * g).collect();
                a.push_gradient(times(b), grads)?;
                b.push_gradient(times(a), grads)
            }
            Op::SumAll(a) => a.push_gradient(vec![grad[0]; a.elem_count()], grads),
        }
    }
}

#[derive(Clone, Debug)]
pub struct Var(Tensor);

impl Deref for Var {
    type Target = Tensor;
    fn deref(&self) -> &Tensor {
        &self.0
    }
}

impl Var {
    pub fn from_vec<S: Into<Shape>, D: WithDType>(
        data: Vec<D>,
        shape: S,
        device: &Device,
    ) -> Result<Self> {
        Tensor::from_vec(data, shape, device).map(Var)
    }

    pub fn as_tensor(&self) -> &Tensor {
        &self.0
    }

    pub fn set(&self, src: &Tensor) -> Result<()> {
        if self.shape() != src.shape() {
            return Err(Error::Msg("shape mismatch in set".into()));
        }
        let data = src.data();
        *self.0 .0.data.write().unwrap() = data;
        Ok(())
    }
}

pub mod backprop {
    use super::{Tensor, TensorId};
    use std::collections::HashMap;

    #[derive(Debug, Default)]
    pub struct GradStore(HashMap<TensorId, Tensor>);

    impl GradStore {
        pub fn get(&self, tensor: &Tensor) -> Option<&Tensor> {
            self.0.get(&tensor.id())
        }

        pub fn insert(&mut self, tensor: &Tensor, grad: Tensor) -> Option<Tensor> {
            self.0.insert(tensor.id(), grad)
        }
    }
}
