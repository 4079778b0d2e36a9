//! The list of memory areas for the kernel, made from the firmware's map and from what the loader itself took.
//! Needs no allocator, because it runs after the firmware's has ended.

use core::fmt;

use crate::limits::{AREAS_HANDED_MAX, AREAS_MAX, BLOCK_BYTES};
use crate::protocol::{AREA_ARRAY_BYTES, AREA_BYTES, AreaKind, MemoryArea};

const PAGE: u64 = BLOCK_BYTES as u64;

/// More ranges than the protocol's array holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyAreas;

impl fmt::Display for TooManyAreas {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "the firmware's memory map needs more than {AREAS_MAX} areas")
    }
}

/// Areas that never overlap: a later one cuts its place out of the earlier ones.
pub struct AreaMap {
    areas: [MemoryArea; AREAS_MAX],
    length: usize,
}

impl Default for AreaMap {
    fn default() -> Self {
        AreaMap { areas: [MemoryArea::NULL; AREAS_MAX], length: 0 }
    }
}

impl AreaMap {
    /// Areas of a firmware's map, then the loader's own. Free memory comes first, so that what is reserved wins where
    /// a firmware names memory twice.
    pub fn build(
        &mut self,
        firmware: impl Iterator<Item = MemoryArea> + Clone,
        taken: impl Iterator<Item = MemoryArea>,
    ) -> Result<(), TooManyAreas> {
        self.length = 0;
        for area in firmware.clone().filter(|area| area.kind == AreaKind::Free) {
            self.insert(area)?;
        }
        for area in firmware.filter(|area| area.kind != AreaKind::Free) {
            self.insert(area)?;
        }
        for area in taken {
            self.insert(area)?;
        }
        self.finish();
        Ok(())
    }

    pub fn areas(&self) -> &[MemoryArea] {
        &self.areas[..self.length]
    }

    /// Writes the protocol's array; the rest of it stays null.
    pub fn write(&self, array: &mut [u8]) {
        array[..AREA_ARRAY_BYTES].fill(0);
        for (record, area) in array.chunks_exact_mut(AREA_BYTES).zip(self.areas()) {
            record.copy_from_slice(&area.to_bytes());
        }
    }

    /// Adds whole pages: free memory loses its partial pages, all other kinds gain them.
    fn insert(&mut self, area: MemoryArea) -> Result<(), TooManyAreas> {
        let (start, end) = match area.kind {
            AreaKind::Null => return Ok(()),
            AreaKind::Free => {
                (area.base.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX), area.end() / PAGE * PAGE)
            }
            _ => (
                area.base / PAGE * PAGE,
                area.end().checked_next_multiple_of(PAGE).unwrap_or(u64::MAX / PAGE * PAGE),
            ),
        };
        if start >= end {
            return Ok(());
        }
        self.cut(start, end)?;
        // Firmware lists neighbours one after the other: joining them at once keeps the list short.
        if let Some(last) = self.areas[..self.length]
            .iter_mut()
            .rev()
            .find(|last| last.kind == area.kind && last.end() == start)
        {
            last.size += end - start;
            return Ok(());
        }
        self.push(MemoryArea { base: start, size: end - start, kind: area.kind })
    }

    fn push(&mut self, area: MemoryArea) -> Result<(), TooManyAreas> {
        *self.areas.get_mut(self.length).ok_or(TooManyAreas)? = area;
        self.length += 1;
        Ok(())
    }

    /// Removes `start..end` from every area.
    fn cut(&mut self, start: u64, end: u64) -> Result<(), TooManyAreas> {
        let mut index = 0;
        while index < self.length {
            let area = self.areas[index];
            if area.base >= end || area.end() <= start {
                index += 1;
                continue;
            }
            if area.base < start {
                self.areas[index].size = start - area.base;
                if area.end() > end {
                    self.push(MemoryArea { base: end, size: area.end() - end, kind: area.kind })?;
                }
                index += 1;
            } else if area.end() > end {
                self.areas[index] = MemoryArea { base: end, size: area.end() - end, kind: area.kind };
                index += 1;
            } else {
                self.length -= 1;
                self.areas[index] = self.areas[self.length];
            }
        }
        Ok(())
    }

    /// Sorts, joins neighbours and, where the list is longer than old kernels take, leaves out reserved ranges (which
    /// overlap no free one any more, so that nothing depends on them).
    fn finish(&mut self) {
        self.areas[..self.length].sort_unstable_by_key(|area| area.base);
        let mut kept = 0;
        for index in 0..self.length {
            let area = self.areas[index];
            if kept > 0 && self.areas[kept - 1].kind == area.kind && self.areas[kept - 1].end() == area.base {
                self.areas[kept - 1].size += area.size;
            } else {
                self.areas[kept] = area;
                kept += 1;
            }
        }
        self.length = kept;
        let mut surplus = kept.saturating_sub(AREAS_HANDED_MAX);
        let mut kept = 0;
        for index in 0..self.length {
            let area = self.areas[index];
            if surplus > 0 && area.kind == AreaKind::Reserved {
                surplus -= 1;
            } else {
                self.areas[kept] = area;
                kept += 1;
            }
        }
        self.length = kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::boxed::Box;
    use std::vec::Vec;

    fn area(base: u64, size: u64, kind: AreaKind) -> MemoryArea {
        MemoryArea { base, size, kind }
    }

    fn built(firmware: &[MemoryArea], taken: &[MemoryArea]) -> Vec<MemoryArea> {
        let mut map = Box::<AreaMap>::default();
        map.build(firmware.iter().copied(), taken.iter().copied()).expect("few areas");
        map.areas().to_vec()
    }

    #[test]
    fn taken_memory_is_cut_out_of_free_memory() {
        use AreaKind::*;
        let cases: &[(&str, &[MemoryArea], &[MemoryArea], &[MemoryArea])] = &[
            (
                "neighbours join",
                &[area(0, 0x1000, Free), area(0x1000, 0x1000, Free)],
                &[],
                &[area(0, 0x2000, Free)],
            ),
            (
                "a hole in the middle",
                &[area(0, 0x9000, Free)],
                &[area(0x3000, 0x1000, Reserved)],
                &[area(0, 0x3000, Free), area(0x3000, 0x1000, Reserved), area(0x4000, 0x5000, Free)],
            ),
            (
                "partial pages",
                &[area(0x800, 0x2000, Free)],
                &[area(0x1ff0, 0x20, Reclaimable)],
                &[area(0x1000, 0x2000, Reclaimable)],
            ),
            (
                "reserved wins whatever the order",
                &[area(0x1000, 0x1000, Reserved), area(0, 0x4000, Free)],
                &[],
                &[area(0, 0x1000, Free), area(0x1000, 0x1000, Reserved), area(0x2000, 0x2000, Free)],
            ),
            (
                "whole area taken",
                &[area(0, 0x1000, Free)],
                &[area(0, 0x1000, Reserved)],
                &[area(0, 0x1000, Reserved)],
            ),
        ];
        for (name, firmware, taken, expected) in cases {
            assert_eq!(built(firmware, taken), *expected, "{name}");
        }
    }

    #[test]
    fn old_kernels_get_no_more_than_they_take() {
        let firmware: Vec<MemoryArea> = (0..900)
            .map(|index| {
                area(index * 0x2000, 0x1000, if index % 3 == 0 { AreaKind::Free } else { AreaKind::Reserved })
            })
            .collect();
        let areas = built(&firmware, &[]);
        assert!(areas.len() <= AREAS_HANDED_MAX, "{}", areas.len());
        assert_eq!(areas.iter().filter(|area| area.kind == AreaKind::Free).count(), 300);
    }

    #[test]
    fn too_many_free_ranges_are_an_error() {
        let firmware = (0..2000).map(|index| area(index * 0x2000, 0x1000, AreaKind::Free));
        assert_eq!(Box::<AreaMap>::default().build(firmware, core::iter::empty()), Err(TooManyAreas));
    }

    fn any_area() -> impl Strategy<Value = MemoryArea> {
        (0u64..0x40_000, 0u64..0x8_000, 1u64..4)
            .prop_map(|(base, size, kind)| area(base, size, AreaKind::from_number(kind)))
    }

    proptest! {
        #[test]
        fn areas_never_overlap_and_free_means_free(
            firmware in prop::collection::vec(any_area(), 0..30),
            taken in prop::collection::vec(any_area(), 0..10),
        ) {
            let areas = built(&firmware, &taken);
            for pair in areas.windows(2) {
                prop_assert!(pair[0].end() <= pair[1].base);
            }
            for page in (0..0x50_000u64).step_by(0x1000) {
                let covers = |other: &MemoryArea| other.base < page + 0x1000 && other.end() > page && other.size > 0;
                let wanted = taken.iter().rfind(|other| covers(other) && other.kind != AreaKind::Free).is_some()
                    || firmware.iter().any(|other| covers(other) && other.kind != AreaKind::Free);
                let free = areas.iter().any(|area| area.kind == AreaKind::Free && covers(area));
                let released = taken.iter().any(|other| covers(other) && other.kind == AreaKind::Free);
                if wanted && !released {
                    prop_assert!(!free, "page {page:#x} is taken and free");
                }
            }
        }
    }
}
