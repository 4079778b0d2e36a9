//! The evaluator's arena, and the pointers into it. One of the crate's two modules with `unsafe`.
//!
//! Values live in bump-allocated chunks that are freed together when the evaluator goes away; nothing is
//! collected in between. Why: an evaluation for a build is short, its values are small (16 bytes) and most of
//! what it makes stays reachable to the end; Boehm's collector in C++ Nix wins back little on such work.
//! The costs are known and met where they hurt: strings and lists that grow by concatenation extend in place
//! (see [`Heap::concat_bytes`]), environments that nothing captured are used again, `//` is layered.
//! A collector can come later without a new layout: every root is on the VM's explicit stacks, and each
//! pointer's type is told by the tag of the value that holds it.
//!
//! # Why this is sound
//! A [`Gc`] or slice points into a chunk of the one [`Heap`] of its evaluator. Chunks never move and are freed
//! only with the heap. These pointers never leave the crate: the public interface hands out numbered handles, so
//! no pointer outlives its heap. Only types without destructors are stored, and shared mutability is by
//! `Cell`, on one thread (`Gc` is neither `Send` nor `Sync`).

use crate::limits;
use std::alloc::{Layout, handle_alloc_error};
use std::ptr::NonNull;

/// A pointer to a `T` in the arena.
#[repr(transparent)]
pub(crate) struct Gc<T>(NonNull<T>);

impl<T> Clone for Gc<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Gc<T> {}

impl<T> PartialEq for Gc<T> {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl<T> Eq for Gc<T> {}

impl<T> std::ops::Deref for Gc<T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: points to an initialised T in a chunk that lives as long as the evaluator (see the module).
        unsafe { self.0.as_ref() }
    }
}

impl<T> Gc<T> {
    pub fn address(self) -> usize {
        self.0.as_ptr() as usize
    }

    /// The `length` values of type `U` that were allocated right behind this header.
    ///
    /// # Safety
    /// The object must come from [`Heap::with_tail`] with the same `U` and at least `length` items.
    #[inline(always)]
    pub unsafe fn tail<'a, U>(self, length: usize) -> &'a [U] {
        // SAFETY: by the contract above the items follow the header in the same allocation.
        unsafe { std::slice::from_raw_parts(self.0.as_ptr().add(1).cast::<U>(), length) }
    }
}

/// `length` items at `start` in the arena. Kept apart so that a value can hold both in 16 bytes.
#[inline(always)]
pub(crate) fn slice<'a, T>(start: Gc<T>, length: u32) -> &'a [T] {
    // SAFETY: starts and lengths are only ever made together, by the allocation functions below; parts of a
    // slice are made by `subslice`, which checks its bounds.
    unsafe { std::slice::from_raw_parts(start.0.as_ptr(), length as usize) }
}

/// The part of an arena slice that begins at item `from`.
pub(crate) fn subslice<T>(start: Gc<T>, length: u32, from: u32) -> Gc<T> {
    assert!(from <= length, "a part lies within its whole");
    // SAFETY: within or one past the end of the same allocation.
    Gc(unsafe { start.0.add(from as usize) })
}

struct Chunk {
    start: NonNull<u8>,
    size: usize,
}

/// Room behind the last item of a long string or list, keyed by the address of its end.
type Room = rustc_hash::FxHashMap<usize, usize>;

pub(crate) struct Heap {
    chunks: Vec<Chunk>,
    next: usize,
    end: usize,
    room: Room,
    /// Places of calls with one and with two arguments that were made, to be used again.
    made_calls: [Vec<NonNull<u8>>; 2],
    /// Bytes handed out so far.
    pub allocated: usize,
}

const ALIGN: usize = 16;

impl Heap {
    pub fn new() -> Self {
        Heap {
            chunks: Vec::new(),
            next: 0,
            end: 0,
            room: Room::default(),
            made_calls: Default::default(),
            allocated: 0,
        }
    }

    #[inline(always)]
    fn raw(&mut self, size: usize, align: usize) -> NonNull<u8> {
        let start = (self.next + align - 1) & !(align - 1);
        if start + size > self.end || self.next == 0 {
            return self.raw_slow(size);
        }
        self.next = start + size;
        self.allocated += size;
        // SAFETY: `start` lies inside the current chunk, so it is not null.
        unsafe { NonNull::new_unchecked(start as *mut u8) }
    }

    #[cold]
    fn raw_slow(&mut self, size: usize) -> NonNull<u8> {
        let grown = limits::CHUNK_BYTES_MIN << self.chunks.len().min(6);
        let wanted = grown.min(limits::CHUNK_BYTES_MAX);
        self.allocated += size;
        if size > wanted / 4 {
            // A large object gets a chunk of its own; the current one goes on being filled.
            return self.chunk(size.max(1));
        }
        let start = self.chunk(wanted);
        self.next = start.as_ptr() as usize + size;
        self.end = start.as_ptr() as usize + wanted;
        start
    }

    /// From the kernel, not from the allocator: freshly mapped memory costs nothing until it is touched, goes back
    /// when the heap does, and is not made of huge pages, which are cleared whole for the few objects of the last one.
    fn chunk(&mut self, size: usize) -> NonNull<u8> {
        use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
        let size = size.next_multiple_of(limits::PAGE_BYTES);
        let layout = Layout::from_size_align(size, ALIGN).expect("a chunk's size fits the address space");
        // SAFETY: a new mapping at a place of the kernel's choice, which overlaps nothing.
        let mapped = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                size,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        };
        let Some(start) = mapped.ok().and_then(|start| NonNull::new(start.cast::<u8>())) else {
            handle_alloc_error(layout)
        };
        // SAFETY: exactly the mapping made above. Where the kernel knows no huge pages, nothing has to be refused.
        let _ = unsafe { madvise(start.as_ptr().cast(), size, Advice::LinuxNoHugepage) };
        self.chunks.push(Chunk { start, size });
        start
    }

    #[inline(always)]
    pub fn alloc<T: Copy>(&mut self, value: T) -> Gc<T> {
        self.alloc_any(value)
    }

    /// For `Cell`s of `Copy` types, which are not `Copy` themselves but need no destructor either.
    #[inline(always)]
    pub fn alloc_any<T>(&mut self, value: T) -> Gc<T> {
        const { assert!(!std::mem::needs_drop::<T>() && std::mem::align_of::<T>() <= ALIGN) };
        let place = self.raw(std::mem::size_of::<T>(), std::mem::align_of::<T>()).cast::<T>();
        // SAFETY: freshly allocated with T's size and alignment.
        unsafe { place.write(value) };
        Gc(place)
    }

    /// A header followed by items; read them back with [`Gc::tail`].
    #[inline(always)]
    pub fn with_tail<T, U>(&mut self, header: T, items: impl ExactSizeIterator<Item = U>) -> Gc<T> {
        const {
            assert!(!std::mem::needs_drop::<T>() && !std::mem::needs_drop::<U>());
            assert!(std::mem::size_of::<T>().is_multiple_of(std::mem::align_of::<U>()));
            assert!(std::mem::align_of::<T>() <= ALIGN && std::mem::align_of::<U>() <= ALIGN);
        };
        let count = items.len();
        let align = std::mem::align_of::<T>().max(std::mem::align_of::<U>());
        let size = std::mem::size_of::<T>() + std::mem::size_of::<U>() * count;
        let place = self.raw(size, align).cast::<T>();
        // SAFETY: header and `count` items fit the allocation; the iterator is cut at `count`, and one that
        // ends early is caught before anyone can read what was not written.
        unsafe {
            place.write(header);
            let tail = place.as_ptr().add(1).cast::<U>();
            let mut written = 0;
            for item in items.take(count) {
                tail.add(written).write(item);
                written += 1;
            }
            assert_eq!(written, count, "an exact iterator gives what it promised");
        }
        Gc(place)
    }

    pub fn copy_slice<T: Copy>(&mut self, items: &[T]) -> Gc<T> {
        const { assert!(std::mem::align_of::<T>() <= ALIGN) };
        let place = self.raw(std::mem::size_of_val(items), std::mem::align_of::<T>()).cast::<T>();
        // SAFETY: freshly allocated for exactly these items, so it cannot overlap them.
        unsafe { std::ptr::copy_nonoverlapping(items.as_ptr(), place.as_ptr(), items.len()) };
        Gc(place)
    }

    /// Pieces in a row, `total` bytes together.
    pub fn join<'a>(&mut self, total: usize, pieces: impl Iterator<Item = &'a [u8]>) -> Gc<u8> {
        let place = self.raw(total, 1);
        let mut written = 0;
        for piece in pieces {
            assert!(piece.len() <= total - written, "the pieces were counted");
            // SAFETY: `total` bytes were just allocated, and the piece ends within them.
            unsafe {
                std::ptr::copy_nonoverlapping(piece.as_ptr(), place.as_ptr().add(written), piece.len())
            };
            written += piece.len();
        }
        assert_eq!(written, total, "the pieces were counted");
        Gc(place)
    }

    /// A copy of a function and its arguments, for a thunk that calls it later.
    pub fn waiting_call<T: Copy, const N: usize>(&mut self, call: [T; N]) -> Gc<T> {
        const {
            assert!(
                (N == 2 || N == 3) && std::mem::size_of::<T>() == 16 && std::mem::align_of::<T>() <= ALIGN
            )
        };
        match self.made_calls[N - 2].pop() {
            Some(place) => {
                let place = place.cast::<T>();
                // SAFETY: an allocation of this size (every `T` has 16 bytes), given back by its only holder.
                unsafe { place.cast::<[T; N]>().write(call) };
                Gc(place)
            }
            None => self.copy_slice(&call),
        }
    }

    /// Takes back what [`Heap::waiting_call`] gave; the thunk that held it must hold something else by now.
    pub fn call_made<T: Copy>(&mut self, start: Gc<T>, count: u32) {
        if let Some(places) = self.made_calls.get_mut(count as usize - 2) {
            places.push(start.0.cast());
        }
    }

    /// `left` followed by `right`; when `left` is the newest use of a block with room behind it, `right` is
    /// written there and `left` is not copied, so that building a text or list piece by piece is linear.
    pub fn concat<T: Copy>(&mut self, left: (Gc<T>, u32), right: &[T], grow_from: usize) -> Gc<T> {
        let item = std::mem::size_of::<T>();
        let (start, length) = (left.0, left.1 as usize);
        let total = length + right.len();
        if total < grow_from {
            let place = self.raw(total * item, std::mem::align_of::<T>()).cast::<T>();
            // SAFETY: room for both parts was just allocated, so neither overlaps it.
            unsafe {
                std::ptr::copy_nonoverlapping(start.0.as_ptr(), place.as_ptr(), length);
                std::ptr::copy_nonoverlapping(right.as_ptr(), place.as_ptr().add(length), right.len());
            }
            return Gc(place);
        }
        let end = start.address() + length * item;
        let (place, limit) = match self.room.remove(&end) {
            Some(limit) if limit - end >= std::mem::size_of_val(right) && length > 0 => (start.0, limit),
            _ => {
                let capacity = total * 2;
                let place = self.raw(capacity * item, std::mem::align_of::<T>().max(8)).cast::<T>();
                // SAFETY: `capacity` is at least `length`, freshly allocated.
                unsafe { std::ptr::copy_nonoverlapping(start.0.as_ptr(), place.as_ptr(), length) };
                (place, place.as_ptr() as usize + capacity * item)
            }
        };
        // SAFETY: the room from `length` on was never handed out: its entry is taken from the map above, or it
        // is freshly allocated, so `right` cannot overlap it and no slice reaches it yet.
        unsafe { std::ptr::copy_nonoverlapping(right.as_ptr(), place.as_ptr().add(length), right.len()) };
        self.room.insert(place.as_ptr() as usize + total * item, limit);
        Gc(place)
    }
}

impl Drop for Heap {
    fn drop(&mut self) {
        for chunk in &self.chunks {
            // SAFETY: mapped with this size in `chunk`, and nothing that points into it is left. Failing would only
            // keep the memory.
            let _ = unsafe { rustix::mm::munmap(chunk.start.as_ptr().cast(), chunk.size) };
        }
    }
}

/// A `Gc` to a static item, for empty slices and the like.
pub(crate) fn static_gc<T>(item: &'static T) -> Gc<T> {
    Gc(NonNull::from(item))
}

/// The bytes of an interned name. The interner never drops a name and lives as long as the heap.
pub(crate) fn name_gc(name: &[u8]) -> Gc<u8> {
    Gc(NonNull::from(name).cast())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn concatenation_extends_in_place_and_never_writes_shared_room() {
        let mut heap = Heap::new();
        let first = heap.copy_slice(&[b'a'; 300]);
        let second = heap.concat((first, 300), b"b", 256);
        let third = heap.concat((second, 301), b"c", 256);
        assert_eq!(third.address(), second.address());
        let other = heap.concat((second, 301), b"d", 256);
        assert_ne!(other.address(), second.address());
        assert_eq!(&slice(third, 302)[299..], b"abc");
        assert_eq!(&slice(other, 302)[299..], b"abd");
    }

    #[test]
    fn chunks_hold_small_and_large() {
        let mut heap = Heap::new();
        let large = heap.copy_slice(&vec![7u64; 1 << 20]);
        let small: Vec<_> = (0..100_000u64).map(|n| heap.alloc(n)).collect();
        assert!(slice(large, 1 << 20).iter().all(|&item| item == 7));
        assert!(small.iter().enumerate().all(|(n, gc)| **gc == n as u64));
    }
}
