//! The evaluator's memory, and the pointers into it. One of the crate's two modules with `unsafe`.
//!
//! Values live in one reserved range of addresses and never move. They are allocated by bumping a pointer: first
//! through fresh memory, and after a collection through the holes it found. What is reachable is found by
//! [`crate::collect`], which knows the types and the roots; here is only the memory, and the map of what was found,
//! one bit for eight bytes. Strings and lists that grow by concatenation extend in place (see [`Heap::concat`]).
//!
//! # Why this is sound
//! A [`Gc`] or slice points into the one [`Heap`] of its evaluator, whose range stays mapped as long as the heap
//! lives. These pointers never leave the crate: the public interface hands out numbered handles, so no pointer
//! outlives its heap. Only types without destructors are stored, and shared mutability is by `Cell`, on one thread
//! (`Gc` is neither `Send` nor `Sync`). Memory is used again only if a collection did not reach it. Collections
//! happen between two instructions of the outermost run, where all pointers that will ever be followed again
//! lie in the machine's own fields, in its frames, or in a machine that `Native::trace` tells of: a
//! state machine that keeps a pointer must name it there.

use crate::limits;
use std::alloc::{Layout, handle_alloc_error};
use std::collections::VecDeque;
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

/// Room behind the last item of a long string or list, keyed by the address of its end.
type Room = rustc_hash::FxHashMap<usize, usize>;

pub(crate) struct Heap {
    base: NonNull<u8>,
    reserved: usize,
    /// Where the part that can be written ends, and where memory that was ever handed out does.
    writable: usize,
    top: usize,
    /// The hole or fresh piece that is being filled.
    next: usize,
    end: usize,
    /// What the last collection reached, and what was taken from the wide holes since.
    map: Map,
    /// Up to where holes were looked for, and where memory is fresh since the last collection.
    cursor: usize,
    swept: usize,
    /// Holes large objects fit in, in order.
    wide: VecDeque<(usize, usize)>,
    room: Room,
    /// Places of calls with one and with two arguments that were made, to be used again.
    made_calls: [Vec<NonNull<u8>>; 2],
    /// Bytes of all holes and pieces handed out so far, and at how many of them to collect.
    pub allocated: usize,
    pub collect_at: usize,
}

const ALIGN: usize = 16;

/// One bit for each eight bytes of the heap.
#[derive(Default)]
pub(crate) struct Map {
    base: usize,
    bytes: usize,
    words: Vec<u64>,
}

impl Map {
    /// Whether this address is in the heap at all: names and constants of the program are not.
    #[inline(always)]
    fn offset(&self, address: usize) -> Option<usize> {
        let offset = address.wrapping_sub(self.base);
        (offset < self.bytes).then_some(offset)
    }

    /// Marks the object that begins here; whether it was not marked before. Outside of the heap nothing is.
    #[inline(always)]
    pub fn visit(&mut self, address: usize, size: usize) -> bool {
        let Some(offset) = self.offset(address) else { return false };
        let (word, bit) = (offset >> 9, 1 << (offset >> 3 & 63));
        if self.words[word] & bit != 0 {
            return false;
        }
        self.mark(offset, size);
        true
    }

    /// Marks bytes without asking.
    pub fn keep(&mut self, address: usize, size: usize) {
        if let Some(offset) = self.offset(address)
            && size > 0
        {
            self.mark(offset, size);
        }
    }

    #[inline(always)]
    fn mark(&mut self, offset: usize, size: usize) {
        let (first, last) = (offset >> 3, (offset + size - 1) >> 3);
        let (low, high) = (u64::MAX << (first & 63), u64::MAX >> (63 - (last & 63)));
        let (from, to) = (first >> 6, last >> 6);
        if from == to {
            self.words[from] |= low & high;
            return;
        }
        self.words[from] |= low;
        self.words[from + 1..to].fill(u64::MAX);
        self.words[to] |= high;
    }

    /// Whether all of a range is marked already.
    pub fn is_whole(&self, address: usize, size: usize) -> bool {
        let Some(offset) = self.offset(address) else { return true };
        let (first, last) = (offset >> 3, (offset + size - 1) >> 3);
        let (low, high) = (u64::MAX << (first & 63), u64::MAX >> (63 - (last & 63)));
        let (from, to) = (first >> 6, last >> 6);
        if from == to {
            return self.words[from] & low & high == low & high;
        }
        self.words[from] & low == low
            && self.words[from + 1..to].iter().all(|&word| word == u64::MAX)
            && self.words[to] & high == high
    }

    /// The first run of unmarked bytes at or behind an address, up to `limit`.
    fn hole(&self, from: usize, limit: usize) -> Option<(usize, usize)> {
        let last = (limit - self.base) >> 3;
        let start = self.find((from - self.base) >> 3, last, false)?;
        let end = self.find(start, last, true).unwrap_or(last);
        Some((self.base + (start << 3), self.base + (end << 3)))
    }

    /// The first granule below `limit` that is marked, or is not.
    #[inline]
    fn find(&self, from: usize, limit: usize, marked: bool) -> Option<usize> {
        if from >= limit {
            return None;
        }
        let flip = if marked { 0 } else { u64::MAX };
        let mut index = from >> 6;
        let mut word = (self.words[index] ^ flip) & (u64::MAX << (from & 63));
        while word == 0 {
            index += 1;
            if index << 6 >= limit {
                return None;
            }
            word = self.words[index] ^ flip;
        }
        let found = (index << 6) + word.trailing_zeros() as usize;
        (found < limit).then_some(found)
    }

    fn live_bytes(&self) -> usize {
        self.words.iter().map(|word| word.count_ones() as usize * 8).sum()
    }
}

impl Heap {
    pub fn new() -> Self {
        let (base, reserved) = reserve();
        let start = base.as_ptr() as usize;
        Heap {
            base,
            reserved,
            writable: start,
            top: start,
            next: 0,
            end: 0,
            map: Map::default(),
            cursor: start,
            swept: start,
            wide: VecDeque::new(),
            room: Room::default(),
            made_calls: Default::default(),
            allocated: 0,
            collect_at: limits::COLLECT_FROM_BYTES,
        }
    }

    #[inline(always)]
    fn raw(&mut self, size: usize, align: usize) -> NonNull<u8> {
        let start = (self.next + align - 1) & !(align - 1);
        if start + size > self.end || self.next == 0 {
            return self.raw_slow(size, align);
        }
        self.next = start + size;
        // SAFETY: `start` lies inside the current piece, so it is not null.
        unsafe { NonNull::new_unchecked(start as *mut u8) }
    }

    #[cold]
    fn raw_slow(&mut self, size: usize, align: usize) -> NonNull<u8> {
        if size > limits::LARGE_BYTES {
            let start = self.large(size.next_multiple_of(ALIGN));
            // SAFETY: inside the heap's range, so not null.
            return unsafe { NonNull::new_unchecked(start as *mut u8) };
        }
        while self.cursor < self.swept {
            let Some((start, end)) = self.map.hole(self.cursor, self.swept) else { break };
            // Piece by piece, so that what is counted as handed out is soon used.
            let end = end.min(start + limits::PIECE_BYTES);
            self.cursor = end;
            if end - start >= limits::HOLE_BYTES_MIN.max(size + ALIGN) {
                self.narrow(end);
                return self.fill(start, end, size, align);
            }
        }
        self.cursor = self.swept;
        let piece = limits::PIECE_BYTES;
        let start = self.fresh(piece);
        populate(start, piece);
        // Fresh pieces mostly lie behind each other.
        let from = if self.end == start && self.next != 0 { self.next } else { start };
        self.fill(from, start + piece, size, align)
    }

    /// Keeps large objects off what lies before this.
    fn narrow(&mut self, from: usize) {
        while let Some(hole) = self.wide.front_mut()
            && hole.0 < from
        {
            if hole.1 > from {
                hole.0 = from;
                return;
            }
            self.wide.pop_front();
        }
    }

    fn fill(&mut self, start: usize, end: usize, size: usize, align: usize) -> NonNull<u8> {
        self.allocated += end - start;
        self.next = start;
        self.end = end;
        debug_assert!(size + align <= end - start + 1);
        self.raw(size, align)
    }

    /// Room for a large object: in the last hole that is wide enough, else fresh.
    fn large(&mut self, size: usize) -> usize {
        self.allocated += size;
        // The last hole mostly fits; what is too small for objects like this one is left to small ones.
        while let Some(&(start, end)) = self.wide.back() {
            if end - start >= size {
                let place = (end - size) & !(ALIGN - 1);
                if place >= start {
                    if let Some(last) = self.wide.back_mut() {
                        last.1 = place;
                    }
                    self.map.keep(place, end - place);
                    return place;
                }
            }
            if size > limits::WIDE_BYTES_MIN {
                break;
            }
            self.wide.pop_back();
        }
        self.fresh(size)
    }

    /// Memory that was never handed out.
    fn fresh(&mut self, size: usize) -> usize {
        use rustix::mm::{MprotectFlags, mprotect};
        let start = self.top;
        let limit = self.base.as_ptr() as usize + self.reserved;
        let layout = Layout::from_size_align(size, ALIGN).expect("sizes of objects fit the address space");
        if size > limit - start {
            handle_alloc_error(layout);
        }
        if start + size > self.writable {
            let step = (start + size - self.writable).next_multiple_of(limits::WRITABLE_STEP_BYTES);
            let step = step.min(limit - self.writable);
            let flags = MprotectFlags::READ | MprotectFlags::WRITE;
            // SAFETY: a part of the range reserved for this heap, which nothing points into yet.
            if unsafe { mprotect(self.writable as *mut _, step, flags) }.is_err() {
                handle_alloc_error(layout);
            }
            self.writable += step;
        }
        self.top += size;
        start
    }

    /// An empty map of all that was handed out, for a collection to fill.
    pub fn begin_collection(&mut self) -> Map {
        let mut map = std::mem::take(&mut self.map);
        map.base = self.base.as_ptr() as usize;
        map.bytes = self.top - map.base;
        map.words.clear();
        map.words.resize(map.bytes.div_ceil(512) + 1, 0);
        map
    }

    /// Everything the map has no mark for is used again from here on. How many bytes are not.
    pub fn end_collection(&mut self, map: Map, always: bool) -> usize {
        self.map = map;
        self.room.clear();
        self.made_calls.iter_mut().for_each(Vec::clear);
        self.wide.clear();
        (self.next, self.end) = (0, 0);
        self.cursor = self.map.base;
        self.swept = self.top;
        let mut from = self.map.base;
        while let Some((start, end)) = self.map.hole(from, self.swept) {
            from = end;
            if end - start >= limits::WIDE_BYTES_MIN {
                self.wide.push_back((start, end));
            }
            if always {
                // SAFETY: a hole lies within the writable part, and nothing reachable is in it. The pattern makes a
                // pointer that should have been traced a wild one.
                unsafe { std::ptr::write_bytes(start as *mut u8, 0xa5, end - start) };
            }
        }
        let live = self.map.live_bytes();
        let full = live > (self.top - self.map.base) / 4 * 3;
        let growth = if full { limits::COLLECT_GROWTH_PERCENT_FULL } else { limits::COLLECT_GROWTH_PERCENT };
        let more = (live / 100 * growth).max(limits::COLLECT_FROM_BYTES);
        self.collect_at = self.allocated + more;
        live
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
        // SAFETY: the range reserved in `reserve`, and nothing that points into it is left. Failing would only keep
        // the memory.
        let _ = unsafe { rustix::mm::munmap(self.base.as_ptr().cast(), self.reserved) };
    }
}

/// Has the pages of a piece made at once: all of it is about to be filled, and a fault for each page costs more. Kernels
/// before 5.14 refuse, and make them one by one.
fn populate(start: usize, size: usize) {
    use rustix::mm::{Advice, madvise};
    const PAGE_BYTES: usize = 4096;
    let first = start & !(PAGE_BYTES - 1);
    // SAFETY: a writable part of the reserved range; making its pages changes no contents.
    let _ = unsafe { madvise(first as *mut _, start + size - first, Advice::LinuxPopulateWrite) };
}

/// A range of addresses for a heap, as large as may be had. From the kernel, not from the allocator: it costs nothing
/// until it is touched, and is not made of huge pages, which are cleared whole for the few objects of the last one.
fn reserve() -> (NonNull<u8>, usize) {
    use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap_anonymous};
    let mut size = limits::HEAP_BYTES_MAX;
    loop {
        // SAFETY: a new mapping at a place of the kernel's choice, which overlaps nothing.
        let mapped = unsafe {
            mmap_anonymous(
                std::ptr::null_mut(),
                size,
                ProtFlags::empty(),
                MapFlags::PRIVATE | MapFlags::NORESERVE,
            )
        };
        if let Some(start) = mapped.ok().and_then(|start| NonNull::new(start.cast::<u8>())) {
            // SAFETY: exactly the mapping made above. A kernel without huge pages has nothing to refuse.
            let _ = unsafe { madvise(start.as_ptr().cast(), size, Advice::LinuxNoHugepage) };
            return (start, size);
        }
        if size <= limits::HEAP_BYTES_MIN {
            let layout = Layout::from_size_align(size, ALIGN).expect("a power of two");
            handle_alloc_error(layout);
        }
        // An address space with a limit (`ulimit -v`) has less to give.
        size /= 2;
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
