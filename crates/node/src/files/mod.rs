//! The virtual file tree of a node: sandboxes and logs, attached under names that need not be
//! their paths (`docs/sandbox.md`, `src/files/files.cpp`).
//!
//! What is attached may be written to by tasks, so nothing in it is trusted: a path that leaves
//! its tree is refused, files are opened without following links that appeared after that check,
//! and only regular files are read.

mod stat;

pub(crate) use stat::mode_text;

use rustix::fs::{Mode, OFlags, ResolveFlags};
use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    path::{Path, PathBuf},
    sync::{PoisonError, RwLock},
};
use tepui_protocol::v1::FileInfo;

/// Most bytes that one read returns: sixteen pages, as the web UI's pager expects.
pub const READ_BYTES_MAX: u64 = 16 * 4096;

/// Directories and files under virtual names.
#[derive(Debug, Default)]
pub struct Files {
    attached: RwLock<BTreeMap<String, PathBuf>>,
}

/// Why a file cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// Nothing is attached there, or nothing exists there. 404; the reference gives no text.
    #[error("")]
    NotFound,
    /// The path is outside of what is attached.
    #[error("'{}' is inaccessible.\n", .0.display())]
    Outside(PathBuf),
    /// The path cannot be followed.
    #[error("Failed to determine canonical path of '{}': {source}.\n", path.display())]
    Unresolvable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Reading a directory.
    #[error("Cannot read a directory.\n")]
    IsDirectory,
    /// Reading what is neither file nor directory: a pipe, a device, a socket.
    #[error("Cannot read what is not a file.\n")]
    NotAFile,
    /// The file cannot be opened or read.
    #[error("Failed to open file at '{}': {source}.\n", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

impl FilesError {
    /// The HTTP status that says so.
    pub fn status(&self) -> u16 {
        match self {
            Self::NotFound => 404,
            Self::Outside(_) | Self::Unresolvable { .. } => 400,
            Self::IsDirectory | Self::NotAFile => 400,
            Self::Unreadable { .. } => 500,
        }
    }
}

/// A part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Size of the whole file.
    pub size: u64,
    /// The part.
    pub data: Vec<u8>,
}

/// A file that is open for reading.
#[derive(Debug)]
pub struct OpenFile {
    /// The file, at its start.
    pub file: File,
    /// Its size when it was opened.
    pub size: u64,
    /// Last segment of its path.
    pub name: String,
}

impl Files {
    /// Shows a directory or file under a virtual path. It must exist; an older one of that name is
    /// replaced.
    pub fn attach(&self, path: &Path, name: &str) -> io::Result<()> {
        let path = path.canonicalize()?;
        let name = name.strip_suffix('/').unwrap_or(name).to_owned();
        self.attached
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(name, path);
        Ok(())
    }

    /// Takes back an [`attach`](Self::attach).
    pub fn detach(&self, name: &str) {
        let name = name.strip_suffix('/').unwrap_or(name);
        self.attached
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(name);
    }

    /// Every virtual path and what it shows.
    pub fn attached(&self) -> BTreeMap<String, PathBuf> {
        self.attached
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// The entries of a directory, by path. Of a file: nothing, as in the reference.
    pub fn browse(&self, path: &str) -> Result<Vec<FileInfo>, FilesError> {
        let place = self.resolve(path)?;
        let unreadable = |source| FilesError::Unreadable {
            path: place.path(),
            source,
        };
        let directory = match place.open(OFlags::DIRECTORY) {
            Ok(directory) => directory,
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => return Ok(Vec::new()),
            Err(error) => return Err(unreadable(error)),
        };
        let names = stat::Names::read();
        let mut entries = BTreeMap::new();
        let listing = rustix::fs::Dir::read_from(&directory).map_err(|e| unreadable(e.into()))?;
        for entry in listing {
            let entry = entry.map_err(|e| unreadable(e.into()))?;
            let name = entry.file_name();
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            // Gone since it was listed, or a link to nowhere: not shown.
            if let Ok(info) = stat::info(&directory, name, path, &names) {
                entries.insert(name.to_owned(), info);
            }
        }
        Ok(entries.into_values().collect())
    }

    /// Part of a file: up to `length` bytes from `offset`, at most [`READ_BYTES_MAX`]. A length of
    /// 0 asks for the size alone; an offset at or past the end gives no bytes.
    pub fn read(&self, path: &str, offset: u64, length: Option<u64>) -> Result<Piece, FilesError> {
        let OpenFile { mut file, size, .. } = self.open(path)?;
        let length = length.unwrap_or(u64::MAX).min(READ_BYTES_MAX);
        let mut data = Vec::new();
        if offset < size && length > 0 {
            let unreadable = |source| FilesError::Unreadable {
                path: path.into(),
                source,
            };
            file.seek(SeekFrom::Start(offset)).map_err(unreadable)?;
            file.take(length.min(size - offset))
                .read_to_end(&mut data)
                .map_err(unreadable)?;
        }
        Ok(Piece { size, data })
    }

    /// Opens a file to be read as a whole.
    pub fn open(&self, path: &str) -> Result<OpenFile, FilesError> {
        let place = self.resolve(path)?;
        // Without NONBLOCK, opening a pipe that nobody writes to would hang.
        let file = place
            .open(OFlags::NONBLOCK)
            .map_err(|source| FilesError::Unreadable {
                path: place.path(),
                source,
            })?;
        let metadata = file.metadata().map_err(|source| FilesError::Unreadable {
            path: place.path(),
            source,
        })?;
        if metadata.is_dir() {
            return Err(FilesError::IsDirectory);
        }
        if !metadata.is_file() {
            return Err(FilesError::NotAFile);
        }
        let name = place
            .path()
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        Ok(OpenFile {
            file,
            size: metadata.len(),
            name,
        })
    }

    /// What a virtual path stands for: the longest attached name that begins it, and the rest.
    fn resolve(&self, path: &str) -> Result<Place, FilesError> {
        let attached = self.attached.read().unwrap_or_else(PoisonError::into_inner);
        let path = path.strip_suffix('/').unwrap_or(path);
        let mut name = path;
        let root = loop {
            if let Some(root) = attached.get(name) {
                break root.clone();
            }
            name = name.rsplit_once('/').ok_or(FilesError::NotFound)?.0;
        };
        drop(attached);
        let rest = path[name.len()..].trim_start_matches('/');
        Place::find(root, rest)
    }
}

/// A path inside an attached tree, free of links.
struct Place {
    root: PathBuf,
    /// Below the root; empty for the root itself.
    inner: PathBuf,
}

impl Place {
    fn find(root: PathBuf, rest: &str) -> Result<Self, FilesError> {
        let full = if rest.is_empty() {
            root.clone()
        } else {
            root.join(rest)
        };
        let real = full.canonicalize().map_err(|source| match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => FilesError::NotFound,
            _ => FilesError::Unresolvable {
                path: full.clone(),
                source,
            },
        })?;
        match real.strip_prefix(&root) {
            Ok(inner) => Ok(Self {
                inner: inner.to_owned(),
                root,
            }),
            Err(_) => Err(FilesError::Outside(full)),
        }
    }

    fn path(&self) -> PathBuf {
        self.root.join(&self.inner)
    }

    /// Opens it for reading, following no link: one that is there now was not there when the path
    /// was checked.
    fn open(&self, flags: OFlags) -> io::Result<File> {
        let flags = flags | OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        if self.inner.as_os_str().is_empty() {
            return Ok(rustix::fs::open(&self.root, flags, Mode::empty())?.into());
        }
        let directory = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::open(&self.root, directory, Mode::empty())?;
        let beneath = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS;
        match rustix::fs::openat2(&root, &self.inner, flags, Mode::empty(), beneath) {
            // Kernels before 5.6, and sandboxes that do not know the call.
            Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => {
                Ok(rustix::fs::openat(&root, &self.inner, flags, Mode::empty())?.into())
            }
            opened => Ok(opened?.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::symlink};

    fn tree() -> (tempfile::TempDir, Files) {
        let dir = tempfile::tempdir().expect("a directory");
        let sandbox = dir.path().join("sandbox");
        fs::create_dir_all(sandbox.join("sub")).expect("directories");
        fs::write(sandbox.join("stdout"), "hello world").expect("a file");
        fs::write(sandbox.join("sub/data"), "x").expect("a file");
        fs::write(dir.path().join("secret"), "s").expect("a file");
        fs::create_dir(dir.path().join("sandbox-2")).expect("a directory");
        fs::write(dir.path().join("sandbox-2/secret"), "s").expect("a file");
        let files = Files::default();
        files
            .attach(&sandbox, "/frameworks/F/latest/")
            .expect("attached");
        (dir, files)
    }

    fn status<T: std::fmt::Debug>(result: Result<T, FilesError>) -> u16 {
        result.map_or_else(|error| error.status(), |_| 200)
    }

    #[test]
    fn a_directory_lists_its_entries_under_the_virtual_path() {
        let (_dir, files) = tree();
        let entries = files.browse("/frameworks/F/latest").expect("a listing");
        let paths: Vec<_> = entries.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(
            paths,
            ["/frameworks/F/latest/stdout", "/frameworks/F/latest/sub"]
        );
        assert_eq!(entries[0].size, Some(11));
        assert_eq!(
            files
                .browse("/frameworks/F/latest/sub/")
                .expect("a listing")
                .len(),
            1
        );
        assert_eq!(
            files
                .browse("/frameworks/F/latest/stdout")
                .expect("a listing")
                .len(),
            0
        );
    }

    #[test]
    fn pieces_are_read_from_any_offset() {
        let (_dir, files) = tree();
        let read = |offset, length| {
            let piece = files.read("/frameworks/F/latest/stdout", offset, length);
            let piece = piece.expect("a piece");
            (piece.size, String::from_utf8(piece.data).expect("text"))
        };
        assert_eq!(read(0, None), (11, "hello world".to_owned()));
        assert_eq!(read(6, Some(3)), (11, "wor".to_owned()));
        assert_eq!(read(6, Some(100)), (11, "world".to_owned()));
        assert_eq!(read(0, Some(0)), (11, String::new()));
        assert_eq!(read(11, None), (11, String::new()));
        assert_eq!(read(u64::MAX, Some(u64::MAX)), (11, String::new()));
    }

    #[test]
    fn nothing_outside_is_shown() {
        let (dir, files) = tree();
        let sandbox = dir.path().join("sandbox");
        symlink(dir.path().join("secret"), sandbox.join("out")).expect("a link");
        symlink("stdout", sandbox.join("in")).expect("a link");
        symlink("nowhere", sandbox.join("broken")).expect("a link");
        symlink("loop", sandbox.join("loop")).expect("a link");
        symlink(dir.path().join("sandbox-2"), sandbox.join("sibling")).expect("a link");
        let read = |path: &str| status(files.read(&format!("/frameworks/F/latest{path}"), 0, None));
        assert_eq!(read("/in"), 200);
        assert_eq!(read("/out"), 400);
        assert_eq!(read("/sibling/secret"), 400);
        assert_eq!(read("/../secret"), 400);
        assert_eq!(read("/../sandbox-2/secret"), 400);
        assert_eq!(read("/sub/../stdout"), 200);
        assert_eq!(read("/broken"), 404);
        assert_eq!(read("/loop"), 400);
        assert_eq!(read("/stdout/x"), 404);
        assert_eq!(read("/sub"), 400);
        assert_eq!(read("//stdout"), 200);
        for path in [
            "",
            "/",
            "/nowhere",
            "/frameworks/F",
            "frameworks/F/latest",
            "\0",
        ] {
            assert_eq!(status(files.read(path, 0, None)), 404, "{path}");
        }
        assert_eq!(status(files.read("/frameworks/F/latest/\0", 0, None)), 400);
    }

    #[test]
    fn pipes_are_not_read() {
        let (dir, files) = tree();
        let pipe = dir.path().join("sandbox/pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &pipe,
            rustix::fs::FileType::Fifo,
            Mode::from(0o600),
            0,
        )
        .expect("a pipe");
        assert_eq!(
            status(files.read("/frameworks/F/latest/pipe", 0, None)),
            400
        );
    }

    #[test]
    fn what_is_detached_is_gone() {
        let (_dir, files) = tree();
        files.detach("/frameworks/F/latest");
        assert_eq!(status(files.browse("/frameworks/F/latest")), 404);
        assert!(files.attached().is_empty());
        assert!(files.attach(Path::new("/no/such/place"), "/x").is_err());
    }
}
