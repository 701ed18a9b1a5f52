//! Small files that are replaced as a whole, on any disk.

use std::{io, sync::Arc};

use super::{Disk, load, replace};
use crate::{BoxFuture, Storage};

/// [`Storage`] over a [`Disk`].
#[derive(Clone)]
pub struct Files {
    disk: Arc<dyn Disk>,
}

impl Files {
    /// The small files of a disk.
    pub fn new(disk: Arc<dyn Disk>) -> Self {
        Self { disk }
    }
}

impl Storage for Files {
    fn load<'a>(&'a self, name: &'a str) -> BoxFuture<'a, io::Result<Option<Vec<u8>>>> {
        Box::pin(async move { Ok(load(&*self.disk, name).await?.map(Vec::from)) })
    }

    fn store<'a>(&'a self, name: &'a str, content: Vec<u8>) -> BoxFuture<'a, io::Result<()>> {
        Box::pin(async move { replace(&*self.disk, name, vec![content.into()]).await })
    }
}
