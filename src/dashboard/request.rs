//! What a page asks: a range of days, a grain, a seller, and values to filter by.
//!
//! ```text
//!   range=7d&grain=hour&seller=S001&state=Goa&city=Pune&category=Books&product=Atlas&product=Novel ─▶ Request
//! ```
//!
//! Values of one dimension add up, dimensions narrow. States and cities are one dimension: places.

use std::collections::BTreeSet;

use crate::dashboard::period::{Grain, Range};
use crate::error::{Error, ErrorKind, Result};

/// Values that one request may filter by, in all.
pub const VALUES_MAX: usize = 100;

/// Bytes of one value.
pub const VALUE_BYTES_MAX: usize = 256;

/// See the module.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Request {
    /// The days.
    pub range: Range,
    /// The step of the trend.
    pub grain: Grain,
    /// One seller of those that the caller sees; all of them without.
    pub seller: Option<String>,
    /// Cities by their state.
    pub states: BTreeSet<String>,
    /// Cities.
    pub cities: BTreeSet<String>,
    /// Categories of products.
    pub categories: BTreeSet<String>,
    /// Products by name.
    pub products: BTreeSet<String>,
}

impl Request {
    /// Read the pairs of a query string. Names that are not known are left alone.
    ///
    /// # Errors
    /// `Query` for a value that cannot be, or too many of them.
    pub fn read<'a>(pairs: impl Iterator<Item = (impl AsRef<str> + 'a, impl AsRef<str> + 'a)>) -> Result<Self> {
        let mut request = Self::default();
        let (mut grain, mut count) = (None, 0);
        for (name, value) in pairs {
            let value = value.as_ref();
            let mut set = |set: fn(&mut Self) -> &mut BTreeSet<String>, request: &mut Self| {
                count += 1;
                if count > VALUES_MAX || value.len() > VALUE_BYTES_MAX {
                    return Err(too_much());
                }
                set(request).insert(value.to_string());
                Ok(())
            };
            match name.as_ref() {
                "range" => request.range = value.parse()?,
                "grain" => grain = Some(value.parse()?),
                "seller" if value.len() > VALUE_BYTES_MAX => return Err(too_much()),
                "seller" if !value.is_empty() => request.seller = Some(value.to_string()),
                "state" => set(|request| &mut request.states, &mut request)?,
                "city" => set(|request| &mut request.cities, &mut request)?,
                "category" => set(|request| &mut request.categories, &mut request)?,
                "product" => set(|request| &mut request.products, &mut request)?,
                _ => {}
            }
        }
        request.grain = request.range.grain(grain);
        Ok(request)
    }
}

fn too_much() -> Error {
    Error::new(ErrorKind::Query, "too much to filter by")
        .with_hint(format!("a request may have {VALUES_MAX} values of at most {VALUE_BYTES_MAX} bytes each"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Request> {
        Request::read(url::form_urlencoded::parse(text.as_bytes()))
    }

    #[test]
    fn a_query_string_is_understood() {
        let request = read("range=7d&grain=hour&seller=S001&state=Goa&city=Pune&city=Delhi&product=A%26B&x=y").unwrap();
        assert_eq!((request.range, request.grain), (Range::Week, Grain::Hour));
        assert_eq!(request.seller.as_deref(), Some("S001"));
        assert_eq!((request.states.len(), request.cities.len()), (1, 2));
        assert!(request.products.contains("A&B") && request.categories.is_empty());
        assert_eq!(read("").unwrap(), Request::default());
        assert_eq!(read("seller=").unwrap().seller, None);
    }

    #[test]
    fn a_grain_that_a_range_has_not_is_its_usual_one() {
        assert_eq!(read("grain=minute&range=28d").unwrap().grain, Grain::Day);
        assert_eq!(read("range=today").unwrap().grain, Grain::Hour);
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let many = (0..=VALUES_MAX).map(|n| format!("city={n}")).collect::<Vec<_>>().join("&");
        let long = format!("product={}", "x".repeat(VALUE_BYTES_MAX + 1));
        for text in ["range=year", "grain=second", &many, &long, &long.replace("product", "seller")] {
            assert_eq!(read(text).unwrap_err().kind(), ErrorKind::Query, "{text}");
        }
    }
}
