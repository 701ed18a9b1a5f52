//! Opening and creating models.

use std::marker::PhantomData;

use glint_protocol::{
    Durability, Element, ModelDraft, ModelId, Partitioning, Partitions, Rule, Shape,
    control::CreateModel,
};

use crate::{Client, Error, Matrix, Result, Vector};

macro_rules! builder {
    ($(#[$doc:meta])* $name:ident opens $opens:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug)]
        #[must_use = "a builder does nothing before `open`, `create` or `open_or_create`"]
        pub struct $name<T> {
            client: Client,
            draft: ModelDraft,
            element: PhantomData<T>,
        }

        impl<T: Element> $name<T> {
            pub(crate) fn new(client: Client, name: String, shape: Shape) -> Self {
                Self {
                    client,
                    draft: ModelDraft::new(name, shape, T::TYPE),
                    element: PhantomData,
                }
            }

            /// How keys are spread over partitions: by range unless said otherwise.
            pub fn partitioning(mut self, partitioning: Partitioning) -> Self {
                self.draft.partitioning = partitioning;
                self
            }

            /// Lays the model out by the partitioner that this client has registered under `name`.
            ///
            /// # Errors
            /// [`Error::InvalidSpec`] when there is none.
            pub fn partitioner(mut self, name: &str) -> Result<Self> {
                let Some(partitioner) = self.client.partitioner(name) else {
                    return Err(Error::InvalidSpec {
                        message: format!(
                            "no partitioner '{name}' is registered with this client; register it when you build the client"
                        ),
                    });
                };
                self.draft.partitioning = Partitioning::Named {
                    name: name.to_owned(),
                    sizes: partitioner.sizes(),
                };
                Ok(self)
            }

            /// Exactly so many partitions (at most one per key). By size unless said otherwise.
            pub fn partitions(mut self, count: u32) -> Self {
                self.draft.partitions = Partitions::Exactly(count);
                self
            }

            /// So many partitions per server that the cluster has when the model is created.
            pub fn partitions_per_server(mut self, count: u32) -> Self {
                self.draft.partitions = Partitions::PerServer(count);
                self
            }

            /// Every value at the start: 0 unless said otherwise.
            pub fn initial(mut self, value: T) -> Self {
                self.draft.initial = value.scalar();
                self
            }

            /// How pushes are merged into what is there: added unless said otherwise.
            pub fn rule(mut self, rule: Rule) -> Self {
                self.draft.rule = rule;
                self
            }

            /// What an acknowledged push survives: as the cluster has it unless said otherwise.
            pub fn durability(mut self, durability: Durability) -> Self {
                self.draft.durability = Some(durability);
                self
            }

            /// How many copies of each partition there shall be, 1 to 3, each on another server: as the cluster has it unless said
            /// otherwise. With more than one, the loss of a server loses nothing, and another takes over.
            pub fn copies(mut self, count: u8) -> Self {
                self.draft.copies = Some(count);
                self
            }

            /// How many copies must be in sync for a push to be taken: 1 unless said otherwise. With fewer, pushes wait.
            pub fn min_in_sync(mut self, count: u8) -> Self {
                self.draft.min_in_sync = Some(count);
                self
            }

            /// Opens the model, which must exist and be as this builder says.
            ///
            /// # Errors
            /// [`Error::UnknownModel`], [`Error::WrongElement`], [`Error::SpecMismatch`] with the differences.
            pub async fn open(self) -> Result<$opens<T>> {
                let map = self.client.map(&self.draft.name).await?;
                if self.draft.shape.is_matrix() == map.spec.shape.is_matrix()
                    && self.draft.element == map.spec.element
                {
                    let differences = self.draft.differences(&map.spec);
                    if !differences.is_empty() {
                        return Err(Error::SpecMismatch {
                            model: self.draft.name,
                            differences,
                        });
                    }
                }
                $opens::open(&self.client, map)
            }

            /// Creates the model, which must not exist. It outlives this client, until it is deleted.
            ///
            /// # Errors
            /// [`Error::AlreadyExists`], [`Error::InvalidSpec`], [`Error::DoesNotFit`], [`Error::NoServers`].
            pub async fn create(self) -> Result<$opens<T>> {
                self.make(false).await
            }

            /// Opens the model if there is one with the same spec, else creates it.
            ///
            /// # Errors
            /// [`Error::SpecMismatch`] with the differences, and those of [`Self::create`].
            pub async fn open_or_create(self) -> Result<$opens<T>> {
                self.make(true).await
            }

            async fn make(self, or_open: bool) -> Result<$opens<T>> {
                self.draft
                    .validate()
                    .map_err(|e| Error::InvalidSpec { message: e.message })?;
                let create = CreateModel {
                    id: ModelId(self.client.shared.world.random.bits()),
                    model: self.draft,
                    or_open,
                };
                let map = self.client.create(&create).await?;
                $opens::open(&self.client, map)
            }
        }
    };
}

builder! {
    /// A vector to be opened or created: [`Client::vector`].
    VectorBuilder opens Vector
}
builder! {
    /// A matrix to be opened or created: [`Client::matrix`].
    MatrixBuilder opens Matrix
}
