// SPDX-License-Identifier: Apache-2.0
use std::alloc::{GlobalAlloc, Layout};
use std::mem::{align_of, size_of};
use std::os::raw::c_void;
use std::ptr::null_mut;

use steepest_sys as sys;

/// Memory of your own for contexts and their scratch memory: anything that can be a global
/// allocator, [`std::alloc::System`] for instance, or one that counts, or takes large pages.
///
/// ```
/// use std::alloc::System;
/// let context = steepest::Context::builder().allocator(System).build()?;
/// # Ok::<(), steepest::Error>(())
/// ```
pub trait Allocator: GlobalAlloc + Send + Sync + 'static {}

impl<T: GlobalAlloc + Send + Sync + 'static> Allocator for T {}

/// What `user` of the C struct points to.
pub(crate) struct Adapter(Box<dyn Allocator>);

impl Adapter {
    pub(crate) fn new(allocator: impl Allocator) -> Box<Adapter> {
        Box::new(Adapter(Box::new(allocator)))
    }

    pub(crate) fn interface(&self) -> sys::steepest_allocator {
        sys::steepest_allocator {
            user: (self as *const Adapter as *mut Adapter).cast(),
            allocate: Some(allocate),
            release: Some(release),
            ..sys::STEEPEST_ALLOCATOR_INIT
        }
    }
}

/// The library gives memory back without its alignment, which Rust asks for: it is kept in the
/// `alignment` bytes before the memory (at least 16), right in front of it.
fn layout(alignment: usize, bytes: usize) -> Option<(Layout, usize)> {
    let alignment = alignment.max(align_of::<usize>());
    let before = alignment.max(2 * size_of::<usize>());
    let layout = Layout::from_size_align(bytes.checked_add(before)?, alignment).ok()?;
    Some((layout, before))
}

unsafe extern "C" fn allocate(user: *mut c_void, alignment: usize, bytes: usize) -> *mut c_void {
    let (layout, before) = match layout(alignment, bytes) {
        Some(layout) => layout,
        None => return null_mut(),
    };
    let start = (*user.cast::<Adapter>()).0.alloc(layout);
    if start.is_null() {
        return null_mut();
    }
    let memory = start.add(before);
    memory.cast::<usize>().sub(1).write(alignment);
    memory.cast()
}

unsafe extern "C" fn release(user: *mut c_void, memory: *mut c_void, bytes: usize) {
    if memory.is_null() {
        return;
    }
    let alignment = memory.cast::<usize>().sub(1).read();
    if let Some((layout, before)) = layout(alignment, bytes) {
        (*user.cast::<Adapter>()).0.dealloc(memory.cast::<u8>().sub(before), layout);
    }
}
