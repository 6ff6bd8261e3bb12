//! Hashing what is to be shared: a file, or a folder with all that is in it.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::{CHUNK, SLICE, at, changed};
use crate::job::{Blob, Source, StoreError};
use crate::manifest::{Entry, Manifest, ManifestError};
use crate::storage::{FileKind, Storage};
use crate::tree::TreeBuilder;

/// An import that is under way. It holds no file open between its slices.
#[derive(Debug)]
pub(crate) struct Import {
    path: PathBuf,
    /// Files to be hashed, with their names in the folder; `None` before the first slice has looked.
    files: Option<VecDeque<(String, PathBuf)>>,
    folder: bool,
    current: Option<(TreeBuilder, u64)>,
    entries: Vec<Entry>,
    blobs: Vec<Blob>,
}

impl Import {
    pub(crate) fn new(path: PathBuf) -> Import {
        Import { path, files: None, folder: false, current: None, entries: Vec::new(), blobs: Vec::new() }
    }

    /// Hashes on for a slice. Gives the blobs when all is done, the one that stands for the whole last.
    pub(super) fn advance<S: Storage>(
        &mut self,
        storage: &mut S,
        buffer: &mut Vec<u8>,
    ) -> Result<Option<Vec<Blob>>, StoreError> {
        if self.files.is_none() {
            self.look(storage)?;
        }
        let Some(files) = &mut self.files else { return Ok(None) };
        let mut budget = SLICE;
        while let Some((name, path)) = files.front() {
            let mut file = storage.open(path).map_err(at(path))?;
            let (builder, size) = match &mut self.current {
                Some(current) => current,
                None => {
                    let size = storage.len(&mut file).map_err(at(path))?;
                    self.current.insert((TreeBuilder::default(), size))
                }
            };
            while builder.len() < *size {
                if budget == 0 {
                    return Ok(None);
                }
                let len = (*size - builder.len()).min(CHUNK as u64);
                storage.read_at(&mut file, builder.len(), len as usize, buffer).map_err(changed(path))?;
                builder.update(buffer);
                budget = budget.saturating_sub(len);
            }
            let Some((builder, size)) = self.current.take() else { break };
            if storage.len(&mut file).map_err(at(path))? != size {
                return Err(StoreError::Changed(path.clone()));
            }
            let outboard = Arc::new(builder.finish());
            self.entries.push(Entry { name: name.clone(), size, root: outboard.root() });
            self.blobs.push(Blob { source: Source::File(path.clone()), outboard });
            files.pop_front();
            // Many small files cost by their number, too.
            budget = budget.saturating_sub(4096);
        }
        if self.folder {
            let manifest = Manifest::new(std::mem::take(&mut self.entries))?.encode();
            let mut builder = TreeBuilder::default();
            builder.update(&manifest);
            let outboard = Arc::new(builder.finish());
            self.blobs.push(Blob { source: Source::Memory(manifest.into()), outboard });
        }
        Ok(Some(std::mem::take(&mut self.blobs)))
    }

    fn look<S: Storage>(&mut self, storage: &mut S) -> Result<(), StoreError> {
        let mut files = VecDeque::new();
        let mut folders = Vec::new();
        match storage.kind(&self.path).map_err(at(&self.path))? {
            FileKind::File => files.push_back((String::new(), self.path.clone())),
            FileKind::Folder => {
                self.folder = true;
                folders.push((String::new(), self.path.clone()));
            }
            FileKind::Symlink => return Err(StoreError::Symlink(self.path.clone())),
            FileKind::Special => return Err(StoreError::Special(self.path.clone())),
        }
        while let Some((prefix, folder)) = folders.pop() {
            for name in storage.list(&folder).map_err(at(&folder))? {
                let path = folder.join(&name);
                let name = prefix.clone() + utf8(&name, &path)?;
                match storage.kind(&path).map_err(at(&path))? {
                    FileKind::File => files.push_back((name, path)),
                    FileKind::Folder => folders.push((name + "/", path)),
                    FileKind::Symlink => return Err(StoreError::Symlink(path)),
                    FileKind::Special => return Err(StoreError::Special(path)),
                }
            }
        }
        self.files = Some(files);
        Ok(())
    }
}

fn utf8<'a>(name: &'a std::ffi::OsStr, path: &Path) -> Result<&'a str, ManifestError> {
    name.to_str().ok_or_else(|| ManifestError::Name {
        name: path.to_string_lossy().chars().take(80).collect(),
        why: "it is not UTF-8",
    })
}
