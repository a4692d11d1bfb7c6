//! bpf(2): maps, which programs and this process share.

use super::system::{BpfError, bpf, create, object_name};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

const MAP_CREATE: i32 = 0;
const MAP_LOOKUP: i32 = 1;
const MAP_UPDATE: i32 = 2;
const MAP_DELETE: i32 = 3;

/// Only needed room is allocated (`BPF_F_NO_PREALLOC`).
const NO_PREALLOCATION: u32 = 1;

/// Kinds of map.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MapKind {
    /// Numbered from 0; all there from the start, as zeroes.
    Array,
    /// Hash table.
    Hash,
    /// Longest prefix match.
    Prefixes,
    /// Sockets, here to see whether a process is alive.
    Sockets,
    /// XDP sockets by queue.
    XdpSockets,
}

/// A map.
#[derive(Debug)]
pub struct Map {
    descriptor: OwnedFd,
    key_bytes: usize,
    value_bytes: usize,
}

#[repr(C)]
#[derive(Default)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; 16],
}

#[repr(C)]
#[derive(Default)]
struct MapElement {
    map_fd: u32,
    padding: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl Map {
    /// Makes a map.
    ///
    /// # Errors
    /// Without `CAP_BPF` and `CAP_NET_ADMIN`, or when the kernel is too old for the kind.
    pub fn new(
        kind: MapKind,
        name: &'static str,
        key_bytes: usize,
        value_bytes: usize,
        entries: u32,
    ) -> Result<Self, BpfError> {
        let (map_type, map_flags) = match kind {
            MapKind::Array => (2, 0),
            MapKind::Hash => (1, NO_PREALLOCATION),
            MapKind::Prefixes => (11, NO_PREALLOCATION),
            MapKind::Sockets => (15, 0),
            MapKind::XdpSockets => (17, 0),
        };
        let request = MapCreate {
            map_type,
            key_size: key_bytes as u32,
            value_size: value_bytes as u32,
            max_entries: entries,
            map_flags,
            map_name: object_name(name),
            ..MapCreate::default()
        };
        let descriptor =
            create(MAP_CREATE, &request).map_err(|source| BpfError::Map { name, source })?;
        Ok(Self { descriptor, key_bytes, value_bytes })
    }

    /// Writes an entry, whether it was there or not.
    ///
    /// # Errors
    /// When the map is full, or key or value have the wrong size.
    pub fn insert(&self, key: &[u8], value: &[u8]) -> Result<(), BpfError> {
        let action = "write a BPF map entry";
        if key.len() != self.key_bytes || value.len() != self.value_bytes {
            let source = io::ErrorKind::InvalidInput.into();
            return Err(BpfError::Action { action, source });
        }
        let request = self.element(key, Some(value));
        // SAFETY: the request points to a key and a value of the map's sizes, which outlive the call.
        unsafe { bpf(MAP_UPDATE, &request) }
            .map(drop)
            .map_err(|source| BpfError::Action { action, source })
    }

    /// Reads an entry. `false` when it is not there.
    ///
    /// # Errors
    /// When key or value have the wrong size.
    pub fn read(&self, key: &[u8], value: &mut [u8]) -> Result<bool, BpfError> {
        let action = "read a BPF map entry";
        if key.len() != self.key_bytes || value.len() != self.value_bytes {
            let source = io::ErrorKind::InvalidInput.into();
            return Err(BpfError::Action { action, source });
        }
        let request = MapElement { value: value.as_mut_ptr() as u64, ..self.element(key, None) };
        // SAFETY: the request points to a key and room for a value of the map's sizes, which outlive
        // the call.
        match unsafe { bpf(MAP_LOOKUP, &request) } {
            Ok(_) => Ok(true),
            Err(source) if source.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(source) => Err(BpfError::Action { action, source }),
        }
    }

    /// Removes an entry. Not finding it is fine.
    ///
    /// # Errors
    /// When the key has the wrong size.
    pub fn remove(&self, key: &[u8]) -> Result<(), BpfError> {
        let action = "remove a BPF map entry";
        if key.len() != self.key_bytes {
            let source = io::ErrorKind::InvalidInput.into();
            return Err(BpfError::Action { action, source });
        }
        // SAFETY: the request points to a key of the map's size, which outlives the call.
        match unsafe { bpf(MAP_DELETE, &self.element(key, None)) } {
            Err(source) if source.raw_os_error() != Some(libc::ENOENT) => {
                Err(BpfError::Action { action, source })
            }
            Ok(_) | Err(_) => Ok(()),
        }
    }

    fn element(&self, key: &[u8], value: Option<&[u8]>) -> MapElement {
        MapElement {
            map_fd: self.descriptor.as_raw_fd().cast_unsigned(),
            key: key.as_ptr() as u64,
            value: value.map_or(0, |value| value.as_ptr() as u64),
            ..MapElement::default()
        }
    }
}

impl AsFd for Map {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }
}
