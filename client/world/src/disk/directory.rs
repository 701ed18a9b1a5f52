//! A directory of the machine's disk, which one process at a time may use.

use std::{
    fs, io,
    io::{IoSlice, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
};

use bytes::{Buf, Bytes};

use super::{Disk, DiskFile};
use crate::BoxFuture;

/// The file that is locked while a process uses the directory.
const LOCK: &str = "lock";
/// Bytes that are appended at once where the caller is, rather than on a thread for what blocks: a request that is written where
/// it was taken in is in the processor's cache still.
const AT_ONCE: usize = 2 << 20;
/// Buffers that one system call writes at most.
const SLICES: usize = 256;

/// A directory. Clones share it.
#[derive(Clone, Debug)]
pub struct DirectoryDisk {
    directory: PathBuf,
    /// Held while any clone lives; the operating system lets go of it when the process dies.
    _lock: Arc<fs::File>,
}

impl DirectoryDisk {
    /// Opens a directory, which is made if it is missing.
    ///
    /// # Errors
    /// When it cannot be made or written, or another process uses it; the message says which and what to do.
    pub fn open(directory: impl Into<PathBuf>) -> io::Result<Self> {
        let directory = directory.into();
        let explain = |error: io::Error, what: &str| {
            io::Error::new(
                error.kind(),
                format!(
                    "cannot {what} '{}': {error}; choose another data directory or mend its permissions",
                    directory.display()
                ),
            )
        };
        fs::create_dir_all(&directory).map_err(|e| explain(e, "make the data directory"))?;
        let lock = fs::File::create(directory.join(LOCK))
            .map_err(|e| explain(e, "write in the data directory"))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(fs::TryLockError::WouldBlock) => {
                return Err(io::Error::new(
                    io::ErrorKind::ResourceBusy,
                    format!(
                        "another process uses the data directory '{}'; stop it, or choose another directory",
                        directory.display()
                    ),
                ));
            }
            Err(fs::TryLockError::Error(error)) => {
                return Err(explain(error, "lock the data directory"));
            }
        }
        Ok(Self {
            directory,
            _lock: Arc::new(lock),
        })
    }

    /// Does something that blocks with the path of a file.
    fn with<'a, T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
    ) -> BoxFuture<'a, io::Result<T>> {
        let path = self.directory.join(name);
        Box::pin(blocking(move || work(&path)))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(io::Error::other)?
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn file(file: fs::File, length: u64) -> Arc<dyn DiskFile> {
    Arc::new(DirectoryFile {
        shared: Arc::new(Shared {
            file,
            end: Mutex::new(length),
        }),
    })
}

impl Disk for DirectoryDisk {
    fn list(&self) -> BoxFuture<'_, io::Result<Vec<(String, u64)>>> {
        self.with("", |path| {
            let mut files = Vec::new();
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                let (name, metadata) = (entry.file_name(), entry.metadata()?);
                if let Some(name) = name.to_str()
                    && metadata.is_file()
                    && name != LOCK
                {
                    files.push((name.to_owned(), metadata.len()));
                }
            }
            files.sort();
            Ok(files)
        })
    }

    fn open<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Arc<dyn DiskFile>>> {
        self.with(name, |path| {
            let opened = fs::File::options().read(true).write(true).open(path)?;
            let length = opened.metadata()?.len();
            Ok(file(opened, length))
        })
    }

    fn create<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Arc<dyn DiskFile>>> {
        self.with(name, |path| {
            let made = fs::File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(true)
                .open(path)?;
            Ok(file(made, 0))
        })
    }

    fn rename<'a>(&'a self, from: &'a str, to: &'a str) -> BoxFuture<'a, io::Result<()>> {
        let to = self.directory.join(to);
        self.with(from, move |path| fs::rename(path, to))
    }

    fn reuse<'a>(
        &'a self,
        from: &'a str,
        to: &'a str,
    ) -> BoxFuture<'a, io::Result<Arc<dyn DiskFile>>> {
        let to = self.directory.join(to);
        self.with(from, move |path| {
            let opened = fs::File::options().read(true).write(true).open(path)?;
            fs::rename(path, to)?;
            Ok(file(opened, 0))
        })
    }

    fn supersede<'a>(
        &'a self,
        from: &'a str,
        to: &'a str,
        kept: &'a str,
    ) -> BoxFuture<'a, io::Result<bool>> {
        let (to, kept) = (self.directory.join(to), self.directory.join(kept));
        self.with(from, move |path| {
            remove_if_there(&kept)?;
            // Not every file system can give a file two names; where it cannot, the file goes as with any other rename.
            let linked = fs::hard_link(&to, &kept).is_ok();
            match fs::rename(path, &to) {
                Ok(()) => Ok(linked),
                Err(error) => {
                    remove_if_there(&kept)?;
                    Err(error)
                }
            }
        })
    }

    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<()>> {
        self.with(name, remove_if_there)
    }

    fn sync_directory(&self) -> BoxFuture<'_, io::Result<()>> {
        self.with("", |path| fs::File::open(path)?.sync_all())
    }
}

struct DirectoryFile {
    shared: Arc<Shared>,
}

struct Shared {
    file: fs::File,
    /// Where the next append goes. Locked while one is under way.
    end: Mutex<u64>,
}

impl Shared {
    fn append(&self, parts: &mut [Bytes]) -> io::Result<()> {
        let mut end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        let mut file = &self.file;
        file.seek(SeekFrom::Start(*end))?;
        match write_all(file, parts) {
            Ok(written) => {
                *end += written;
                Ok(())
            }
            Err(error) => {
                // What came of it is cut off, so that the next append begins where this one did.
                self.file.set_len(*end)?;
                Err(error)
            }
        }
    }

    fn read(&self, offset: u64, length: usize) -> io::Result<Bytes> {
        // Reading moves the place at which an append would write.
        let end = self.end.lock().unwrap_or_else(PoisonError::into_inner);
        let there = end.saturating_sub(offset).min(length as u64);
        let mut content = Vec::with_capacity(usize::try_from(there).unwrap_or(usize::MAX));
        let mut file = &self.file;
        file.seek(SeekFrom::Start(offset))?;
        file.take(there).read_to_end(&mut content)?;
        Ok(content.into())
    }
}

fn write_all(mut file: &fs::File, mut parts: &mut [Bytes]) -> io::Result<u64> {
    let mut total = 0;
    loop {
        while parts.first().is_some_and(Bytes::is_empty) {
            parts = &mut parts[1..];
        }
        if parts.is_empty() {
            return Ok(total);
        }
        let slices: Vec<_> = parts.iter().take(SLICES).map(|p| IoSlice::new(p)).collect();
        let mut written = match file.write_vectored(&slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => written,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        total += written as u64;
        for part in parts.iter_mut() {
            let from_this = written.min(part.len());
            part.advance(from_this);
            written -= from_this;
            if written == 0 {
                break;
            }
        }
    }
}

impl DiskFile for DirectoryFile {
    fn append(&self, mut parts: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>> {
        let bytes: usize = parts.iter().map(Bytes::len).sum();
        if bytes <= AT_ONCE {
            // Into the system's cache that takes a tenth of a millisecond each MiB: less than it costs all who share the
            // processors to wake another thread, and to be woken by it.
            return Box::pin(async move { self.shared.append(&mut parts) });
        }
        let shared = Arc::clone(&self.shared);
        Box::pin(blocking(move || shared.append(&mut parts)))
    }

    fn sync(&self) -> BoxFuture<'_, io::Result<()>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(blocking(move || shared.file.sync_data()))
    }

    fn read(&self, offset: u64, length: usize) -> BoxFuture<'_, io::Result<Bytes>> {
        let shared = Arc::clone(&self.shared);
        Box::pin(blocking(move || shared.read(offset, length)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_in_use_and_one_that_cannot_be_made_are_refused_with_the_reason() {
        let directory = tempfile::tempdir().unwrap();
        let first = DirectoryDisk::open(directory.path()).unwrap();
        let error = DirectoryDisk::open(directory.path()).unwrap_err();
        assert!(error.to_string().contains("another process"), "{error}");
        drop(first);
        assert!(DirectoryDisk::open(directory.path()).is_ok());
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let error = DirectoryDisk::open(file.join("below")).unwrap_err();
        assert!(error.to_string().contains("cannot make"), "{error}");
    }

    #[tokio::test]
    async fn many_small_parts_arrive_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let disk = DirectoryDisk::open(directory.path()).unwrap();
        let file = disk.create("parts").await.unwrap();
        let parts: Vec<u8> = (0..1000_u32).map(|i| i as u8).collect();
        let pieces = parts.chunks(3).map(Bytes::copy_from_slice).collect();
        file.append(pieces).await.unwrap();
        assert_eq!(file.read(0, usize::MAX).await.unwrap(), parts);
    }
}
