//! What lies below a disk's scheme: `0` is the disk, `0p1` its second partition. Which bytes those are, and who may have
//! which of them open. Reads nothing itself.

use redox_boot::partition::Partition;

/// What a path below the scheme means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// The list of the others.
    List,
    Whole,
    Part(usize),
}

impl Name {
    /// Paths as other disk drivers of Redox have them. The scheme has one disk, which is number 0.
    pub fn parse(path: &str) -> Option<Name> {
        let number = |text: &str| {
            let plain = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
            // One name for each thing: no zeroes before a number.
            text.parse::<usize>().ok().filter(|number| plain && number.to_string() == text)
        };
        match path.trim_matches('/') {
            "" => Some(Name::List),
            "0" => Some(Name::Whole),
            other => Some(Name::Part(number(other.strip_prefix("0p")?)?)),
        }
    }

    pub fn path(self) -> String {
        match self {
            Name::List => String::new(),
            Name::Whole => "0".into(),
            Name::Part(number) => format!("0p{number}"),
        }
    }

    /// Whether two may not be open at a time: they have bytes in common.
    pub fn conflicts(self, other: Name) -> bool {
        match (self, other) {
            (Name::List, _) | (_, Name::List) => false,
            (Name::Part(one), Name::Part(another)) => one == another,
            _ => true,
        }
    }
}

/// A run of bytes of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    pub start: u64,
    pub bytes: u64,
}

impl Extent {
    /// Where `length` bytes at `offset` of this run lie on the disk: no more than there are, and none beyond the end.
    pub fn clip(self, offset: u64, length: u64) -> Extent {
        let offset = offset.min(self.bytes);
        Extent { start: self.start + offset, bytes: length.min(self.bytes - offset) }
    }
}

/// A disk and its partitions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    bytes: u64,
    parts: Vec<Extent>,
}

const SECTOR_BYTES: u64 = 512;

impl Contents {
    /// Partitions that do not lie on the disk, or only in part, are cut to what is there.
    pub fn new(bytes: u64, partitions: &[Partition]) -> Contents {
        let whole = Extent { start: 0, bytes };
        let part = |partition: &Partition| {
            whole.clip(
                partition.first_sector.saturating_mul(SECTOR_BYTES),
                partition.sectors.saturating_mul(SECTOR_BYTES),
            )
        };
        Contents { bytes, parts: partitions.iter().map(part).collect() }
    }

    pub fn extent(&self, name: Name) -> Option<Extent> {
        match name {
            Name::List => None,
            Name::Whole => Some(Extent { start: 0, bytes: self.bytes }),
            Name::Part(number) => self.parts.get(number).copied(),
        }
    }

    /// All names but the list's.
    pub fn names(&self) -> impl Iterator<Item = Name> {
        std::iter::once(Name::Whole).chain((0..self.parts.len()).map(Name::Part))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn paths() {
        let cases = [
            ("", Some(Name::List)),
            ("/", Some(Name::List)),
            ("0", Some(Name::Whole)),
            ("0p0", Some(Name::Part(0))),
            ("/0p12", Some(Name::Part(12))),
            ("1", None),
            ("00", None),
            ("0p", None),
            ("0p01", None),
            ("0p+1", None),
            ("0p-1", None),
            ("p1", None),
            ("0p99999999999999999999", None),
        ];
        for (path, expected) in cases {
            assert_eq!(Name::parse(path), expected, "{path:?}");
        }
    }

    #[test]
    fn what_shares_bytes_is_not_open_twice() {
        let [list, whole, one, two] = [Name::List, Name::Whole, Name::Part(1), Name::Part(2)];
        for (left, right, expected) in [
            (list, list, false),
            (list, whole, false),
            (whole, whole, true),
            (whole, one, true),
            (one, one, true),
            (one, two, false),
        ] {
            assert_eq!(left.conflicts(right), expected);
            assert_eq!(right.conflicts(left), expected);
        }
    }

    fn partition(first_sector: u64, sectors: u64) -> Partition {
        Partition { first_sector, sectors }
    }

    #[test]
    fn partitions_are_cut_to_the_disk() {
        let contents = Contents::new(1 << 20, &[partition(34, 10), partition(2000, 100), partition(9999, 1)]);
        let extent = |name| contents.extent(name).map(|extent| (extent.start, extent.bytes));
        assert_eq!(extent(Name::Whole), Some((0, 1 << 20)));
        assert_eq!(extent(Name::Part(0)), Some((34 * 512, 10 * 512)));
        assert_eq!(extent(Name::Part(1)), Some((2000 * 512, 48 * 512)));
        assert_eq!(extent(Name::Part(2)), Some((1 << 20, 0)));
        assert_eq!((extent(Name::Part(3)), extent(Name::List)), (None, None));
        let paths: Vec<String> = contents.names().map(Name::path).collect();
        assert_eq!(paths, ["0", "0p0", "0p1", "0p2"]);
    }

    proptest! {
        #[test]
        fn nothing_reaches_beyond(
            bytes in 0u64..1 << 50, first: u64, sectors: u64, offset: u64, length: u64,
        ) {
            let contents = Contents::new(bytes, &[partition(first, sectors)]);
            for name in contents.names() {
                let all = contents.extent(name).unwrap();
                let some = all.clip(offset, length);
                prop_assert!(all.start + all.bytes <= bytes);
                prop_assert!(some.start >= all.start && some.start + some.bytes <= all.start + all.bytes);
                prop_assert!(some.bytes <= length);
                prop_assert_eq!(Name::parse(&name.path()), Some(name));
            }
        }
    }
}
