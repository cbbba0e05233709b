//! The parts of an ELF file that say how the kernel runs it, see elf(5).

use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// What an ELF file begins with.
pub(super) const ELF_MAGIC: &[u8] = b"\x7fELF";

/// The type of the entry that names the loader.
pub(super) const LOADER_ENTRY: u64 = 3;

/// The most that is read of an entry, or of the name of a loader.
const MAX_ENTRY_BYTES: usize = 256;

/// The part of an ELF header that matters here, see elf(5).
#[derive(Debug, Clone, Copy)]
pub(super) struct ElfHeader {
    is_64_bit: bool,
    pub(super) is_little_endian: bool,
    pub(super) kind: u16,
    pub(super) machine: u16,
    entries_at: u64,
    entry_size: u16,
    pub(super) entry_count: u16,
}

impl ElfHeader {
    pub(super) fn parse(head: &[u8]) -> Option<Self> {
        let [.., class, encoding] = *head.strip_prefix(ELF_MAGIC)?.first_chunk::<2>()?;
        let (is_64_bit, is_little_endian) = (class == 2, encoding == 1);
        let numbers = ElfNumbers {
            bytes: head,
            is_little_endian,
        };
        let (entries_at, sizes_at) = if is_64_bit {
            (numbers.number(32, 8)?, 54)
        } else {
            (numbers.number(28, 4)?, 42)
        };
        Some(Self {
            is_64_bit,
            is_little_endian,
            kind: numbers.short(16)?,
            machine: numbers.short(18)?,
            entries_at,
            entry_size: numbers.short(sizes_at)?,
            entry_count: numbers.short(sizes_at + 2)?,
        })
    }

    /// Returns the entries of the file; none if it ends before them.
    pub(super) fn entries(&self, file: &File) -> Option<Vec<ElfEntry>> {
        let entries = (0..self.entry_count).map(|index| {
            let mut bytes = vec![0; usize::from(self.entry_size).min(MAX_ENTRY_BYTES)];
            let offset = u64::from(index) * u64::from(self.entry_size);
            file.read_exact_at(&mut bytes, self.entries_at.checked_add(offset)?)
                .ok()?;
            let numbers = ElfNumbers {
                bytes: &bytes,
                is_little_endian: self.is_little_endian,
            };
            let (at, length) = if self.is_64_bit {
                (numbers.number(8, 8)?, numbers.number(32, 8)?)
            } else {
                (numbers.number(4, 4)?, numbers.number(16, 4)?)
            };
            let kind = numbers.number(0, 4)?;
            Some(ElfEntry { kind, at, length })
        });
        entries.collect()
    }
}

/// An entry of an ELF file: what a part of it is, and where it is in the file.
#[derive(Debug, Clone, Copy)]
pub(super) struct ElfEntry {
    pub(super) kind: u64,
    at: u64,
    length: u64,
}

impl ElfEntry {
    pub(super) const fn end(&self) -> u64 {
        self.at.saturating_add(self.length)
    }

    /// Returns the path that it has.
    pub(super) fn read_name(&self, file: &File) -> Option<PathBuf> {
        let mut name = vec![0; usize::try_from(self.length).ok()?.min(MAX_ENTRY_BYTES)];
        file.read_exact_at(&mut name, self.at).ok()?;
        let name = name.split(|byte| *byte == 0).next()?;
        Some(Path::new(std::ffi::OsStr::from_bytes(name)).to_owned())
    }
}

/// The numbers of an ELF file.
struct ElfNumbers<'b> {
    bytes: &'b [u8],
    is_little_endian: bool,
}

impl ElfNumbers<'_> {
    fn number(&self, at: usize, length: usize) -> Option<u64> {
        let bytes = self.bytes.get(at..at + length)?;
        let join = |number: u64, byte: &u8| (number << 8) | u64::from(*byte);
        Some(if self.is_little_endian {
            bytes.iter().rev().fold(0, join)
        } else {
            bytes.iter().fold(0, join)
        })
    }

    fn short(&self, at: usize) -> Option<u16> {
        self.number(at, 2)
            .and_then(|number| u16::try_from(number).ok())
    }
}
