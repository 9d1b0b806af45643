//! Lists of offers.

use std::collections::BTreeSet;
use tepui_model::OfferId;

/// No offer is there twice.
pub(crate) fn distinct(ids: &[OfferId]) -> Result<(), String> {
    let mut seen = BTreeSet::new();
    match ids.iter().find(|id| !seen.insert(*id)) {
        Some(id) => Err(format!("Duplicate offer {id} in offer list")),
        None => Ok(()),
    }
}
