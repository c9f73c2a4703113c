// SPDX-License-Identifier: Apache-2.0
use std::mem::MaybeUninit;
use std::ptr::null;

use steepest_sys as sys;

/// Scratch memory for one call: the context's ([`Workspace::pooled`]), or bytes of your own, as
/// many as [`msign_workspace_size`](crate::msign_workspace_size) or
/// [`muon_workspace_size`](crate::muon_workspace_size) says. Their content means nothing, before
/// and after.
///
/// ```
/// use steepest::{msign_workspace_size, Context, MsignConfig, Workspace};
///
/// let (context, config) = (Context::default(), MsignConfig::new());
/// let bytes = msign_workspace_size::<f32>(&context, &config, 64, 128, 1)?;
/// let mut memory = Vec::with_capacity(bytes);
/// let workspace = Workspace::from_uninit(memory.spare_capacity_mut());
/// # drop(workspace);
/// # Ok::<(), steepest::Error>(())
/// ```
#[derive(Debug, Default)]
pub struct Workspace<'a>(Option<&'a mut [MaybeUninit<u8>]>);

impl<'a> Workspace<'a> {
    /// The context's own.
    pub fn pooled() -> Self {
        Workspace(None)
    }

    pub fn new(memory: &'a mut [u8]) -> Self {
        let (data, length) = (memory.as_mut_ptr().cast(), memory.len());
        // The borrow ends no sooner than the view, whose bytes are only written by the library.
        Workspace(Some(unsafe { std::slice::from_raw_parts_mut(data, length) }))
    }

    pub fn from_uninit(memory: &'a mut [MaybeUninit<u8>]) -> Self {
        Workspace(Some(memory))
    }

    /// The C struct, valid as long as the borrow of it.
    pub(crate) fn raw(&mut self) -> Option<sys::steepest_workspace> {
        self.0.as_mut().map(|memory| sys::steepest_workspace {
            data: memory.as_mut_ptr().cast(),
            bytes: memory.len(),
            ..sys::STEEPEST_WORKSPACE_INIT
        })
    }
}

/// Null for `None`.
pub(crate) fn pointer(raw: &Option<sys::steepest_workspace>) -> *const sys::steepest_workspace {
    raw.as_ref().map_or(null(), |raw| raw)
}
