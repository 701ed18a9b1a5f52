//! Names of things: newtypes, so that an epoch is never passed for a position.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

macro_rules! counter {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[serde(transparent)]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl $name {
            /// The one after this.
            #[must_use]
            pub const fn next(self) -> Self {
                Self(self.0 + 1)
            }
        }
    };
}

macro_rules! random_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        ///
        /// Random 64 bits; in JSON and in text 16 hexadecimal digits, since many JSON readers round large numbers.
        #[derive(Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        #[cfg_attr(feature = "openapi", schema(value_type = String, examples("00f3a1b2c3d4e5f6")))]
        pub struct $name(pub u64);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:016x}", self.0)
            }
        }

        impl FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                parse_hex(text).map(Self)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = String::deserialize(deserializer)?;
                text.parse().map_err(de::Error::custom)
            }
        }
    };
}

fn parse_hex(text: &str) -> Result<u64, String> {
    if text.is_empty() || text.len() > 16 || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Err(format!(
            "'{text}' is not an id: give 1 to 16 hexadecimal digits"
        ));
    }
    u64::from_str_radix(text, 16).map_err(|e| e.to_string())
}

random_id! {
    /// One model, from its creation to its deletion. A model made again under its name has another id.
    ModelId
}
random_id! {
    /// One cluster: made by a master that starts with empty storage.
    ClusterId
}
random_id! {
    /// One start of a server process. What a `memory` copy acknowledged lives as long as its boot.
    Boot
}

random_id! {
    /// One data directory of a server, from its first use on: another one is another copy of what it held.
    VolumeId
}
random_id! {
    /// One start of a machine's operating system. What an `async` copy acknowledged lives as long, or until it is synced.
    OsBoot
}

random_id! {
    /// One request of an admin: the same in every copy of it.
    RequestId
}

counter! {
    /// Who may serve a partition: rises when its holder changes or restarts. From one counter of the master, never reused.
    Epoch
}
counter! {
    /// Position in the log of a partition: how many records it has applied. (epoch, position) names a record for ever.
    Position
}
counter! {
    /// The number of a request of a lane: rises by one per request, starts at 1; 0 stands for "none yet".
    Number
}
counter! {
    /// One start of the master: rises durably at each, and is in every order, so that a late order of an earlier one is refused.
    Term
}
counter! {
    /// Revision of what the master knows of a model's partitions; rises at every change.
    Revision
}

/// A model together with how often it was reset or restored: what every pull, push and order carries.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Incarnation {
    /// The model.
    pub model: ModelId,
    /// 1 when created; raised by each reset or restore.
    pub generation: u32,
}

impl fmt::Display for Incarnation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.model, self.generation)
    }
}

/// A stream of numbered pushes of a client.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LaneId {
    /// When it was opened, in milliseconds since 1970 by the client's clock, raised above the highest horizon heard.
    pub birth: u64,
    /// Tells lanes of one birth apart.
    #[serde(with = "hex")]
    #[cfg_attr(feature = "openapi", schema(value_type = String, examples("9f86d081884c7d65")))]
    pub random: u64,
}

impl fmt::Debug for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{:016x}", self.birth, self.random)
    }
}

impl fmt::Display for LaneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

mod hex {
    use super::{Deserialize, Deserializer, Serializer, de, parse_hex};

    #[allow(
        clippy::trivially_copy_pass_by_ref,
        reason = "serde asks for a reference"
    )]
    pub(super) fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{value:016x}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        parse_hex(&String::deserialize(deserializer)?).map_err(de::Error::custom)
    }
}

/// The name of a server: given by its operator or admin, the same over restarts (a pod's name, for example).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(transparent)]
pub struct ServerId(pub String);

impl fmt::Display for ServerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_hexadecimal_text_in_json() {
        let id = ModelId(0x00f3_a1b2_c3d4_e5f6);
        let json = serde_json::to_string(&id).unwrap();
        assert_eq!(json, "\"00f3a1b2c3d4e5f6\"");
        assert_eq!(serde_json::from_str::<ModelId>(&json).unwrap(), id);
        let lane = LaneId {
            birth: 7,
            random: u64::MAX,
        };
        assert_eq!(
            serde_json::to_string(&lane).unwrap(),
            r#"{"birth":7,"random":"ffffffffffffffff"}"#
        );
        assert_eq!(
            serde_json::from_str::<LaneId>(&serde_json::to_string(&lane).unwrap()).unwrap(),
            lane
        );
    }

    #[test]
    fn what_is_not_an_id_is_refused_with_a_reason() {
        for text in ["", "xyz", "+1", "00000000000000001"] {
            let error = text.parse::<ModelId>().unwrap_err();
            assert!(error.contains("hexadecimal"), "{error}");
        }
    }
}
