//! Space that records are written to: a part of a mapped file, or a slice.
//!
//! A mapped file is memory that other processes read while it is written, and could even write,
//! whatever we forbid them. So no reference to it exists, which would promise the compiler that
//! nobody else changes it: a [`Space`] is an address and a length, its bytes are stored and never
//! loaded. What readers have to see in order is stored last, in one store ([`Space::publish_head`],
//! [`Space::publish_tail`]).

use std::marker::PhantomData;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};

use super::prefetch::prefetch_at;

/// Bytes that can be written for as long as `'a`, by this one owner.
#[derive(Debug)]
pub struct Space<'a> {
    start: *mut u8,
    len: usize,
    owner: PhantomData<&'a mut [u8]>,
}

/// As many of them as are known beforehand.
#[derive(Debug)]
pub struct Chunk<'a, const N: usize> {
    start: *mut u8,
    owner: PhantomData<&'a mut [u8; N]>,
}

/// Bytes that need no alignment.
#[repr(C, packed)]
struct Unaligned<T>(T);

impl<'a> From<&'a mut [u8]> for Space<'a> {
    #[inline]
    fn from(bytes: &'a mut [u8]) -> Space<'a> {
        Space {
            start: bytes.as_mut_ptr(),
            len: bytes.len(),
            owner: PhantomData,
        }
    }
}

impl<'a> From<&'a mut Vec<u8>> for Space<'a> {
    fn from(bytes: &'a mut Vec<u8>) -> Space<'a> {
        bytes.as_mut_slice().into()
    }
}

impl<'a, const N: usize> From<&'a mut [u8; N]> for Space<'a> {
    fn from(bytes: &'a mut [u8; N]) -> Space<'a> {
        bytes.as_mut_slice().into()
    }
}

impl<'a> Space<'a> {
    /// The bytes from `start` on.
    ///
    /// # Safety
    /// They must be mapped and writable for as long as `'a`, and nothing else in this process may
    /// write to them, or have a reference to them, meanwhile.
    #[inline]
    pub(super) unsafe fn new(start: *mut u8, len: usize) -> Space<'a> {
        Space {
            start,
            len,
            owner: PhantomData,
        }
    }

    /// Bytes.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The same space, for a while.
    #[inline]
    pub fn by_ref(&mut self) -> Space<'_> {
        Space { ..*self }
    }

    /// Takes the first `len` bytes away. `None`, and nothing is taken, where there are less.
    #[inline]
    pub fn take_first(&mut self, len: usize) -> Option<Space<'a>> {
        let left = self.len.checked_sub(len)?;
        let first = Space { len, ..*self };
        // In the same memory still, as `len` is no more than it has.
        self.start = self.start.wrapping_add(len);
        self.len = left;
        Some(first)
    }

    /// Takes the last `len` bytes away. `None`, and nothing is taken, where there are less.
    #[inline]
    pub fn take_last(&mut self, len: usize) -> Option<Space<'a>> {
        let left = self.len.checked_sub(len)?;
        let start = self.start.wrapping_add(left);
        self.len = left;
        Some(Space {
            start,
            len,
            owner: PhantomData,
        })
    }

    /// Takes the first `N` bytes away. `None`, and nothing is taken, where there are less.
    #[inline]
    pub fn take_first_chunk<const N: usize>(&mut self) -> Option<Chunk<'a, N>> {
        let start = self.take_first(N)?.start;
        Some(Chunk {
            start,
            owner: PhantomData,
        })
    }

    /// Takes the last `N` bytes away. `None`, and nothing is taken, where there are less.
    #[inline]
    pub fn take_last_chunk<const N: usize>(&mut self) -> Option<Chunk<'a, N>> {
        let start = self.take_last(N)?.start;
        Some(Chunk {
            start,
            owner: PhantomData,
        })
    }

    /// The first `N` bytes; `None` where there are less.
    #[inline]
    pub fn first_chunk<const N: usize>(&mut self) -> Option<Chunk<'_, N>> {
        self.by_ref().take_first_chunk()
    }

    /// The last `N` bytes; `None` where there are less.
    #[inline]
    pub fn last_chunk<const N: usize>(&mut self) -> Option<Chunk<'_, N>> {
        self.by_ref().take_last_chunk()
    }

    /// Stores `bytes`.
    ///
    /// # Panics
    /// If they are not as many as there is space for.
    #[inline]
    pub fn put(self, bytes: &[u8]) {
        assert_eq!(bytes.len(), self.len, "as many bytes as there is space for");
        // SAFETY: the space is writable over its length, as `new` or the slice that it came from
        // vouches; `bytes` is readable over the same, and cannot overlap it: nothing else refers to
        // the space.
        unsafe { std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.start, self.len) }
    }

    /// Makes all of it zero.
    pub fn zero(self) {
        // SAFETY: the space is writable over its length, as `new` or the slice that it came from
        // vouches.
        unsafe { std::ptr::write_bytes(self.start, 0, self.len) }
    }

    /// Asks the processor to have 128 bytes at hand soon, `ahead` bytes behind the start, be they
    /// part of the space or not.
    #[inline]
    pub fn prefetch(&self, ahead: usize) {
        prefetch_at(self.start.wrapping_add(ahead));
    }

    /// Stores the first eight bytes after all stores before, in one store. Where there are less,
    /// nothing.
    #[inline]
    pub fn publish_head(&mut self, head: [u8; 8]) {
        let Some(Chunk { start, .. }) = self.first_chunk::<8>() else {
            return;
        };
        let place = start.cast::<u64>();
        let head = u64::from_ne_bytes(head);
        if place.is_aligned() {
            // SAFETY: eight bytes that are writable and aligned; nothing in this process loads or
            // stores them meanwhile.
            unsafe { AtomicU64::from_ptr(place) }.store(head, Ordering::Release);
        } else {
            publish_unaligned(start.cast(), Unaligned(head));
        }
    }

    /// Stores the last four bytes after all stores before, in one store. Where there are less,
    /// nothing.
    #[inline]
    pub fn publish_tail(&mut self, tail: [u8; 4]) {
        let Some(Chunk { start, .. }) = self.last_chunk::<4>() else {
            return;
        };
        let place = start.cast::<u32>();
        let tail = u32::from_ne_bytes(tail);
        if place.is_aligned() {
            // SAFETY: four bytes that are writable and aligned; nothing in this process loads or
            // stores them meanwhile.
            unsafe { AtomicU32::from_ptr(place) }.store(tail, Ordering::Release);
        } else {
            publish_unaligned(start.cast(), Unaligned(tail));
        }
    }
}

/// No atomic type is for addresses that are not aligned. A volatile store is one instruction where
/// the processor has such a one, and the fence keeps what was stored before in front of it.
///
/// The place has to be writable; this is why it is private.
#[inline]
fn publish_unaligned<T>(place: *mut Unaligned<T>, value: Unaligned<T>) {
    fence(Ordering::Release);
    // SAFETY: callers hand in the start of a chunk as long as `T`; the type is packed, so any
    // address is aligned for it.
    unsafe { place.write_volatile(value) }
}

impl<const N: usize> Chunk<'_, N> {
    /// Stores all of them.
    #[inline]
    pub fn put(&mut self, bytes: [u8; N]) {
        self.put_at::<0, N>(bytes);
    }

    /// Stores `M` of them, from `AT` on.
    #[inline]
    pub fn put_at<const AT: usize, const M: usize>(&mut self, bytes: [u8; M]) {
        const { assert!(AT + M <= N, "inside the chunk") };
        let place = self.start.wrapping_add(AT).cast::<[u8; M]>();
        // SAFETY: the chunk is writable over `N` bytes, as the space vouches that it came from, and
        // this is inside of it; bytes are always aligned.
        unsafe { place.write(bytes) }
    }
}

// SAFETY: a space is used by one owner at a time, as a `&mut [u8]` is, and bound to no thread.
unsafe impl Send for Space<'_> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_there_and_nothing_else() {
        let mut bytes = [0xee; 16];
        let mut space = Space::from(&mut bytes);
        space.take_first(2).unwrap().put(&[1, 2]);
        let mut chunk = space.take_first_chunk::<4>().unwrap();
        chunk.put_at::<1, 2>([3, 4]);
        space.take_last_chunk::<3>().unwrap().put([5; 3]);
        space.last_chunk::<1>().unwrap().put([6]);
        space.first_chunk::<1>().unwrap().put([7]);
        assert_eq!(space.len(), 7);
        assert!(space.take_first(8).is_none());
        assert!(space.take_last_chunk::<8>().is_none());
        assert_eq!(space.len(), 7, "nothing was taken");
        let left = [0xee; 5];
        let expected = [&[1, 2, 0xee, 3, 4, 0xee, 7][..], &left, &[6, 5, 5, 5]].concat();
        assert_eq!(bytes[..], expected);
    }

    #[test]
    fn what_is_made_zero() {
        let mut bytes = [0xee; 8];
        let mut space = Space::from(&mut bytes);
        space.take_first(3);
        space.take_last(1);
        space.zero();
        assert_eq!(bytes, [0xee, 0xee, 0xee, 0, 0, 0, 0, 0xee]);
    }

    #[test]
    #[should_panic(expected = "as many bytes")]
    fn more_than_there_is_space_for() {
        Space::from(&mut [0; 4]).put(&[0; 5]);
    }

    #[test]
    fn heads_and_tails_at_any_address() {
        for at in 0..8 {
            let mut bytes = vec![0; 32];
            let mut space = Space::from(&mut bytes);
            space.take_first(at);
            let mut space = space.take_first(12).unwrap();
            space.publish_head([1, 2, 3, 4, 5, 6, 7, 8]);
            space.publish_tail([9, 10, 11, 12]);
            assert_eq!(bytes[at..at + 12], [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]);
        }
        let mut short = [0; 3];
        let mut space = Space::from(&mut short);
        space.publish_head([1; 8]);
        space.publish_tail([1; 4]);
        assert_eq!(short, [0; 3]);
    }
}
