// SPDX-License-Identifier: Apache-2.0
//! The saved form: magic, version, kind, element type, content, checksum; all little-endian.
use super::State;
use crate::{Error, Result};

const MAGIC: &[u8; 8] = b"STEEPEST";
const VERSION: u32 = 1;

#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub(super) enum Kind {
    AdamW = 1,
    Muon = 2,
}

/// FNV-1a: against truncated and damaged files, not against malice.
fn checksum(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

pub(super) struct Writer(Vec<u8>);

impl Writer {
    pub(super) fn new<S: State>(kind: Kind) -> Writer {
        let mut writer = Writer(MAGIC.to_vec());
        writer.0.extend_from_slice(&VERSION.to_le_bytes());
        writer.0.extend_from_slice(&(kind as u32).to_le_bytes());
        writer.u64(S::DTYPE as u64);
        writer
    }

    pub(super) fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(super) fn i64(&mut self, value: i64) {
        self.u64(value as u64);
    }

    pub(super) fn f64(&mut self, value: f64) {
        self.u64(value.to_bits());
    }

    pub(super) fn state<S: State>(&mut self, values: &[S]) {
        self.u64(values.len() as u64);
        let size = std::mem::size_of::<S>();
        for value in values {
            self.0.extend_from_slice(&State::to_bits(*value).to_le_bytes()[..size]);
        }
    }

    pub(super) fn finish(mut self) -> Vec<u8> {
        let sum = checksum(&self.0);
        self.u64(sum);
        self.0
    }
}

pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

fn refuse<T>(why: &str) -> Result<T> {
    Error::invalid(format!("from_bytes: {}", why))
}

impl<'a> Reader<'a> {
    pub(super) fn new<S: State>(bytes: &'a [u8], kind: Kind) -> Result<Reader<'a>> {
        if bytes.len() < MAGIC.len() || &bytes[..MAGIC.len()] != MAGIC {
            return refuse("this is no saved optimizer");
        }
        if bytes.len() < MAGIC.len() + 8 + 8 + 8 {
            return refuse("the end is missing");
        }
        let (content, sum) = bytes.split_at(bytes.len() - 8);
        let mut reader = Reader { rest: &content[MAGIC.len()..] };
        let version = reader.u32()?;
        if version != VERSION {
            return refuse(&format!("version {} is not known, this is {}", version, VERSION));
        }
        if checksum(content).to_le_bytes() != sum {
            return refuse("the checksum is wrong: damaged, or the end is missing");
        }
        if reader.u32()? != kind as u32 {
            return refuse("the state is that of another optimizer");
        }
        if reader.u64()? != S::DTYPE as u64 {
            return refuse("the state has another element type");
        }
        Ok(reader)
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8]> {
        if count > self.rest.len() {
            return refuse("a length is wrong");
        }
        let (taken, rest) = self.rest.split_at(count);
        self.rest = rest;
        Ok(taken)
    }

    fn u32(&mut self) -> Result<u32> {
        Ok(self.u64_of(4)? as u32)
    }

    fn u64_of(&mut self, bytes: usize) -> Result<u64> {
        let mut all = [0; 8];
        all[..bytes].copy_from_slice(self.take(bytes)?);
        Ok(u64::from_le_bytes(all))
    }

    pub(super) fn u64(&mut self) -> Result<u64> {
        self.u64_of(8)
    }

    pub(super) fn i64(&mut self) -> Result<i64> {
        Ok(self.u64()? as i64)
    }

    pub(super) fn i32(&mut self) -> Result<i32> {
        i32::try_from(self.i64()?).or_else(|_| refuse("a number is out of range"))
    }

    pub(super) fn f64(&mut self) -> Result<f64> {
        Ok(f64::from_bits(self.u64()?))
    }

    /// A number of things that take at least 8 bytes each.
    pub(super) fn count(&mut self) -> Result<usize> {
        match usize::try_from(self.u64()?) {
            Ok(count) if count <= self.rest.len() / 8 => Ok(count),
            _ => refuse("a length is wrong"),
        }
    }

    pub(super) fn state<S: State>(&mut self) -> Result<Vec<S>> {
        let size = std::mem::size_of::<S>();
        let count = usize::try_from(self.u64()?).unwrap_or(usize::MAX);
        let bytes = self.take(count.saturating_mul(size))?;
        let number = |chunk: &[u8]| {
            let mut all = [0; 8];
            all[..size].copy_from_slice(chunk);
            S::from_bits(u64::from_le_bytes(all))
        };
        Ok(bytes.chunks_exact(size).map(number).collect())
    }

    pub(super) fn finish(self) -> Result<()> {
        if self.rest.is_empty() {
            return Ok(());
        }
        refuse("there is something behind the end")
    }
}
