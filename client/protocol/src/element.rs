//! Element types: what the values of a model are, in memory, on the wire (little-endian) and in JSON.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// The type of a model's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum ElementType {
    /// 32-bit signed integer; sums wrap around.
    I32 = 1,
    /// 64-bit signed integer; sums wrap around.
    I64 = 2,
    /// IEEE 754 single precision. NaN and the infinities are values like others.
    F32 = 3,
    /// IEEE 754 double precision. NaN and the infinities are values like others.
    F64 = 4,
}

impl ElementType {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::I32, Self::I64, Self::F32, Self::F64];

    /// Bytes of one value.
    pub const fn size(self) -> usize {
        match self {
            Self::I32 | Self::F32 => 4,
            Self::I64 | Self::F64 => 8,
        }
    }

    /// The type with this code in a frame.
    pub const fn from_code(code: u8) -> Option<Self> {
        match code {
            1 => Some(Self::I32),
            2 => Some(Self::I64),
            3 => Some(Self::F32),
            4 => Some(Self::F64),
            _ => None,
        }
    }

    /// Its code in a frame.
    pub const fn code(self) -> u8 {
        self as u8
    }

    /// Its name: `i32`, `i64`, `f32`, `f64`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::I32 => "i32",
            Self::I64 => "i64",
            Self::F32 => "f32",
            Self::F64 => "f64",
        }
    }
}

impl fmt::Display for ElementType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl std::str::FromStr for ElementType {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|e| e.name() == text)
            .ok_or_else(|| format!("'{text}' is not an element type: use i32, i64, f32 or f64"))
    }
}

mod sealed {
    pub trait Sealed {}
}

/// A Rust type that a model's values can have: `i32`, `i64`, `f32` or `f64`.
pub trait Element:
    sealed::Sealed
    + Copy
    + Send
    + Sync
    + Default
    + PartialEq
    + PartialOrd
    + fmt::Debug
    + fmt::Display
    + 'static
{
    /// Its element type.
    const TYPE: ElementType;
    /// Bytes of one value.
    const SIZE: usize;

    /// Reads one value.
    ///
    /// # Panics
    /// When `bytes` is not [`Self::SIZE`] bytes long.
    fn from_le(bytes: &[u8]) -> Self;
    /// Writes one value.
    ///
    /// # Panics
    /// When `bytes` is not [`Self::SIZE`] bytes long.
    fn write_le(self, bytes: &mut [u8]);
    /// The sum: integers wrap around, floats round once.
    #[must_use]
    fn plus(self, other: Self) -> Self;
    /// The greater: for floats as IEEE 754-2019 `maximum` orders them, a NaN wins and +0 is above −0.
    #[must_use]
    fn greater(self, other: Self) -> Self;
    /// The lesser: for floats as IEEE 754-2019 `minimum` orders them, a NaN wins and −0 is below +0.
    #[must_use]
    fn lesser(self, other: Self) -> Self;
    /// As a scalar.
    fn scalar(self) -> Scalar;
    /// From a scalar of any type, if it is exactly representable (floats: rounded).
    fn from_scalar(scalar: Scalar) -> Option<Self>;

    /// Decodes values that lie one after another; reads as many as both sides have.
    fn decode(bytes: &[u8], out: &mut [Self]) {
        for (value, bytes) in out.iter_mut().zip(bytes.chunks_exact(Self::SIZE)) {
            *value = Self::from_le(bytes);
        }
    }

    /// Encodes values one after another; writes as many as both sides have.
    fn encode(values: &[Self], out: &mut [u8]) {
        for (bytes, value) in out.chunks_exact_mut(Self::SIZE).zip(values) {
            value.write_le(bytes);
        }
    }

    /// Appends encoded values, at the speed of a copy.
    fn append(values: &[Self], out: &mut Vec<u8>);
}

macro_rules! element {
    ($type:ty, $variant:ident, $plus:expr, $greater:expr, $lesser:expr, $from:expr) => {
        impl sealed::Sealed for $type {}

        impl Element for $type {
            const TYPE: ElementType = ElementType::$variant;
            const SIZE: usize = size_of::<$type>();

            #[inline]
            fn from_le(bytes: &[u8]) -> Self {
                let mut array = [0; size_of::<$type>()];
                array.copy_from_slice(bytes);
                Self::from_le_bytes(array)
            }

            #[inline]
            fn write_le(self, bytes: &mut [u8]) {
                bytes.copy_from_slice(&self.to_le_bytes());
            }

            #[inline]
            fn plus(self, other: Self) -> Self {
                $plus(self, other)
            }

            #[inline]
            fn greater(self, other: Self) -> Self {
                $greater(self, other)
            }

            #[inline]
            fn lesser(self, other: Self) -> Self {
                $lesser(self, other)
            }

            fn append(values: &[Self], out: &mut Vec<u8>) {
                // The length is known, so that nothing is filled with zeros first, and this becomes one copy.
                out.extend(values.iter().flat_map(|value| value.to_le_bytes()));
            }

            fn scalar(self) -> Scalar {
                Scalar::from(self)
            }

            fn from_scalar(scalar: Scalar) -> Option<Self> {
                $from(scalar)
            }
        }
    };
}

macro_rules! float_order {
    ($type:ty, $name:ident, $wins:ident) => {
        fn $name(a: $type, b: $type) -> $type {
            if a.is_nan() {
                a
            } else if b.is_nan() {
                b
            } else if a.total_cmp(&b).$wins() {
                a
            } else {
                b
            }
        }
    };
}
float_order!(f32, greater_f32, is_ge);
float_order!(f32, lesser_f32, is_le);
float_order!(f64, greater_f64, is_ge);
float_order!(f64, lesser_f64, is_le);

element!(
    i32,
    I32,
    i32::wrapping_add,
    Ord::max,
    Ord::min,
    |s| match s {
        Scalar::Integer(v) => i32::try_from(v).ok(),
        Scalar::Float(_) => None,
    }
);
element!(
    i64,
    I64,
    i64::wrapping_add,
    Ord::max,
    Ord::min,
    |s| match s {
        Scalar::Integer(v) => Some(v),
        Scalar::Float(_) => None,
    }
);
element!(
    f32,
    F32,
    |a, b| a + b,
    greater_f32,
    lesser_f32,
    |s| match s {
        Scalar::Integer(v) => Some(v as f32),
        Scalar::Float(v) =>
            (v.is_nan() || v.is_infinite() || v.abs() <= f64::from(f32::MAX)).then_some(v as f32),
    }
);
element!(
    f64,
    F64,
    |a, b| a + b,
    greater_f64,
    lesser_f64,
    |s| match s {
        Scalar::Integer(v) => Some(v as f64),
        Scalar::Float(v) => Some(v),
    }
);

/// One value of any element type, as in JSON: a number, or one of the strings `"NaN"`, `"Infinity"`, `"-Infinity"`,
/// which JSON has no numbers for.
#[derive(Clone, Copy, Debug)]
pub enum Scalar {
    /// An integer.
    Integer(i64),
    /// A float.
    Float(f64),
}

#[cfg(feature = "openapi")]
impl utoipa::PartialSchema for Scalar {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::schema::Schema> {
        use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Type};
        OneOfBuilder::new()
            .item(ObjectBuilder::new().schema_type(Type::Number))
            .item(
                ObjectBuilder::new()
                    .schema_type(Type::String)
                    .enum_values(Some(["NaN", "Infinity", "-Infinity"])),
            )
            .into()
    }
}

#[cfg(feature = "openapi")]
impl utoipa::ToSchema for Scalar {}

impl PartialEq for Scalar {
    fn eq(&self, other: &Self) -> bool {
        match (*self, *other) {
            (Self::Integer(a), Self::Integer(b)) => a == b,
            (Self::Float(a), Self::Float(b)) => a == b || (a.is_nan() && b.is_nan()),
            (Self::Integer(a), Self::Float(b)) | (Self::Float(b), Self::Integer(a)) => {
                a as f64 == b
            }
        }
    }
}

impl Scalar {
    /// Whether a value of this element type can hold it: integers in range and whole, floats finite or spelled out.
    pub fn fits(self, element: ElementType) -> bool {
        match element {
            ElementType::I32 => i32::from_scalar(self).is_some(),
            ElementType::I64 => i64::from_scalar(self).is_some(),
            ElementType::F32 => f32::from_scalar(self).is_some(),
            ElementType::F64 => true,
        }
    }

    /// Appends it as a value of this element type; false (and nothing appended) when it does not fit.
    pub fn append(self, element: ElementType, out: &mut Vec<u8>) -> bool {
        fn put<T: Element>(scalar: Scalar, out: &mut Vec<u8>) -> bool {
            T::from_scalar(scalar)
                .map(|v| T::append(&[v], out))
                .is_some()
        }
        match element {
            ElementType::I32 => put::<i32>(self, out),
            ElementType::I64 => put::<i64>(self, out),
            ElementType::F32 => put::<f32>(self, out),
            ElementType::F64 => put::<f64>(self, out),
        }
    }
}

impl Default for Scalar {
    fn default() -> Self {
        Self::Integer(0)
    }
}

impl From<i32> for Scalar {
    fn from(value: i32) -> Self {
        Self::Integer(value.into())
    }
}
impl From<i64> for Scalar {
    fn from(value: i64) -> Self {
        Self::Integer(value)
    }
}
impl From<f32> for Scalar {
    fn from(value: f32) -> Self {
        Self::Float(value.into())
    }
}
impl From<f64> for Scalar {
    fn from(value: f64) -> Self {
        Self::Float(value)
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::Integer(v) => v.fmt(f),
            Self::Float(v) if v.is_nan() => f.write_str("NaN"),
            Self::Float(v) if v.is_infinite() => {
                f.write_str(if v > 0.0 { "Infinity" } else { "-Infinity" })
            }
            Self::Float(v) => write!(f, "{v:?}"),
        }
    }
}

impl std::str::FromStr for Scalar {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Ok(integer) = text.parse() {
            return Ok(Self::Integer(integer));
        }
        match text.parse::<f64>() {
            Ok(float) => Ok(Self::Float(float)),
            Err(_) => Err(format!(
                "'{text}' is not a number: give one such as 3, -0.5, 1e-3, NaN or Infinity"
            )),
        }
    }
}

impl Serialize for Scalar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Self::Integer(v) => serializer.serialize_i64(v),
            Self::Float(v) if v.is_finite() => serializer.serialize_f64(v),
            Self::Float(_) => serializer.collect_str(self),
        }
    }
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, or one of the strings \"NaN\", \"Infinity\", \"-Infinity\"")
            }

            fn visit_i64<E>(self, v: i64) -> Result<Scalar, E> {
                Ok(Scalar::Integer(v))
            }

            fn visit_u64<E: de::Error>(self, v: u64) -> Result<Scalar, E> {
                // Above i64 it can only be meant as a float; integer models refuse it, since it does not fit.
                Ok(i64::try_from(v).map_or(Scalar::Float(v as f64), Scalar::Integer))
            }

            fn visit_f64<E>(self, v: f64) -> Result<Scalar, E> {
                Ok(Scalar::Float(v))
            }

            fn visit_str<E: de::Error>(self, text: &str) -> Result<Scalar, E> {
                match text {
                    "NaN" => Ok(Scalar::Float(f64::NAN)),
                    "Infinity" => Ok(Scalar::Float(f64::INFINITY)),
                    "-Infinity" => Ok(Scalar::Float(f64::NEG_INFINITY)),
                    _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
                }
            }
        }
        deserializer.deserialize_any(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maximum_and_minimum_follow_ieee_754_2019() {
        assert!(1.0f32.greater(f32::NAN).is_nan());
        assert!(f64::NAN.lesser(1.0).is_nan());
        assert!((-0.0f32).greater(0.0).is_sign_positive());
        assert!(0.0f64.lesser(-0.0).is_sign_negative());
        assert_eq!(2.0f32.greater(f32::INFINITY), f32::INFINITY);
    }

    #[test]
    fn integer_sums_wrap_around() {
        assert_eq!(i32::MAX.plus(1), i32::MIN);
        assert_eq!(i64::MIN.plus(-1), i64::MAX);
    }

    #[test]
    fn a_number_that_does_not_fit_the_type_is_recognised() {
        for (text, element, fits) in [
            ("2147483648", ElementType::I32, false),
            ("2147483647", ElementType::I32, true),
            ("0.5", ElementType::I64, false),
            ("9223372036854775808", ElementType::I64, false),
            ("1e39", ElementType::F32, false),
            ("\"Infinity\"", ElementType::F32, true),
            ("\"NaN\"", ElementType::F64, true),
            ("\"NaN\"", ElementType::I32, false),
        ] {
            let scalar: Scalar = serde_json::from_str(text).unwrap();
            assert_eq!(scalar.fits(element), fits, "{text} as {element}");
            assert_eq!(scalar.append(element, &mut Vec::new()), fits);
        }
        assert!(serde_json::from_str::<Scalar>("\"many\"").is_err());
    }

    #[test]
    fn scalars_survive_json_and_text() {
        for scalar in [
            Scalar::Integer(i64::MIN),
            Scalar::Float(0.1),
            Scalar::Float(f64::NAN),
            Scalar::Float(f64::NEG_INFINITY),
        ] {
            assert_eq!(
                serde_json::from_str::<Scalar>(&serde_json::to_string(&scalar).unwrap()).unwrap(),
                scalar
            );
            assert_eq!(scalar.to_string().parse::<Scalar>().unwrap(), scalar);
        }
    }
}
