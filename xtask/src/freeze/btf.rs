//! Makes a small BTF file with the types that cowtrace reads (Documentation/bpf/btf.rst). Records are copied word by
//! word, with types and names numbered anew, so that what they say stays as the kernel's build wrote it; no crate that
//! reads BTF can write it.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, bail};

use super::wanted;

/// Little endian; the other byte order is of no machine that cowtrace knows.
const MAGIC: u16 = 0xeb9f;
const VERSION: u8 = 1;
/// Bytes of the header, as it has been since the first version.
const HEADER: usize = 24;
/// Each record starts with a name, what it is, and a size or another type.
const HEAD: usize = 3;
/// Members of a struct, in the second word of a record.
const COUNT: u32 = 0xffff;

/// What a word of a record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Word {
    /// Where a name is among the strings.
    Name,
    /// The number of a type.
    Type,
    /// Anything else.
    Plain,
}
use Word::{Name, Plain, Type};

/// What the words of a kind of record are, after its name and what it is.
struct Shape {
    fixed: &'static [Word],
    /// Repeated for each member, parameter or enumerator.
    item: &'static [Word],
}

/// `BTF_KIND_*`.
mod kind {
    pub const STRUCT: u32 = 4;
    pub const UNION: u32 = 5;
    pub const ENUM: u32 = 6;
    pub const TYPEDEF: u32 = 8;
    pub const FUNC: u32 = 12;
    pub const ENUM64: u32 = 19;
}

fn shape(kind: u32) -> Result<Shape> {
    let (fixed, item): (&[Word], &[Word]) = match kind {
        1 => (&[Plain, Plain], &[]),            // int
        2 | 9 | 10 | 11 | 18 => (&[Type], &[]), // pointer, volatile, const, restrict, type tag
        kind::TYPEDEF | kind::FUNC => (&[Type], &[]),
        3 => (&[Plain, Type, Type, Plain], &[]), // array
        kind::STRUCT | kind::UNION => (&[Plain], &[Name, Type, Plain]),
        kind::ENUM => (&[Plain], &[Name, Plain]),
        kind::ENUM64 => (&[Plain], &[Name, Plain, Plain]),
        7 | 16 => (&[Plain], &[]),               // forward, float
        13 => (&[Type], &[Name, Type]),          // function prototype
        14 | 17 => (&[Type, Plain], &[]),        // variable, declaration tag
        15 => (&[Plain], &[Type, Plain, Plain]), // section
        _ => bail!("BTF has a kind of type, {kind}, that is not known here"),
    };
    Ok(Shape { fixed, item })
}

/// A BTF file, taken apart.
struct Types<'a> {
    strings: &'a [u8],
    /// Type 1 is the first.
    records: Vec<Record>,
}

/// One type.
struct Record {
    kind: u32,
    words: Vec<(Word, u32)>,
}

impl<'a> Types<'a> {
    fn parse(file: &'a [u8]) -> Result<Types<'a>> {
        let word = |at: usize| {
            let bytes = file.get(at..at + 4).and_then(|bytes| bytes.first_chunk());
            bytes.map(|bytes| u32::from_le_bytes(*bytes)).context("the BTF file is cut short")
        };
        let start = word(0)?;
        if start & 0xffff != u32::from(MAGIC) || start >> 16 & 0xff != u32::from(VERSION) {
            bail!("this is no BTF file of version {VERSION}, little endian: it begins with {start:#x}");
        }
        let [header, types, types_length, strings, strings_length] =
            [word(4)?, word(8)?, word(12)?, word(16)?, word(20)?].map(|value| value as usize);
        let section = |offset: usize, length: usize| {
            let section = file.get(header + offset..).and_then(|rest| rest.get(..length));
            section.context("the BTF file is cut short")
        };
        let strings = section(strings, strings_length)?;
        let (words, _) = section(types, types_length)?.as_chunks();
        let mut rest: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
        rest.reverse();
        let mut records = Vec::new();
        while let Some(name) = rest.pop() {
            let mut next = || rest.pop().context("the BTF file's last type is cut short");
            let info = next()?;
            let kind = info >> 24 & 0x1f;
            let Shape { fixed, item } = shape(kind)?;
            // With functions this is the linkage, and there are no items.
            let items = (0..info & COUNT).flat_map(|_| item);
            let mut words = vec![(Name, name), (Plain, info)];
            for word in fixed.iter().chain(items) {
                words.push((*word, next()?));
            }
            records.push(Record { kind, words });
        }
        Ok(Types { strings, records })
    }

    fn name(&self, offset: u32) -> &'a [u8] {
        let rest = self.strings.get(offset as usize..).unwrap_or_default();
        rest.split(|byte| *byte == 0).next().unwrap_or_default()
    }

    fn record(&self, id: u32) -> Result<&Record> {
        let index = (id as usize).checked_sub(1).context("void has no record")?;
        self.records.get(index).with_context(|| format!("the BTF file has no type {id}"))
    }

    /// Whether cowtrace looks for this type by name.
    fn is_root(&self, record: &Record) -> bool {
        let names = |list: &[&str], name| list.iter().any(|wanted| wanted.as_bytes() == name);
        let name = self.name(record.name());
        match record.kind {
            kind::STRUCT | kind::UNION => names(&wanted::STRUCTS, name),
            kind::FUNC => names(&wanted::FUNCTIONS, name),
            kind::TYPEDEF => {
                let tracepoints = wanted::TRACEPOINTS.map(|path| path.rsplit('/').next().unwrap_or(path));
                name.strip_prefix(b"btf_trace_").is_some_and(|name| names(&tracepoints, name))
            }
            kind::ENUM | kind::ENUM64 => {
                let mut items = record.words.iter().skip(HEAD).filter(|(word, _)| *word == Name);
                items.any(|(_, offset)| names(&wanted::ENUMERATORS, self.name(*offset)))
            }
            _ => false,
        }
    }

    /// Whether only the name and the size are kept: of structs that have a name and are not asked for.
    fn is_opaque(&self, record: &Record) -> bool {
        matches!(record.kind, kind::STRUCT | kind::UNION) && record.name() != 0 && !self.is_root(record)
    }

    /// The words that are kept of a record.
    fn kept(&self, record: &Record) -> Vec<(Word, u32)> {
        let mut words = record.words.clone();
        if self.is_opaque(record) {
            words.truncate(HEAD);
            // Neither members nor bit fields.
            words.get_mut(1).into_iter().for_each(|(_, info)| *info &= !(COUNT | 1 << 31));
        }
        words
    }
}

impl Record {
    fn name(&self) -> u32 {
        self.words.first().map_or(0, |(_, offset)| *offset)
    }
}

/// The types that are wanted, and all that they are made of, as a file of its own.
pub fn excerpt(file: &[u8]) -> Result<Vec<u8>> {
    let source = Types::parse(file)?;
    let ids = 1..=u32::try_from(source.records.len())?;
    let mut open: Vec<u32> =
        ids.zip(&source.records).filter(|(_, record)| source.is_root(record)).map(|(id, _)| id).collect();
    let mut kept = BTreeSet::new();
    while let Some(id) = open.pop() {
        if id != 0 && kept.insert(id) {
            let words = source.kept(source.record(id)?);
            open.extend(words.iter().filter(|(word, _)| *word == Type).map(|(_, id)| *id));
        }
    }
    // In the order of the source, as the first of two types with one name is the one that is found.
    let mut ids: BTreeMap<u32, u32> = kept.iter().copied().zip(1..).collect();
    ids.insert(0, 0);
    let mut strings = Strings::default();
    let mut types = Vec::new();
    for id in &kept {
        for (word, value) in source.kept(source.record(*id)?) {
            let value = match word {
                Name => strings.offset(source.name(value))?,
                Type => *ids.get(&value).context("a type that was not kept")?,
                Plain => value,
            };
            types.extend_from_slice(&value.to_le_bytes());
        }
    }
    let mut excerpt = Vec::with_capacity(HEADER + types.len() + strings.bytes.len());
    excerpt.extend_from_slice(&MAGIC.to_le_bytes());
    excerpt.extend_from_slice(&[VERSION, 0]);
    for number in [HEADER, 0, types.len(), types.len(), strings.bytes.len()] {
        excerpt.extend_from_slice(&u32::try_from(number)?.to_le_bytes());
    }
    excerpt.extend(types);
    excerpt.extend(strings.bytes);
    Ok(excerpt)
}

/// The names of the new file, each once.
struct Strings<'a> {
    bytes: Vec<u8>,
    offsets: BTreeMap<&'a [u8], u32>,
}

impl Default for Strings<'_> {
    fn default() -> Self {
        // The empty name comes first.
        Strings { bytes: vec![0], offsets: BTreeMap::from([(&b""[..], 0)]) }
    }
}

impl<'a> Strings<'a> {
    fn offset(&mut self, name: &'a [u8]) -> Result<u32> {
        if let Some(offset) = self.offsets.get(name) {
            return Ok(*offset);
        }
        let offset = u32::try_from(self.bytes.len())?;
        self.bytes.extend_from_slice(name);
        self.bytes.push(0);
        self.offsets.insert(name, offset);
        Ok(offset)
    }
}

#[cfg(test)]
mod tests;
