//! Archives by extension, unpacked in this process (`src/launcher/fetcher.cpp`).
//!
//! An entry that would land outside of the sandbox fails the fetch: through `..`, through an
//! absolute name, or through a link that an earlier entry made.

use super::{FetchCause, Work, at, create};
use bzip2::read::MultiBzDecoder;
use flate2::read::MultiGzDecoder;
use std::{
    fs::{self, File},
    io::{self, BufReader, Read},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
};
use xz2::read::XzDecoder;

/// Longest target of a symbolic link in a zip archive.
const LINK_BYTES_MAX: u64 = 4096;

/// Unpacks `path` into `sandbox` if its name is that of an archive; otherwise leaves it alone.
pub(super) fn extract(path: &Path, sandbox: &Path, work: &mut Work) -> Result<(), FetchCause> {
    let name = path
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| name.ends_with(suffix));
    let open = || File::open(path).map(BufReader::new).map_err(at(path));
    if ends(&[".tar"]) {
        untar(open()?, sandbox, work)
    } else if ends(&[".tgz", ".tar.gz"]) {
        untar(MultiGzDecoder::new(open()?), sandbox, work)
    } else if ends(&[".tbz2", ".tar.bz2"]) {
        untar(MultiBzDecoder::new(open()?), sandbox, work)
    } else if ends(&[".txz", ".tar.xz"]) {
        untar(XzDecoder::new_multi_decoder(open()?), sandbox, work)
    } else if ends(&[".zip"]) {
        unzip(open()?, sandbox, work)
    } else if let Some(plain) = name.strip_suffix(".gz").filter(|plain| !plain.is_empty()) {
        // Named like the archive, which may lie in a subdirectory, but put at the top.
        let target = sandbox.join(plain);
        let mut file = create(&target)?;
        let mut content = MultiGzDecoder::new(open()?);
        work.pour(&mut content, &mut file, path, &target)
            .map_err(as_archive)
    } else {
        Ok(())
    }
}

fn untar(bytes: impl Read, sandbox: &Path, work: &mut Work) -> Result<(), FetchCause> {
    let counted = Counted {
        bytes,
        work,
        stopped: None,
    };
    let mut archive = tar::Archive::new(counted);
    archive.set_overwrite(true);
    let result = unpack(&mut archive, sandbox);
    match archive.into_inner().stopped {
        // What the archive reader makes of our own refusal says less.
        Some(cause) => Err(cause),
        None => result,
    }
}

fn unpack(archive: &mut tar::Archive<impl Read>, sandbox: &Path) -> Result<(), FetchCause> {
    for entry in archive.entries().map_err(FetchCause::Archive)? {
        let mut entry = entry.map_err(FetchCause::Archive)?;
        let name = entry.path().map_err(FetchCause::Archive)?.into_owned();
        let unpacked = entry
            .unpack_in(sandbox)
            .map_err(|error| refused(sandbox, &name, error))?;
        if !unpacked {
            return Err(FetchCause::Escape(name.display().to_string()));
        }
    }
    Ok(())
}

/// Tells an entry that leads out through a link from a broken archive.
fn refused(sandbox: &Path, name: &Path, error: io::Error) -> FetchCause {
    let parent = sandbox
        .join(name)
        .parent()
        .map(Path::to_owned)
        .unwrap_or_default();
    match is_inside(sandbox, &parent) {
        Ok(false) => FetchCause::Escape(name.display().to_string()),
        _ => FetchCause::Archive(error),
    }
}

fn is_inside(sandbox: &Path, path: &Path) -> io::Result<bool> {
    Ok(path.canonicalize()?.starts_with(sandbox.canonicalize()?))
}

fn unzip(file: BufReader<File>, sandbox: &Path, work: &mut Work) -> Result<(), FetchCause> {
    let broken = |error: zip::result::ZipError| FetchCause::Archive(error.into());
    let mut archive = zip::ZipArchive::new(file).map_err(broken)?;
    // Links come last, so that nothing of this archive is written through one.
    let mut links: Vec<(PathBuf, String)> = Vec::new();
    for index in 0..archive.len() {
        let mut entry = archive.by_index(index).map_err(broken)?;
        let escape = || FetchCause::Escape(entry.name().to_owned());
        let target = sandbox.join(entry.enclosed_name().ok_or_else(escape)?);
        let directory = if entry.is_dir() {
            Some(&*target)
        } else {
            target.parent()
        };
        let escape = escape();
        if let Some(directory) = directory {
            make_directory(sandbox, directory, escape)?;
        }
        if entry.is_symlink() {
            let mut link = String::new();
            let mut text = (&mut entry).take(LINK_BYTES_MAX);
            text.read_to_string(&mut link)
                .map_err(FetchCause::Archive)?;
            links.push((target, link));
        } else if !entry.is_dir() {
            let mut file = create(&target)?;
            let mode = entry.unix_mode();
            work.pour(&mut entry, &mut file, &target, &target)
                .map_err(as_archive)?;
            if let Some(mode) = mode {
                let mode = fs::Permissions::from_mode(mode & 0o777);
                file.set_permissions(mode).map_err(at(&target))?;
            }
        }
    }
    for (path, target) in links {
        symlink(target, &path).map_err(at(&path))?;
    }
    Ok(())
}

/// Makes a directory and its parents, none of which may be a link to elsewhere.
fn make_directory(sandbox: &Path, directory: &Path, escape: FetchCause) -> Result<(), FetchCause> {
    let existing = directory
        .ancestors()
        .find(|path| path.symlink_metadata().is_ok())
        .unwrap_or(sandbox);
    if !is_inside(sandbox, existing).map_err(at(existing))? {
        return Err(escape);
    }
    fs::create_dir_all(directory).map_err(at(directory))
}

/// A failure to read, while unpacking, is the archive's.
fn as_archive(cause: FetchCause) -> FetchCause {
    match cause {
        FetchCause::File { source, .. } if source.kind() == io::ErrorKind::InvalidData => {
            FetchCause::Archive(source)
        }
        FetchCause::File { source, .. } if source.kind() == io::ErrorKind::InvalidInput => {
            FetchCause::Archive(source)
        }
        FetchCause::File { source, .. } if source.kind() == io::ErrorKind::UnexpectedEof => {
            FetchCause::Archive(source)
        }
        other => other,
    }
}

/// Bytes that count towards the limits of their job.
struct Counted<'a, R> {
    bytes: R,
    work: &'a mut Work,
    stopped: Option<FetchCause>,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.bytes.read(buffer)?;
        self.work.count(read).map_err(|cause| {
            self.stopped = Some(cause);
            io::Error::other("stopped")
        })?;
        Ok(read)
    }
}
