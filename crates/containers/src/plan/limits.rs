//! `RLimitInfo` to the numbers of `setrlimit(2)` (`src/posix/rlimits.cpp`).

use super::PlanError;
use tepui_protocol::v1::{self, r_limit_info::r_limit::Type};

/// No limit, as the kernel writes it.
const INFINITY: u64 = u64::MAX;

/// One call of `setrlimit(2)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RLimit {
    /// The resource's number on Linux.
    pub resource: u8,
    /// Soft limit.
    pub soft: u64,
    /// Hard limit.
    pub hard: u64,
}

/// The limits asked for, in order. Neither value set means unlimited; one alone is an error.
pub fn rlimits(info: Option<&v1::RLimitInfo>) -> Result<Vec<RLimit>, PlanError> {
    info.map_or(&[][..], |i| &i.rlimits)
        .iter()
        .map(rlimit)
        .collect()
}

fn rlimit(limit: &v1::r_limit_info::RLimit) -> Result<RLimit, PlanError> {
    let kind = limit
        .r#type
        .and_then(|number| Type::try_from(number).ok())
        .unwrap_or(Type::Unknown);
    let resource = resource(kind).ok_or(PlanError::UnknownRLimit)?;
    match (limit.soft, limit.hard) {
        (Some(soft), Some(hard)) if soft <= hard => Ok(RLimit {
            resource,
            soft,
            hard,
        }),
        (None, None) => Ok(RLimit {
            resource,
            soft: INFINITY,
            hard: INFINITY,
        }),
        _ => Err(PlanError::InvalidRLimit),
    }
}

/// Numbers of `<asm-generic/resource.h>`; x86-64, arm64 and riscv64 all use them.
fn resource(kind: Type) -> Option<u8> {
    Some(match kind {
        Type::Unknown => return None,
        Type::RlmtCpu => 0,
        Type::RlmtFsize => 1,
        Type::RlmtData => 2,
        Type::RlmtStack => 3,
        Type::RlmtCore => 4,
        Type::RlmtRss => 5,
        Type::RlmtNproc => 6,
        Type::RlmtNofile => 7,
        Type::RlmtMemlock => 8,
        Type::RlmtAs => 9,
        Type::RlmtLocks => 10,
        Type::RlmtSigpending => 11,
        Type::RlmtMsgqueue => 12,
        Type::RlmtNice => 13,
        Type::RlmtRtprio => 14,
        Type::RlmtRttime => 15,
    })
}
