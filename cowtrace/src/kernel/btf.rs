//! Field offsets and enumerators from the running kernel's BTF.

use std::path::Path;

use btf_rs::{Backend, Btf, BtfType, Type};

use super::LayoutError;

/// The kernel's type information. Opened by mapping it, as parsing it whole takes longer than a short command.
pub(super) struct KernelTypes {
    btf: Btf,
}

impl KernelTypes {
    /// Opens a BTF file, usually `/sys/kernel/btf/vmlinux`.
    pub(super) fn open(path: &Path) -> Result<KernelTypes, LayoutError> {
        let btf = Btf::from_file_with_backend(path, Backend::Mmap)
            // sysfs of older kernels cannot be mapped.
            .or_else(|_| Btf::from_file_with_backend(path, Backend::Cache))
            .map_err(|error| LayoutError::Open { path: path.to_owned(), reason: error.to_string() })?;
        Ok(KernelTypes { btf })
    }

    /// Looks up a struct by name.
    pub(super) fn structure(&self, name: &'static str) -> Result<Structure<'_>, LayoutError> {
        let types = self.btf.resolve_types_by_name(name).unwrap_or_default();
        types
            .into_iter()
            .find_map(|t| match t {
                Type::Struct(found) => Some(Structure { types: self, name, found }),
                _ => None,
            })
            .ok_or(LayoutError::NoStruct { name })
    }

    /// Values of these enumerators of enums with this name (empty: of unnamed enums), as far as the kernel has them.
    /// All at once, as there are thousands of unnamed types to go through.
    pub(super) fn enumerators<const N: usize>(&self, enum_name: &str, names: [&str; N]) -> [Option<u64>; N] {
        let mut values = [None; N];
        for id in self.btf.resolve_ids_by_name(enum_name).unwrap_or_default() {
            let Ok(Type::Enum(found)) = self.btf.resolve_type_by_id(id) else { continue };
            for member in &found.members {
                let Some(name) = self.name_of(member) else { continue };
                if let Some(value) =
                    names.iter().position(|wanted| *wanted == name).and_then(|i| values.get_mut(i))
                {
                    value.get_or_insert(u64::from(member.val()));
                }
            }
            if values.iter().all(Option::is_some) {
                break;
            }
        }
        values
    }

    /// Whether the kernel has this function, with a prototype that is its own (not one that the compiler has changed).
    pub(super) fn has_function(&self, name: &str) -> bool {
        self.function(name).is_some()
    }

    /// The number of a function among the types.
    pub(super) fn function_id(&self, name: &str) -> Option<u32> {
        let ids = self.btf.resolve_ids_by_name(name).unwrap_or_default();
        ids.into_iter().find(|id| matches!(self.btf.resolve_type_by_id(*id), Ok(Type::Func(_))))
    }

    /// For each parameter of a function, the struct that it points to; empty for other types.
    pub(super) fn parameters(&self, name: &str) -> Vec<String> {
        let prototype = self.function(name).and_then(|f| match self.btf.resolve_chained_type(&f).ok()? {
            Type::FuncProto(prototype) => Some(prototype),
            _ => None,
        });
        let pointee = |parameter: &dyn BtfType| {
            let Type::Ptr(pointer) = self.unqualified(parameter)? else { return None };
            match self.unqualified(&pointer)? {
                Type::Struct(found) => self.name_of(&found),
                _ => None,
            }
        };
        let parameters = prototype.map(|p| p.parameters).unwrap_or_default();
        parameters.iter().map(|parameter| pointee(parameter).unwrap_or_default()).collect()
    }

    fn function(&self, name: &str) -> Option<btf_rs::Func> {
        self.btf.resolve_types_by_name(name).unwrap_or_default().into_iter().find_map(|t| match t {
            Type::Func(found) => Some(found),
            _ => None,
        })
    }

    /// The type behind `const` and the like.
    fn unqualified(&self, item: &dyn BtfType) -> Option<Type> {
        let mut found = self.btf.resolve_chained_type(item).ok()?;
        while let Type::Const(qualified) | Type::Volatile(qualified) = &found {
            found = self.btf.resolve_chained_type(qualified).ok()?;
        }
        Some(found)
    }

    fn name_of(&self, item: &dyn BtfType) -> Option<String> {
        self.btf.resolve_name(item).ok()
    }
}

/// One kernel struct.
pub(super) struct Structure<'a> {
    types: &'a KernelTypes,
    name: &'static str,
    found: btf_rs::Struct,
}

impl Structure<'_> {
    /// Bytes of the whole struct.
    pub(super) fn size(&self) -> u64 {
        self.found.size() as u64
    }

    /// Byte offset of a field, also one inside unnamed structs and unions.
    pub(super) fn offset(&self, field: &'static str) -> Result<u64, LayoutError> {
        self.offset_of_any(&[field])
    }

    /// Byte offset of the first of these fields that the kernel has; kernels rename fields.
    pub(super) fn offset_of_any(&self, fields: &[&'static str]) -> Result<u64, LayoutError> {
        fields.iter().find_map(|field| self.find(&self.found, field, 0)).ok_or(LayoutError::NoField {
            structure: self.name,
            field: fields.first().copied().unwrap_or("?"),
        })
    }

    fn find(&self, inside: &btf_rs::Struct, field: &str, depth: u32) -> Option<u64> {
        // Unnamed members nest a few levels at most; the bound guards against a damaged file.
        if depth > 8 {
            return None;
        }
        inside.members.iter().find_map(|member| {
            let offset = u64::from(member.bit_offset() / 8);
            match self.types.name_of(member)?.as_str() {
                name if name == field => Some(offset),
                "" => match self.types.unqualified(member)? {
                    Type::Struct(inner) | Type::Union(inner) => {
                        Some(offset + self.find(&inner, field, depth + 1)?)
                    }
                    _ => None,
                },
                _ => None,
            }
        })
    }
}
