//! Files of one directory: appended to, synced, replaced and removed. What a log and its snapshots are made of.
//!
//! What a crash leaves is part of the interface, so that a simulation can do its worst. A crash of the *process* keeps all
//! that was appended. A crash of the *machine* keeps what was synced; of what was appended since, any pages in any order,
//! or none. A file made, renamed or removed is durably so once [`Disk::sync_directory`] has returned.

use std::{io, sync::Arc};

use bytes::Bytes;

use crate::BoxFuture;

mod directory;
mod faulty;
mod files;
mod memory;

pub use directory::DirectoryDisk;
pub use faulty::{FaultyDisk, Operation};
pub use files::Files;
pub use memory::MemoryDisk;

/// One directory of files, without directories below it.
pub trait Disk: Send + Sync {
    /// Every file with its length in bytes, in the order of their names.
    fn list(&self) -> BoxFuture<'_, io::Result<Vec<(String, u64)>>>;
    /// Opens a file that is there, to be read or appended to.
    fn open<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Arc<dyn DiskFile>>>;
    /// Makes an empty file; one that has the name is emptied.
    fn create<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Arc<dyn DiskFile>>>;
    /// Gives a file another name, in one step; a file that has that name goes.
    fn rename<'a>(&'a self, from: &'a str, to: &'a str) -> BoxFuture<'a, io::Result<()>>;
    /// Gives a file another name, in one step, and opens it to be written over from its beginning: what it has stays until then,
    /// and its length never shrinks. Pages that the system has already are filled much faster than fresh ones. A crash of the
    /// machine leaves, of what was appended since without a sync, any pages as they were before.
    fn reuse<'a>(
        &'a self,
        from: &'a str,
        to: &'a str,
    ) -> BoxFuture<'a, io::Result<Arc<dyn DiskFile>>>;
    /// Gives a file another name, in one step; a file that has that name stays as it is, under the name `kept`, where the system
    /// can do that. Says whether it is there: it may be used again once the directory was synced, not before, since a crash of
    /// the machine may bring its former name back.
    fn supersede<'a>(
        &'a self,
        from: &'a str,
        to: &'a str,
        kept: &'a str,
    ) -> BoxFuture<'a, io::Result<bool>>;
    /// Removes a file; that there is none is fine.
    fn remove<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<()>>;
    /// Makes every file made, renamed or removed before durably so.
    fn sync_directory(&self) -> BoxFuture<'_, io::Result<()>>;
}

impl std::fmt::Debug for dyn Disk {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Disk")
    }
}

/// One file. Shared: it may be synced while it is appended to; only one task appends.
pub trait DiskFile: Send + Sync {
    /// Appends all parts, one after another: at the end of the file, or, of one that is used again, behind what was appended
    /// since. After an error (such as a full disk) the next append goes where this one went.
    fn append(&self, parts: Vec<Bytes>) -> BoxFuture<'_, io::Result<()>>;
    /// Makes everything appended before durable. After an error nobody knows what is: never call it again as if nothing
    /// had happened, since the system may have dropped the very bytes that it could not write.
    fn sync(&self) -> BoxFuture<'_, io::Result<()>>;
    /// Up to `length` bytes from `offset` on; fewer only at the end of what was appended.
    fn read(&self, offset: u64, length: usize) -> BoxFuture<'_, io::Result<Bytes>>;
}

/// Writes a whole file so that after a crash at any instant it has its old content or its new one: under another name,
/// synced, renamed, and the directory synced. When it returns `Ok`, the content survives a crash of the machine.
///
/// # Errors
/// Those of the disk; the file keeps its old content then.
pub async fn replace(disk: &dyn Disk, name: &str, parts: Vec<Bytes>) -> io::Result<()> {
    let temporary = format!("{name}{PARTIAL}");
    let file = disk.create(&temporary).await?;
    file.append(parts).await?;
    file.sync().await.map_err(unsynced)?;
    disk.rename(&temporary, name).await?;
    disk.sync_directory().await.map_err(unsynced)
}

/// A failed sync, inside an [`io::Error`]: nobody knows what the disk has. Whoever meets it ends, and begins again from
/// what the disk gives back.
#[derive(Debug, thiserror::Error)]
#[error("the disk did not sync: {0}")]
struct Unsynced(#[source] io::Error);

/// Marks an error as that of a sync, for [`is_unsynced`].
pub fn unsynced(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), Unsynced(error))
}

/// Whether [`replace`] failed in a sync, or the error was marked as that of one by [`unsynced`]: nobody knows what the disk
/// has.
pub fn is_unsynced(error: &io::Error) -> bool {
    error
        .get_ref()
        .is_some_and(<dyn std::error::Error + Send + Sync>::is::<Unsynced>)
}

/// How the name of a file ends that is not yet whole: left behind by a crash, it means nothing.
pub const PARTIAL: &str = ".partial";

/// The whole content of a file; none when there is no such file.
///
/// # Errors
/// Those of the disk.
pub async fn load(disk: &dyn Disk, name: &str) -> io::Result<Option<Bytes>> {
    let file = match disk.open(name).await {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    file.read(0, usize::MAX).await.map(Some)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn behaves_like_a_directory(disk: &dyn Disk) {
        assert_eq!(load(disk, "a").await.unwrap(), None);
        assert!(disk.open("a").await.is_err());
        let file = disk.create("a").await.unwrap();
        let parts = [&b"one "[..], b"", b"two"].map(Bytes::from_static);
        file.append(parts.to_vec()).await.unwrap();
        file.sync().await.unwrap();
        file.append(vec![Bytes::from_static(b" three")])
            .await
            .unwrap();
        assert_eq!(file.read(4, 3).await.unwrap(), "two");
        assert_eq!(file.read(8, 100).await.unwrap(), "three");
        assert_eq!(file.read(100, 1).await.unwrap(), "");
        disk.sync_directory().await.unwrap();
        let again = disk.open("a").await.unwrap();
        again.append(vec![Bytes::from_static(b"!")]).await.unwrap();
        assert_eq!(load(disk, "a").await.unwrap().unwrap(), "one two three!");

        replace(disk, "b", vec![Bytes::from_static(b"old")])
            .await
            .unwrap();
        replace(disk, "b", vec![Bytes::from_static(b"new")])
            .await
            .unwrap();
        let files = disk.list().await.unwrap();
        assert_eq!(files, [("a".into(), 14), ("b".into(), 3)]);
        disk.rename("a", "b").await.unwrap();
        assert_eq!(disk.list().await.unwrap(), [("b".into(), 14)]);
        disk.create("b").await.unwrap();
        assert_eq!(disk.list().await.unwrap(), [("b".into(), 0)]);
        let old = disk.open("b").await.unwrap();
        old.append(vec![Bytes::from_static(b"0123456789")])
            .await
            .unwrap();
        let again = disk.reuse("b", "c").await.unwrap();
        again
            .append(vec![Bytes::from_static(b"one")])
            .await
            .unwrap();
        again
            .append(vec![Bytes::from_static(b"two")])
            .await
            .unwrap();
        assert_eq!(again.read(0, 100).await.unwrap(), "onetwo");
        again.sync().await.unwrap();
        assert_eq!(disk.list().await.unwrap(), [("c".into(), 10)]);
        assert_eq!(load(disk, "c").await.unwrap().unwrap(), "onetwo6789");
        assert!(disk.reuse("b", "d").await.is_err());

        replace(disk, "e", vec![Bytes::from_static(b"new")])
            .await
            .unwrap();
        assert!(!disk.supersede("e", "f", "kept").await.unwrap());
        replace(disk, "kept", vec![Bytes::from_static(b"older")])
            .await
            .unwrap();
        assert!(disk.supersede("c", "f", "kept").await.unwrap());
        let files = disk.list().await.unwrap();
        assert_eq!(files, [("f".into(), 10), ("kept".into(), 3)]);
        let kept = disk.reuse("kept", "g").await.unwrap();
        kept.append(vec![Bytes::from_static(b"over")])
            .await
            .unwrap();
        assert_eq!(load(disk, "f").await.unwrap().unwrap(), "onetwo6789");
        assert_eq!(load(disk, "g").await.unwrap().unwrap(), "over");
        assert!(disk.supersede("kept", "f", "g").await.is_err());
        disk.remove("g").await.unwrap();
        disk.rename("f", "c").await.unwrap();
        disk.rename("c", "b").await.unwrap();
        disk.remove("b").await.unwrap();
        disk.remove("b").await.unwrap();
        assert!(disk.list().await.unwrap().is_empty());
        assert!(disk.rename("b", "c").await.is_err());
    }

    #[tokio::test]
    async fn disks_behave_like_directories() {
        behaves_like_a_directory(&MemoryDisk::default()).await;
        let directory = tempfile::tempdir().unwrap();
        behaves_like_a_directory(&DirectoryDisk::open(directory.path()).unwrap()).await;
    }
}
